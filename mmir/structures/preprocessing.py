"""Normalize each modality of a packed batch on its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .paired import ABSENT, CHANNELS, MODALITIES, PairError, modality_order

_DEFAULT = 3
"""Channels of a modality of which neither the config nor a sample says how many."""


class ModalityNormalizer:
    """Mixin for a host's data preprocessor: color order and statistics per modality.

    The host's preprocessors take 1 or 3 channels for granted: others are refused, or
    lose the conversion to RGB without a word. With this class before the host's among
    the bases, each image is converted and normalized here, then the host pads, stacks
    and augments the batch as ever.

    The number of channels of a modality is that of the samples, as
    :class:`mmir.transforms.LoadPairedImages` loaded it, unless it is said here. Models
    whose layers depend on it (`mmir.EarlyFusion`, `mmir.SingleModality`, late fusion)
    are built before the first sample and take it from here: 3 unless said.

    Args:
        modalities (Mapping[str, Mapping]): Name -> `mean` and `std` (a number per
            channel or one for all, in gray values; neither: not normalized), `channels`
            (default: the length of `mean` or `std`, 3 with `bgr_to_rgb`, else that of
            the samples) and `bgr_to_rgb` (False).
        absent_value (float): What the channels of a modality that is absent hold after
            the normalization. 0 is the mean image.
        **kwargs: Arguments of the host's preprocessor other than its normalization.

    Raises:
        ValueError: No modality; lengths that do not fit; normalization given twice.
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
        means, stds, self._swaps, self.channels = zip(*rows, strict=True)
        # one value per modality where the number of channels is not known yet
        self._lengths = tuple(len(mean) for mean in means)
        for name, values in (('channel_mean', means), ('channel_std', stds)):
            flat = torch.tensor([v for row in values for v in row]).view(-1, 1, 1)
            self.register_buffer(name, flat, persistent=False)

    def fix_channels(self, given: Sequence[int] | None = None) -> dict[str, int]:
        """Settle the channels of all modalities, for a model that is built for them.

        Samples with other channels are refused from now on.

        Args:
            given (Sequence[int], optional): What the model is built for, in the order
                of `modalities`. Default: what was said to this class, else 3.

        Returns:
            dict[str, int]: Name -> number of channels, in the order of the input.

        Raises:
            ValueError: Others were said to this class.
        """
        if given is None:
            given = [count or _DEFAULT for count in self.channels]
        if not self._fits(given):
            raise ValueError(
                f'channels={tuple(given)}, but {type(self).__name__} is set up for '
                f'{self._layout()}'
            )
        self.channels = tuple(given)
        return dict(zip(self.modalities, self.channels, strict=True))

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalize, then let the host pad and stack.

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
        """Normalize one image (C, H, W)."""
        channels = self._channels_of(img, meta)
        if any(self._swaps):
            parts = zip(img.split(channels), self._swaps, strict=True)
            img = torch.cat([part.flip(0) if swap else part for part, swap in parts])
        mean = self._per_channel(self.channel_mean, channels)
        img = (img.float() - mean) / self._per_channel(self.channel_std, channels)
        absent = meta.get(ABSENT, ())
        if absent:
            for name, part in zip(self.modalities, img.split(channels), strict=True):
                if name in absent:
                    part.fill_(self.absent_value)
        return img

    def _per_channel(self, values: Tensor, channels: tuple[int, ...]) -> Tensor:
        """The mean or std (C, 1, 1) of images with these channels."""
        if channels == self._lengths:
            return values
        parts = zip(values.split(self._lengths), channels, strict=True)
        return torch.cat([part.expand(count, 1, 1) for part, count in parts])

    def _channels_of(self, img: Tensor, meta: Mapping) -> tuple[int, ...]:
        """Channels of the modalities of an image; refuses one that does not fit."""
        names = tuple(meta.get(MODALITIES, self.modalities))
        unsaid = [count or _DEFAULT for count in self.channels]
        channels = tuple(meta.get(CHANNELS, unsaid))
        if names != self.modalities or not self._fits(channels):
            raise PairError(
                f'{meta.get("img_path", "a sample")} was packed with modalities '
                f'{names} of {channels} channels, but {type(self).__name__} is set up '
                f'for {self._layout()}. Give the preprocessor the `modalities` and '
                '`channels` of mmir.LoadPairedImages'
            )
        if img.shape[0] != sum(channels):
            raise PairError(
                f'{meta.get("img_path", "an image")} has {img.shape[0]} channels, but '
                f'{type(self).__name__} is set up for {self.modalities} of {channels}'
            )
        return channels

    def _fits(self, channels: Sequence[int]) -> bool:
        """Tell whether channels are those said to this class, where they were."""
        return len(channels) == len(self.channels) and all(
            own in (None, count)
            for own, count in zip(self.channels, channels, strict=True)
        )

    def _layout(self) -> str:
        """Modalities and channels, for messages."""
        counts = ', '.join(str(count or 'any number') for count in self.channels)
        return f'{self.modalities} of ({counts})'


def _meta(sample: object) -> Mapping:
    """Metadata of a data sample, empty without one."""
    return getattr(sample, 'metainfo', {})


def _read(name: str, row: dict) -> tuple[list[float], list[float], bool, int | None]:
    """Read the settings of a modality.

    Returns:
        Mean and std, per channel or one value if their number is not said; whether to
        swap the colors; the number of channels, None if it is not said.
    """
    mean, std = row.pop('mean', None), row.pop('std', None)
    swap = row.pop('bgr_to_rgb', False)
    if (mean is None) != (std is None):
        raise ValueError(f'modality {name}: give both mean and std, or neither')
    mean, std = _numbers(mean, 0.0), _numbers(std, 1.0)
    longest = max(mean, std, key=len)
    said = len(longest) if len(longest) > 1 else _DEFAULT if swap else None
    count = row.pop('channels', said)
    if row:
        raise ValueError(f'modality {name}: unknown keys {sorted(row)}')
    for key, values in (('mean', mean), ('std', std)):
        if count is not None and len(values) not in (1, count):
            raise ValueError(
                f'modality {name}: {key} has {len(values)} values for {count} channels'
            )
    if swap and count != 3:
        raise ValueError(f'modality {name}: bgr_to_rgb needs 3 channels, not {count}')
    if min(std) <= 0:
        raise ValueError(f'modality {name}: std must be positive, got {std}')
    return _repeated(mean, count or 1), _repeated(std, count or 1), swap, count


def _numbers(value: float | Sequence[float] | None, default: float) -> list[float]:
    """A list of floats from a number, a sequence or nothing."""
    if value is None:
        return [default]
    values = value if isinstance(value, Sequence) else [value]
    return [float(number) for number in values]


def _repeated(values: list[float], count: int) -> list[float]:
    return values * count if len(values) == 1 else values
