"""Tensor names of YOLOv5 v6 in official files and in this project."""

from collections.abc import Iterator
from functools import cache

from mmir.det.yolov5.arch import get_arch

HEAD = 'model.24'
"""Official head, which holds the anchors."""

_UNITS = {
    'model.0': 'backbone.stem',
    'model.1': 'backbone.stage1.0',
    'model.3': 'backbone.stage2.0',
    'model.5': 'backbone.stage3.0',
    'model.7': 'backbone.stage4.0',
    'model.9.cv1': 'backbone.stage4.2.reduce_conv',
    'model.9.cv2': 'backbone.stage4.2.final_conv',
    'model.10': 'neck.reduce_layers.0',
    'model.14': 'neck.reduce_layers.1',
    'model.18': 'neck.downsamples.0',
    'model.21': 'neck.downsamples.1',
}
_BACKBONE_BLOCKS = {
    'model.2': 'backbone.stage1.1',
    'model.4': 'backbone.stage2.1',
    'model.6': 'backbone.stage3.1',
    'model.8': 'backbone.stage4.1',
}
_NECK_BLOCKS = {
    'model.13': 'neck.top_down_blocks.0',
    'model.17': 'neck.top_down_blocks.1',
    'model.20': 'neck.bottom_up_blocks.0',
    'model.23': 'neck.bottom_up_blocks.1',
}
_BLOCK_UNITS = {'cv1': 'main_conv', 'cv2': 'short_conv', 'cv3': 'final_conv'}
_TENSORS = (
    'conv.weight',
    'bn.weight',
    'bn.bias',
    'bn.running_mean',
    'bn.running_var',
    'bn.num_batches_tracked',
)


@cache
def name_table(arch: str) -> dict[str, str]:
    """Return the project names of all tensors of a size by their official names.

    The anchors are not included. Convolutions have batch norms of their own.

    Args:
        arch (str): Size, a key of `ARCHS`.

    Raises:
        ValueError: Unknown size.
    """
    table = {
        f'{official}.{tensor}': f'{project}.{tensor}'
        for official, project in _units(arch)
        for tensor in _TENSORS
    }
    for level in range(3):
        for tensor in ('weight', 'bias'):
            name = f'bbox_head.head_module.convs_pred.{level}.{tensor}'
            table[f'{HEAD}.m.{level}.{tensor}'] = name
    return table


def _units(arch: str) -> Iterator[tuple[str, str]]:
    """Yield official and project name of each convolution with batch norm."""
    spec = get_arch(arch)
    yield from _UNITS.items()
    depths = dict(zip(_BACKBONE_BLOCKS, spec.depths, strict=True))
    for official, project in (_BACKBONE_BLOCKS | _NECK_BLOCKS).items():
        for theirs, ours in _BLOCK_UNITS.items():
            yield f'{official}.{theirs}', f'{project}.{ours}'
        for k in range(depths.get(official, spec.depth)):
            for i in (1, 2):
                yield f'{official}.m.{k}.cv{i}', f'{project}.blocks.{k}.conv{i}'
