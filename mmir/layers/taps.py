"""`mmir.TransformerTaps`: feature maps of any block of a vision transformer."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mmir.adapters.block_maps import block_maps
from mmir.adapters.transformers import Transformer, the_transformer

OUTPUT_LAYERS = r'(ln|norm|fc_norm)\d*|channel_reduction'
"""Direct children of a backbone that only its own outputs pass through."""


@MODELS.register_module()
class TransformerTaps(BaseModule):
    """Backbone that returns feature maps of chosen blocks of a vision transformer.

    Works for every backbone with a vision transformer that `mmir.adapters` knows, plain
    or adapted: ViT, EVA-02, BEiT, MAE, ViTSAM and Swin of the hosts, and timm models
    through `mmpretrain.TIMMBackbone`. A neck for such maps needs no other change::

        backbone=dict(
            type='mmir.TransformerTaps',
            backbone=dict(type='mmir.ViTEVA02', arch='l', img_size=512),
            blocks=(7, 11, 15, 23), scales=(4, 2, 1, 0.5))

    The backbone runs once, and its own outputs are discarded. A map is the output of a
    block: class token and registers are dropped, the final norm is not applied.

    Parameters that no tap reads (blocks after the last tap, the final norms) get no
    gradient, which distributed training rejects. They are frozen. Methods that choose
    what trains afterwards, such as `adapt_` of the whole model with `norm='all'`, can
    unfreeze them; adapt the inner backbone instead:
    `backbone=dict(type='mmir.Adapted', ...)`.

    Args:
        backbone: Config of the backbone. Its checkpoints load by its own `init_cfg`; in
            this module its keys begin with `backbone.`.
        blocks: Indices of the blocks, from 0, counted over all stages.
        scales: Factor per map for bilinear resizing. Default: 1 for all.
        init_cfg: Initialization, see `mmengine.model.BaseModule`.

    Raises:
        ValueError: No or several vision transformers, no such block, or another number
            of scales than blocks.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        blocks: Sequence[int],
        scales: Sequence[float] | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.backbone = MODELS.build(dict(backbone))
        found = the_transformer(self.backbone, 'TransformerTaps')
        number = len(found.blocks)
        if not blocks or not all(0 <= index < number for index in blocks):
            raise ValueError(f'blocks={tuple(blocks)}: give some of 0 to {number - 1}')
        self.scales = tuple(scales or (1,) * len(blocks))
        if len(self.scales) != len(blocks):
            raise ValueError(f'{len(self.scales)} scales for {len(blocks)} blocks')
        names = tuple(found.blocks)
        self.taps = tuple(names[index] for index in blocks)
        self.found = found
        for parameter in _unread(self.backbone, found, names[max(blocks)]):
            parameter.requires_grad_(False)

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Number of channels of each map."""
        norm = self.found.pattern.norm
        norms = (self.backbone.get_submodule(f'{n}.{norm}') for n in self.taps)
        return tuple(norm.normalized_shape[0] for norm in norms)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature maps of an image.

        Args:
            x: Shape (N, channels, H, W), as the backbone takes it.

        Returns:
            Maps (N, C, h, w) in the order of `blocks`. With scale 1, (h, w) is the grid
            of the patches in the block.

        Raises:
            RuntimeError: The backbone does not run a tapped block, or drops tokens, as
                masked autoencoders in pretraining do.
        """
        with block_maps(self.backbone, self.found, self.taps) as maps:
            self.backbone(x)
        if missing := [name for name in self.taps if name not in maps]:
            raise RuntimeError(f'the backbone does not run {", ".join(missing)}')
        pairs = zip(self.taps, self.scales, strict=True)
        return tuple(_resized(maps[name], scale) for name, scale in pairs)


def _unread(
    backbone: nn.Module, found: Transformer, last: str
) -> Iterator[nn.Parameter]:
    """Yield the parameters that cannot change the output of block `last`.

    Within the child that holds the blocks, modules run in the order of registration.
    """
    base = backbone.get_submodule(found.name)
    holder, _, rest = last.removeprefix(f'{found.name}.').partition('.')
    reached = passed = False
    for key, parameter in base.get_submodule(holder).named_parameters():
        inside = key.startswith(f'{rest}.')
        reached, passed = reached or inside, reached and not inside
        if passed:
            yield parameter
    for name, child in base.named_children():
        if re.fullmatch(OUTPUT_LAYERS, name):
            yield from child.parameters()


def _resized(x: Tensor, scale: float) -> Tensor:
    """Resize a map (N, C, H, W) by a factor."""
    if scale == 1:
        return x
    return interpolate(x, scale_factor=scale, mode='bilinear', align_corners=False)
