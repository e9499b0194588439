"""`FDR`: fine-grained dependency reconstruction from slices of the map.

[1] "TOPLight: lightweight neural networks with task-oriented pretraining for
visible-infrared recognition", CVPR 2023, table 5.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmpretrain.models.utils import SELayer
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from mmir.layers.cbam import CBAM
from mmir.layers.shuffle_attention import ShuffleAttention
from mmir.registry import MODELS
from mmir.utils.errors import UserError

SLICES = ('rows', 'columns')

ATTENTIONS: dict[str | None, Callable[[int, int], nn.Module]] = {
    None: lambda channels, groups: nn.Identity(),
    'shuffle': lambda channels, groups: ShuffleAttention(channels, groups),
    'no_shuffle': lambda channels, groups: ShuffleAttention(channels, groups, False),
    'se': lambda channels, groups: SELayer(channels, ratio=16),
    'cbam': lambda channels, groups: CBAM(channels, ratio=16),
}
"""Attention over the channels of the rebuilt map; the paper compares them."""


@MODELS.register_module()
class FDR(BaseModule):
    """Fine-grained dependency reconstruction [1].

    The map is averaged in horizontal slices, which forgets where things are from left
    to right, and in vertical ones. Each set is up-sampled to a map and gets a 1x1
    convolution, norm and ReLU of its own. Both maps are concatenated, and shuffle
    attention relates their channels.

    From [1]: the slices, the two up-sampling layers, shuffle attention, and the
    ablations. Ours: one slice per row and column, bilinear up-sampling, and 3/4 of the
    channels for each set, which reproduces the FLOPs of MobileNetV3-L in [1].

    Args:
        in_channels (int): Channels C of the map.
        slices (Collection[str]): 'rows' and 'columns', one of them, or none: then the
            attention acts on the map as it is.
        stripes (Sequence[int], optional): Number of horizontal and of vertical slices.
            Default: one per row and column of the map.
        upsample (bool): False (an ablation of [1]) leaves slices as vectors: attention
            is on each set, and the result is their mean.
        attention (str, optional): 'shuffle', 'no_shuffle', 'se', 'cbam' or None.
        groups (int): Groups of shuffle attention.
        init_cfg (Mapping, optional): See mmengine's `BaseModule`.

    Attributes:
        out_channels (int): Channels of the result: 3C/4 for each set of slices, and C
            without slices.

    Raises:
        UserError: An argument has no such value, or the channels do not fit.
    """

    def __init__(
        self,
        in_channels: int,
        slices: Collection[str] = SLICES,
        stripes: Sequence[int] | None = None,
        upsample: bool = True,
        attention: str | None = 'shuffle',
        groups: int = 64,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        _check(in_channels, slices, stripes, attention)
        if not upsample and groups % max(1, len(slices)):
            raise UserError(
                f'groups={groups} must be a multiple of the {len(slices)} sets of '
                'slices, which have attention of their own with upsample=False'
            )
        self.slices = tuple(name for name in SLICES if name in slices)
        self.stripes, self.upsample = stripes, upsample
        width = 3 * in_channels // 4
        self.out_channels = len(self.slices) * width or in_channels
        norm, act = dict(type='BN'), dict(type='ReLU')
        self.convs = nn.ModuleDict(
            {
                name: ConvModule(in_channels, width, 1, norm_cfg=norm, act_cfg=act)
                for name in self.slices
            }
        )
        sets = 1 if upsample or not self.slices else len(self.slices)
        build = ATTENTIONS[attention]
        self.attentions = nn.ModuleList(
            build(self.out_channels // sets, groups // sets) for _ in range(sets)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Rebuild the map.

        Args:
            x (Tensor): Map (N, C, H, W).

        Returns:
            Tensor: Map (N, out_channels, H, W); without up-sampling, (N, out_channels,
            1, 1).
        """
        if not self.slices:
            return self.attentions[0](x)
        maps = [self._rebuilt(x, name) for name in self.slices]
        if self.upsample:
            return self.attentions[0](torch.cat(maps, 1))
        pairs = zip(self.attentions, maps, strict=True)
        vectors = [attend(part).mean((2, 3), keepdim=True) for attend, part in pairs]
        return torch.cat(vectors, 1)

    def _rebuilt(self, x: Tensor, name: str) -> Tensor:
        """Slices of one direction, up-sampled unless that is off."""
        rows, columns = self.stripes or x.shape[2:]
        parts = (rows, 1) if name == 'rows' else (1, columns)
        part = adaptive_avg_pool2d(x, parts)
        if self.upsample:
            part = interpolate(part, x.shape[2:], mode='bilinear', align_corners=False)
        return self.convs[name](part)


@MODELS.register_module()
class FDRNeck(BaseModule):
    """Neck of re-identification: :class:`FDR`, then pooling.

    Args:
        fdr (Mapping): Arguments of :class:`FDR`.
        pool (Mapping): Config of the pooling, such as mmpretrain's
            `GlobalAveragePooling`.
    """

    def __init__(self, fdr: Mapping[str, Any], pool: Mapping[str, Any]) -> None:
        super().__init__()
        self.fdr, self.pool = FDR(**fdr), MODELS.build(pool)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor]:
        """Rebuild and pool the last map.

        Args:
            maps (Sequence[Tensor]): Maps of the backbone; the last (N, C, H, W) counts.

        Returns:
            tuple[Tensor]: Feature (N, out_channels of FDR).
        """
        return (self.pool(self.fdr(maps[-1])),)


def _check(
    channels: int,
    slices: Collection[str],
    stripes: Sequence[int] | None,
    attention: str | None,
) -> None:
    """Refuse arguments without a meaning."""
    if isinstance(slices, str) or not {*slices} <= {*SLICES}:
        raise UserError(f'slices={slices!r}: choose from {[*SLICES]}, as a list')
    if attention not in ATTENTIONS:
        raise UserError(f'attention={attention!r}: choose one of {[*ATTENTIONS]}')
    if stripes is not None and (len(stripes) != 2 or min(stripes) < 1):
        raise UserError(f'stripes={stripes}: give two numbers, of rows and columns')
    if channels % 4:
        raise UserError(f'in_channels={channels}: FDR takes 3/4 of them, so 4 | C')
