"""Stages of convolutional backbones, and the norms where channels are exchanged."""

import re
from collections.abc import Callable, Mapping

from torch import nn

Middle = Callable[[nn.Module], str]


def _inverted_residual(block: nn.Module) -> str:
    """Norm of the depthwise convolution; the last norm ends the residual branch."""
    if hasattr(block, 'depthwise_conv'):  # MobileNetV3
        return 'depthwise_conv.bn'
    return f'conv.{len(block.conv) - 2}.bn'  # MobileNetV2


# Class of a block -> its norm before the last convolution. Never the last one: hosts
# initialize its scale with zeros, so every channel would be exchanged. Hence the first
# of the two in a BasicBlock.
MIDDLE_NORMS: Mapping[str, Middle] = {
    'Bottleneck': lambda block: block.norm2_name,
    'BasicBlock': lambda block: block.norm1_name,
    'InvertedResidual': _inverted_residual,
    'InvertedResidualV3': _inverted_residual,
    'ConvNeXtBlock': lambda _: 'norm',
    'DarknetBottleneck': lambda _: 'conv1.bn',
    'CSPNeXtBlock': lambda _: 'conv1.bn',
    'ELAN': lambda block: f'blocks.{len(block.blocks) - 1}.bn',  # YOLOv7
}


def find_stages(backbone: nn.Module) -> list[str]:
    """Names of the stages of a backbone, in the order in which they run.

    Those whose output the backbone returns, if it says which (`out_indices`).

    Args:
        backbone: ResNet and relatives, HRNet, MobileNet, ConvNeXt or CSPDarknet of any
            host, or a YOLO backbone of `mmir`.

    Raises:
        ValueError: Unknown structure.
    """
    if hasattr(backbone, 'stage4') and hasattr(backbone, 'layer1'):  # HRNet
        return ['layer1', 'stage2', 'stage3', 'stage4']
    for attribute in ('res_layers', 'layers'):
        names = getattr(backbone, attribute, None)
        if isinstance(names, (list, tuple)) and names and isinstance(names[0], str):
            return [names[k] for k in _outputs(backbone, len(names))]
    if hasattr(backbone, 'stage1') and hasattr(backbone, 'stage4'):  # YOLOv5, YOLOv7
        return [f'stage{k}' for k in sorted(backbone.out_indices)]
    if isinstance(getattr(backbone, 'stages', None), nn.ModuleList):
        kept = _outputs(backbone, len(backbone.stages))
        return [f'stages.{k}' for k in kept]
    raise ValueError(
        f'the stages of {type(backbone).__name__} are not known: exchange needs a '
        'backbone with `res_layers`, `layers` or `stages`'
    )


def _outputs(backbone: nn.Module, count: int) -> list[int]:
    indices = getattr(backbone, 'out_indices', None)
    if indices is None:
        return [*range(count)]
    listed = [indices] if isinstance(indices, int) else indices
    return sorted(index % count for index in listed)


def exchange_norms(
    backbone: nn.Module, stages: list[str], pattern: str | None = None
) -> dict[str, int]:
    """Find the norms after which channels are exchanged.

    Args:
        backbone: The backbone.
        stages: Names of its stages.
        pattern: Regular expression that names of norms match in full. Default: the norm
            before the last convolution of each block, for blocks in `MIDDLE_NORMS`.

    Returns:
        Name of a norm -> index of the first stage whose output it can change.

    Raises:
        ValueError: None was found.
    """
    order = {name: k for k, (name, _) in enumerate(backbone.named_modules())}
    ends = [max(k for n, k in order.items() if _inside(n, stage)) for stage in stages]
    if pattern is None:
        names = [
            f'{name}.{MIDDLE_NORMS[type(block).__name__](block)}'
            for name, block in backbone.named_modules()
            if type(block).__name__ in MIDDLE_NORMS
        ]
    else:
        names = [name for name in order if re.fullmatch(pattern, name)]
    found = {
        name: next(s for s, end in enumerate(ends) if order[name] <= end)
        for name in names
        if order[name] <= ends[-1]
    }
    if not found:
        raise ValueError(
            f'no norms to exchange channels after in {type(backbone).__name__}'
            + (f' match {pattern!r}' if pattern else ": name them with norms='...'")
        )
    return found


def _inside(name: str, stage: str) -> bool:
    return name == stage or name.startswith(f'{stage}.')
