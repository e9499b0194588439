"""Where the parts of a vision transformer are, in each family of backbones."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

Grid = tuple[int, int]
"""Rows and columns of patches."""


@dataclass(frozen=True)
class Pattern:
    """Names of the parts of a pre-norm vision transformer, within the backbone.

    Attributes:
        blocks: Regular expression for the names of the blocks. A group, if there is
            one, is the index of the stage.
        norm: Name of the second norm of a block, between attention and MLP.
        mlp: Name of the MLP of a block.
        embed: Name of the patch embedding.
    """

    blocks: str
    norm: str
    mlp: str
    embed: str = 'patch_embed'


PATTERNS = {
    'ViT, BEiT, MAE and ViTDet of mmpretrain': Pattern(r'layers\.\d+', 'ln2', 'ffn'),
    'EVA-02 of mmpretrain': Pattern(r'layers\.\d+', 'norm2', 'mlp'),
    'Swin of mmpretrain, mmdet and mmseg': Pattern(
        r'stages\.(\d+)\.blocks\.\d+', 'norm2', 'ffn'
    ),
    'ViT, EVA-02 and BEiT of timm': Pattern(r'blocks\.\d+', 'norm2', 'mlp'),
    'Swin of timm': Pattern(r'layers\.(\d+)\.blocks\.\d+', 'norm2', 'mlp'),
}
"""All patterns. To support another backbone, add one."""


@dataclass(frozen=True)
class Transformer:
    """A vision transformer that was found in a model.

    Attributes:
        name: Name of the backbone in the model; '' for the model itself.
        family: Key of `PATTERNS`.
        embed: Name of the patch embedding in the model.
        blocks: Names of the blocks in the model, in order -> index of their stage.
    """

    name: str
    family: str
    embed: str
    blocks: dict[str, int]

    @property
    def pattern(self) -> Pattern:
        """Names of the parts within a block."""
        return PATTERNS[self.family]

    @property
    def pyramid(self) -> bool:
        """Whether the resolution changes from stage to stage, as in Swin."""
        return max(self.blocks.values()) > 0


def find_transformers(model: nn.Module) -> list[Transformer]:
    """Find the vision transformers in a model, by the names of their parts.

    Args:
        model: A model of any host, or a backbone.

    Returns:
        The transformers in the order of the model; an empty list if there are none.
    """
    return [
        found for name, module in model.named_modules() for found in _at(name, module)
    ]


POST_NORM = 'SwinBlockV2', 'SwinTransformerV2Block', 'EvaBlockPostNorm', 'ResPostBlock'
"""Blocks of a known form that norm after the attention: their `norm` reads no sum."""


def _at(name: str, module: nn.Module) -> Iterator[Transformer]:
    """Yield the transformer of which `module` is the backbone, if it is one."""
    for family, pattern in PATTERNS.items():
        if not isinstance(getattr(module, pattern.embed, None), nn.Module):
            continue
        prefix, blocks = f'{name}.' if name else '', {}
        for key, block in module.named_modules():
            match = re.fullmatch(pattern.blocks, key)
            if not match or type(block).__name__ in POST_NORM:
                continue
            if {pattern.norm, pattern.mlp} <= {k for k, _ in block.named_children()}:
                blocks[prefix + key] = int((match.groups() or (0,))[0])
        if blocks:
            yield Transformer(name, family, prefix + pattern.embed, blocks)
            return


def the_transformer(model: nn.Module, method: str) -> Transformer:
    """Find the only vision transformer of a model.

    Raises:
        ValueError: There is none, or several.
    """
    found = find_transformers(model)
    if not found:
        raise ValueError(
            f'{method}: {type(model).__name__} has no vision '
            f'transformer of a known form: {", ".join(PATTERNS)}'
        )
    if len(found) > 1:
        raise ValueError(
            f'{method}: {type(model).__name__} has several vision transformers '
            f'({", ".join(t.name for t in found)}): take one; adapt it with '
            "backbone=dict(type='mmir.Adapted', ...)"
        )
    return found[0]


def grid_given(inputs: Iterable[Any]) -> Grid | None:
    """Grid of the patches, if a block was given it, as in EVA-02 and Swin.

    Args:
        inputs: Arguments of the block's `forward` after the tokens.
    """
    pairs = (v for v in inputs if isinstance(v, tuple) and len(v) == 2)
    # sizes are 0-dimensional tensors while a model is traced
    return next((v for v in pairs if not any(getattr(n, 'ndim', 0) for n in v)), None)


def grid_of_embedding(module: nn.Module, image: Tensor, out: Any) -> Grid:
    """Grid of the patches, from the output of a patch embedding.

    Args:
        module: The patch embedding.
        image: Its input, shape (N, C, H, W).
        out: Its output: tokens and grid (mmpretrain, mmdet, mmseg), a map (N, h, w, D),
            or tokens alone (timm).
    """
    if isinstance(out, tuple):
        return tuple(out[1])
    if out.ndim == 4:
        return tuple(out.shape[1:3])
    return module.dynamic_feat_size(tuple(image.shape[2:]))
