"""Exchange of channels and of columns between the feature maps of modalities.

[1] Y. Wang, W. Huang, F. Sun, T. Xu, Y. Rong and J. Huang, "Deep multimodal fusion by
channel exchanging", NeurIPS 2020.
[2] A. Sikdar, J. Teotia and S. Sundaram, "Contrastive learning-based spectral
knowledge distillation for multi-modality and missing modality scenarios in semantic
segmentation", arXiv 2312.02240, 2023.
[3] S. Fang, K. Li and Z. Li, "Changer: feature interaction is what you need for change
detection", IEEE TGRS 2023.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

Mode = Literal['threshold', 'quantile', 'compare']
Partition = Literal['disjoint', 'all']


@MODELS.register_module()
class ChannelExchange(nn.Module):
    """Channels that matter little to a modality are replaced by those of the others.

    A channel c of modality m is replaced by the mean over the other modalities of the
    same sample if the scale of its norm is small [1, section 3.3]. The paper [2] does
    so without the sparsity constraint of [1], and each modality gives up channels in a
    slice of its own. It has no parameters.

    Args:
        mode: Which scales are small.

            - 'threshold': absolute value below `threshold`.
            - 'quantile': the fraction `quantile` of the lowest, rounded down.
            - 'compare': below the mean of the other modalities.
        threshold: For the mode 'threshold'. That of [1] is 0.02; [2] states none.
            Scales start at one, so without sparsity hardly any channel falls below it:
            watch :class:`mmir.engine.ExchangeRatioHook`.
        quantile: For the mode 'quantile'.
        partition: Channels a modality may give up. 'disjoint': the m-th of M equal
            slices [2]. 'all': any.
        sparsity: Factor of the L1 penalty on the scales of these channels; 2e-4 in [1],
            none in [2]. A model that has the layer adds it to its loss.

    Raises:
        ValueError: An option has an unknown value or is out of its range.
    """

    def __init__(
        self,
        mode: Mode = 'threshold',
        threshold: float = 0.02,
        quantile: float = 0.1,
        partition: Partition = 'disjoint',
        sparsity: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value, known in (
            ('mode', mode, get_args(Mode)),
            ('partition', partition, get_args(Partition)),
        ):
            if value not in known:
                raise ValueError(f'{name} must be one of {known}, got {value!r}')
        if threshold < 0 or not 0 <= quantile <= 1 or sparsity < 0:
            raise ValueError(
                'threshold and sparsity must not be negative and quantile in [0, 1], '
                f'got {threshold}, {sparsity}, {quantile}'
            )
        self.mode, self.partition = mode, partition
        self.threshold, self.quantile, self.sparsity = threshold, quantile, sparsity

    def extra_repr(self) -> str:
        """Options that matter, for the printed model."""
        value = dict(threshold=self.threshold, quantile=self.quantile).get(self.mode)
        number = '' if value is None else f', {self.mode}={value}'
        return f'mode={self.mode!r}, partition={self.partition!r}{number}'

    def slices(self, channels: int, modalities: int) -> list[slice]:
        """Channels that each modality may give up.

        Args:
            channels: Number of channels C.
            modalities: Number of modalities M.
        """
        if self.partition == 'all':
            return [slice(0, channels)] * modalities
        edges = [m * channels // modalities for m in range(modalities + 1)]
        return [slice(*edge) for edge in pairwise(edges)]

    @torch.no_grad()
    def masks(self, scales: Sequence[Tensor]) -> list[Tensor]:
        """Tell which channels of each modality are replaced.

        Args:
            scales: Per modality the scale (C,) of its norm.

        Returns:
            Per modality a mask (C,).
        """
        sizes = [scale.abs() for scale in scales]
        masks = []
        for m, own in enumerate(self.slices(len(sizes[0]), len(sizes))):
            small = self._small(sizes, m, own)
            mask = torch.zeros_like(sizes[m], dtype=torch.bool)
            mask[own] = small
            masks.append(mask)
        return masks

    def _small(self, sizes: list[Tensor], m: int, own: slice) -> Tensor:
        """Which scales in the slice of modality m are small."""
        size = sizes[m][own]
        if self.mode == 'threshold':
            return size < self.threshold
        if self.mode == 'quantile':
            count = int(self.quantile * len(size))
            small = torch.zeros_like(size, dtype=torch.bool)
            small[size.argsort(stable=True)[:count]] = True
            return small
        others = [x[own] for k, x in enumerate(sizes) if k != m]
        return size < torch.stack(others).mean(0)

    def penalty(self, scales: Sequence[Tensor]) -> Tensor:
        """Sum of the absolute scales that may be exchanged [1, equation 3]."""
        slices = self.slices(len(scales[0]), len(scales))
        parts = zip(scales, slices, strict=True)
        return torch.stack([scale[own].abs().sum() for scale, own in parts]).sum()

    def forward(
        self, maps: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Replace channels.

        Args:
            maps: Modality -> normalized map of the same samples, at least two.
            masks: Modality -> mask of the channels, broadcastable to its map.

        Returns:
            Modality -> map.
        """
        return {
            name: torch.where(
                masks[name], _mean([y for other, y in maps.items() if other != name]), x
            )
            for name, x in maps.items()
        }


@MODELS.register_module()
class SpatialExchange(nn.Module):
    """Every `period`-th column is replaced by that of the next modality [2, 3].

    With two modalities this is a swap. With more, each takes the columns of the next
    one that is present, the last those of the first. It has no parameters.

    Args:
        period: A column is exchanged if its index is a multiple. 2 in [3].
        receivers: Modalities that get columns of others. Default: all. `('rgb',)` is
            the direction of the arrows in the figure of [2].

    Raises:
        ValueError: `period` below 1.
    """

    def __init__(self, period: int = 2, receivers: Sequence[str] | None = None) -> None:
        super().__init__()
        if period < 1 or period != int(period):
            raise ValueError(f'period must be a positive integer, got {period}')
        self.period, self.receivers = int(period), receivers and tuple(receivers)

    def extra_repr(self) -> str:
        """Options, for the printed model."""
        return f'period={self.period}, receivers={self.receivers}'

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Exchange columns.

        Args:
            maps: Modality -> map (N, C, H, W) of the same samples.

        Returns:
            Modality -> map.
        """
        names, outs = [*maps], dict(maps)
        for name, source in zip(names, [*names[1:], names[0]], strict=True):
            if len(names) > 1 and (self.receivers is None or name in self.receivers):
                outs[name] = maps[name].clone()
                outs[name][..., :: self.period] = maps[source][..., :: self.period]
        return outs


def _mean(maps: list[Tensor]) -> Tensor:
    total = sum(maps[1:], start=maps[0])
    return total if len(maps) == 1 else total / len(maps)
