"""Shrink the vision transformer of a config, and what is connected to it."""

from collections.abc import Iterator
from typing import Any

_WIDTHS = {
    **dict.fromkeys(('s', 'small', 'deit-s', 'deit-small'), (384, 12)),
    **dict.fromkeys(('b', 'base', 'deit-b', 'deit-base'), (768, 12)),
    **dict.fromkeys(('l', 'large'), (1024, 24)),
}
"""Width and number of blocks by the name of the architecture in mmpretrain."""

_PLAIN = 'VisionTransformer', 'ViTEVA02', 'ViTSAM'
_SWIN = 'SwinTransformer'

WIDTH = 32
"""Width of the small network; of Swin, that of its first stage."""

HEAD_FACTOR = 8
"""Widths of mmseg heads are divided by this."""

_DINO = dict(encoder=1, decoder=2)  # layers


def shrink_transformer_(model: dict) -> bool:
    """Make the vision transformer of a model config narrow, in place.

    The number of blocks stays the same in a ViT, since configs refer to them by index;
    each stage of a Swin keeps two blocks. Input channels of necks and heads follow,
    segmentation heads become narrower, and DINO gets fewer layers and queries.
    Checkpoints of the backbone no longer fit and are removed.

    Args:
        model (dict): Config of a model of any host.

    Returns:
        bool: Whether there was a transformer to shrink.
    """
    widths: dict[int, int] = {}
    for node in dicts(model):
        kind = str(node.get('target', node.get('type', ''))).rpartition('.')[2]
        if kind in _PLAIN and node.get('arch') in _WIDTHS:
            widths |= _shrink_vit_(node)
        elif kind == _SWIN and 'depths' in node:
            widths |= _shrink_swin_(node)
        else:
            continue
        node['init_cfg'] = None
    if not widths:
        return False
    for node in dicts(model):
        if 'in_channels' in node:
            node['in_channels'] = followed(node['in_channels'], widths)
    for name in ('decode_head', 'auxiliary_head'):
        for head in dicts(model.get(name)):
            if 'channels' in head:
                head['channels'] = max(8, head['channels'] // HEAD_FACTOR)
    for name, layers in _DINO.items():
        if 'num_layers' in (model.get(name) or ()):
            model[name]['num_layers'] = layers
            model[name]['layer_cfg']['ffn_cfg']['feedforward_channels'] = 2 * WIDTH
            model['num_queries'] = 100
    return True


def _shrink_vit_(node: dict) -> dict[int, int]:
    """Shrink a ViT of mmpretrain; returns the former width and the new one."""
    width, blocks = _WIDTHS[node['arch']]
    node['arch'] = dict(
        embed_dims=WIDTH,
        num_layers=blocks,
        num_heads=2,
        feedforward_channels=2 * WIDTH,
        global_attn_indexes=[*range(blocks // 4 - 1, blocks, blocks // 4)],
    )
    return {width: WIDTH}


def _shrink_swin_(node: dict) -> dict[int, int]:
    """Shrink a Swin of mmdet or mmseg; returns the former widths and the new ones."""
    width, stages = node['embed_dims'], len(node['depths'])
    node.update(
        embed_dims=WIDTH,
        depths=[2] * stages,
        num_heads=[2 * 2**stage for stage in range(stages)],
        window_size=4,
    )
    return {width * 2**stage: WIDTH * 2**stage for stage in range(stages)}


def followed(channels: Any, widths: dict[int, int]) -> Any:
    """Replace the former widths in a number of channels, or in a list of them."""
    if isinstance(channels, list | tuple):
        return type(channels)(widths.get(c, c) for c in channels)
    return widths.get(channels, channels)


def dicts(node: object) -> Iterator[dict]:
    """Yield all dictionaries of a config, outer ones first."""
    if isinstance(node, dict):
        yield node
    children = node.values() if isinstance(node, dict) else node
    if isinstance(node, dict | list | tuple):
        for child in children:
            yield from dicts(child)
