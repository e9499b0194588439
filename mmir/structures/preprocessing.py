"""Per-modality normalization of packed batches."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .paired import ABSENT, CHANNELS, MODALITIES, PairError, modality_order

_DEFAULT = 3
"""Channels of a modality if neither the config nor a sample specifies them."""


class ModalityNormalizer:
    """Mixin for a host's data preprocessor: color order and statistics per modality.

    The hosts' preprocessors assume 1 or 3 channels: others are refused, or silently
    skip the conversion to RGB. List this class before the host's in the bases: it
    converts and normalizes each image, then the host pads, stacks and augments the
    batch as usual.

    The number of channels of a modality is that of the samples, as loaded by
    :class:`mmir.transforms.LoadPairedImages`, unless it is set here. Models whose
    layers depend on it (`mmir.EarlyFusion`, `mmir.SingleModality`, late fusion) are
    built before the first sample and take it from here; it is 3 unless set.

    Args:
        modalities (Mapping[str, Mapping]): Name -> settings, all optional:

            - `mean` and `std`: one number per channel or one for all, in pixel values.
              Without them the modality is not normalized.
            - `channels`: default is the length of `mean` or `std`, 3 with
              `bgr_to_rgb`, else the number in the samples.
            - `bgr_to_rgb`: default False.
        absent_value (float): Value of the channels of an absent modality after
            normalization. 0 is the mean image.
        **kwargs: Arguments of the host's preprocessor except its normalization.

    Raises:
        ValueError: There is no modality, lengths do not match, or the normalization is
            given twice.
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
            raise ValueError(f'set {sorted(twice)} per modality, in modalities')
        super().__init__(**kwargs)
        self.modalities = modality_order(modalities)
        self.absent_value = absent_value
        rows = [_read(name, dict(modalities[name])) for name in self.modalities]
        means, stds, self._swaps, self.channels = zip(*rows, strict=True)
        # one value per modality whose number of channels is not known yet
        self._lengths = tuple(len(mean) for mean in means)
        for name, values in (('channel_mean', means), ('channel_std', stds)):
            flat = torch.tensor([v for row in values for v in row]).view(-1, 1, 1)
            self.register_buffer(name, flat, persistent=False)

    def fix_channels(self, given: Sequence[int] | None = None) -> dict[str, int]:
        """Fix the channels of all modalities, for a model that depends on them.

        Samples with other channels are refused afterward.

        Args:
            given (Sequence[int], optional): Channels the model is built for, in the
                order of `modalities`. Default: those configured here, else 3.

        Returns:
            dict[str, int]: Name -> number of channels, in input order.

        Raises:
            ValueError: They contradict those configured here.
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
        """Normalize each modality, then let the host pad and stack.

        Args:
            data (dict): `inputs`, a list of (C, H, W) tensors or one (B, C, H, W)
                tensor, and optionally `data_samples`.
            training (bool): Passed on to the host.

        Returns:
            dict: `inputs` (B, C, H, W) float32 and `data_samples`.

        Raises:
            PairError: A sample differs in modalities or channels.
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
        """Get the mean or std (C, 1, 1) for images with these channels."""
        if channels == self._lengths:
            return values
        parts = zip(values.split(self._lengths), channels, strict=True)
        return torch.cat([part.expand(count, 1, 1) for part, count in parts])

    def _channels_of(self, img: Tensor, meta: Mapping) -> tuple[int, ...]:
        """Get the channels of the modalities of an image; refuse a mismatch."""
        names = tuple(meta.get(MODALITIES, self.modalities))
        unsaid = [count or _DEFAULT for count in self.channels]
        channels = tuple(meta.get(CHANNELS, unsaid))
        if names != self.modalities or not self._fits(channels):
            raise PairError(
                f'{meta.get("img_path", "a sample")} was packed with modalities '
                f'{names} of {channels} channels, but {type(self).__name__} is set up '
                f'for {self._layout()}. Set the same `modalities` and `channels` in '
                'the preprocessor as in mmir.LoadPairedImages'
            )
        if img.shape[0] != sum(channels):
            raise PairError(
                f'{meta.get("img_path", "an image")} has {img.shape[0]} channels, but '
                f'{type(self).__name__} is set up for {self.modalities} of {channels}'
            )
        return channels

    def _fits(self, channels: Sequence[int]) -> bool:
        """Tell whether channels match those configured here, if any."""
        return len(channels) == len(self.channels) and all(
            own in (None, count)
            for own, count in zip(self.channels, channels, strict=True)
        )

    def _layout(self) -> str:
        """Modalities and channels, for messages."""
        counts = ', '.join(str(count or 'any number') for count in self.channels)
        return f'{self.modalities} of ({counts})'


def _meta(sample: object) -> Mapping:
    """Metainfo of a data sample; empty without a sample."""
    return getattr(sample, 'metainfo', {})


def _read(name: str, row: dict) -> tuple[list[float], list[float], bool, int | None]:
    """Read the settings of a modality.

    Returns:
        Mean and std (per channel, or one value if the number of channels is not set);
        whether to swap the colors; the number of channels, None if not set.
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
    """Convert a number, a sequence or None to a list of floats."""
    if value is None:
        return [default]
    values = value if isinstance(value, Sequence) else [value]
    return [float(number) for number in values]


def _repeated(values: list[float], count: int) -> list[float]:
    return values * count if len(values) == 1 else values
