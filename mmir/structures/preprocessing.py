"""Normalise each modality of a packed batch on its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .paired import ABSENT, CHANNELS, MODALITIES, PairError, modality_order


class ModalityNormalizer:
    """Mixin for a host's data preprocessor: colour order and statistics a modality.

    The host's preprocessors take 1 or 3 channels for granted: others are refused, or
    lose the conversion to RGB without a word. With this class before the host's among
    the bases, each image is converted and normalised here, then the host pads, stacks
    and augments the batch as ever.

    Args:
        modalities (Mapping[str, Mapping]): Name -> `mean` and `std` (a number a channel
            or one for all, in grey values; neither: not normalised), `channels` (3
            unless `mean` has another length) and `bgr_to_rgb` (False).
        absent_value (float): What the channels of a modality that is absent hold after
            the normalisation. 0 is the mean image.
        **kwargs: Arguments of the host's preprocessor other than its normalisation.

    Raises:
        ValueError: No modality; lengths that do not fit; normalisation given twice.
    """

    def __init__(
        self,
        modalities: Mapping[str, Mapping],
        absent_value: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if not modalities:
            raise ValueError('modalities must name at least one modality')
        twice = {'mean', 'std', 'bgr_to_rgb', 'rgb_to_bgr', 'to_rgb'} & kwargs.keys()
        if twice:
            raise ValueError(f'give {sorted(twice)} for each modality in modalities')
        super().__init__(**kwargs)
        self.modalities = modality_order(modalities)
        self.absent_value = absent_value
        rows = [_read(name, dict(modalities[name])) for name in self.modalities]
        self.channels = tuple(len(mean) for mean, _, _ in rows)
        starts = [sum(self.channels[:k]) for k in range(len(rows))]
        order = [
            start + (channel if not swap else len(mean) - 1 - channel)
            for (mean, _, swap), start in zip(rows, starts, strict=True)
            for channel in range(len(mean))
        ]
        self._swaps = order != sorted(order)
        tensors = {
            'channel_order': torch.tensor(order),
            'channel_mean': torch.tensor([v for mean, _, _ in rows for v in mean]),
            'channel_std': torch.tensor([v for _, std, _ in rows for v in std]),
        }
        for name, tensor in tensors.items():
            shaped = tensor if name == 'channel_order' else tensor.view(-1, 1, 1)
            self.register_buffer(name, shaped, persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise, then let the host pad and stack.

        Args:
            data (dict): `inputs`, a list of (C, H, W) tensors or one (B, C, H, W)
                tensor, and optionally `data_samples`.
            training (bool): Passed to the host.

        Returns:
            dict: `inputs` (B, C, H, W) float32 and `data_samples`.

        Raises:
            PairError: A sample has other modalities or channels than this class.
        """
        data = dict(self.cast_data(data))
        inputs, samples = data['inputs'], data.get('data_samples')
        metas = [_meta(sample) for sample in samples or [None] * len(inputs)]
        normal = [self._normalize(x, m) for x, m in zip(inputs, metas, strict=True)]
        data['inputs'] = torch.stack(normal) if torch.is_tensor(inputs) else normal
        return super().forward(data, training)

    def _normalize(self, img: Tensor, meta: Mapping) -> Tensor:
        """Normalise one image (C, H, W)."""
        self._check(img, meta)
        if self._swaps:
            img = img[self.channel_order]
        img = (img.float() - self.channel_mean) / self.channel_std
        absent = meta.get(ABSENT, ())
        if absent:
            for name, part in zip(
                self.modalities, img.split(self.channels), strict=True
            ):
                if name in absent:
                    part.fill_(self.absent_value)
        return img

    def _check(self, img: Tensor, meta: Mapping) -> None:
        """Refuse an image of other modalities."""
        names = tuple(meta.get(MODALITIES, self.modalities))
        channels = tuple(meta.get(CHANNELS, self.channels))
        if names != self.modalities or channels != self.channels:
            raise PairError(
                f'{meta.get("img_path", "a sample")} was packed with modalities '
                f'{names} of {channels} channels, but {type(self).__name__} is set up '
                f'for {self.modalities} of {self.channels}'
            )
        if img.shape[0] != sum(self.channels):
            raise PairError(
                f'{meta.get("img_path", "an image")} has {img.shape[0]} channels, but '
                f'{type(self).__name__} is set up for {self.modalities} of '
                f'{self.channels}'
            )


def _meta(sample: object) -> Mapping:
    """Metadata of a data sample, empty without one."""
    return getattr(sample, 'metainfo', {})


def _read(name: str, row: dict) -> tuple[list[float], list[float], bool]:
    """Read the settings of a modality: mean and std a channel, whether to swap."""
    mean, std = row.pop('mean', None), row.pop('std', None)
    swap = row.pop('bgr_to_rgb', False)
    if (mean is None) != (std is None):
        raise ValueError(f'modality {name}: give both mean and std, or neither')
    mean, std = _numbers(mean, 0.0), _numbers(std, 1.0)
    count = row.pop('channels', len(mean) if len(mean) > 1 else 3)
    if row:
        raise ValueError(f'modality {name}: unknown keys {sorted(row)}')
    for key, values in (('mean', mean), ('std', std)):
        if len(values) not in (1, count):
            raise ValueError(
                f'modality {name}: {key} has {len(values)} values for {count} channels'
            )
    if swap and count != 3:
        raise ValueError(f'modality {name}: bgr_to_rgb needs 3 channels, not {count}')
    if min(std) <= 0:
        raise ValueError(f'modality {name}: std must be positive, got {std}')
    return _repeated(mean, count), _repeated(std, count), swap


def _numbers(value: float | Sequence[float] | None, default: float) -> list[float]:
    """A list of floats from a number, a sequence or nothing."""
    if value is None:
        return [default]
    values = value if isinstance(value, Sequence) else [value]
    return [float(number) for number in values]


def _repeated(values: list[float], count: int) -> list[float]:
    return values * count if len(values) == 1 else values
