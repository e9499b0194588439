"""Conversion of YOLOv5 v6 checkpoints, with batch norms or with these folded."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mmir.det.yolo.families import YOLOV5, refuse_others
from mmir.det.yolo.head_module import YOLOHeadModule
from mmir.det.yolo.layers import NORM
from mmir.det.yolo.released import (
    ANCHORS_KEY,
    STRIDES,
    Converted,
    fault_text,
    first_names,
    misshapen,
    read_converted,
    single,
    write_converted,
)
from mmir.det.yolov5.arch import ANCHORS, ARCHS, get_arch
from mmir.det.yolov5.backbone import YOLOv5Backbone
from mmir.det.yolov5.convert_names import HEAD, name_table
from mmir.det.yolov5.neck import YOLOv5Neck

_ANCHORS = f'{HEAD}.anchors'
_STEM = 'model.0.conv.weight'
_BIAS = '.conv.bias'


def convert(state_dict: Mapping[str, Tensor], arch: str = 'auto') -> Converted:
    """Convert a state dict with the names of the official YOLOv5 v6.

    A convolution with a bias has its batch norm folded. It gets a batch norm that is
    the identity plus that bias in evaluation mode. Such a network must not be trained
    as it is: see `mmir.det.yolo.norms.measure_norms_`.

    Args:
        state_dict (Mapping[str, Tensor]): Official state dict. Without anchors, those
            of the released models are filled in.
        arch (str): Size, or `'auto'` to choose it from width and depth.

    Returns:
        Converted: All tensors of the source; none of the model is missing.

    Raises:
        ValueError: Unknown size; another network; tensors that are missing, unexpected
            or of another shape, all named.
    """
    refuse_others(state_dict, YOLOV5)
    if _STEM not in state_dict:
        _refuse_names(state_dict)
    state = {key: single(value) for key, value in state_dict.items()}
    anchors = state.pop(_ANCHORS, None)
    arch = _size_of(state) if arch == 'auto' else arch
    table = name_table(arch)
    norms = 'identity' if any(k.endswith(_BIAS) for k in state) else 'own'
    state = _with_norms(state)
    missing = [key for key in table if key not in state]
    foreign = sorted(state.keys() - table.keys())
    _refuse(dict(missing=missing, foreign=foreign), arch)
    found = {project: state[official] for official, project in table.items()}
    classes = max(1, len(state[f'{HEAD}.m.0.bias']) // 3 - 5)
    with torch.device('meta'):
        parts = {
            'backbone': YOLOv5Backbone(arch),
            'neck': YOLOv5Neck(arch),
            'bbox_head.head_module': YOLOHeadModule(
                classes, get_arch(arch).out, implicit=False
            ),
        }
    _refuse(dict(misshapen=misshapen(found, parts)), arch)
    found[ANCHORS_KEY] = _pixels(anchors)
    return Converted(found, 'official', arch, classes, anchors is not None, norms)


def export_names(state_dict: Mapping[str, Tensor], arch: str) -> dict[str, Tensor]:
    """Convert a dense state dict of this project back to the official names.

    Args:
        state_dict (Mapping[str, Tensor]): Weights of a `YOLOv5`, with its anchors.
        arch (str): Size of the model.

    Returns:
        dict[str, Tensor]: The same tensors, with the anchors in units of the stride.

    Raises:
        ValueError: Unknown size, or missing or unexpected tensors, all named.
    """
    table = name_table(arch)
    own = {*table.values(), ANCHORS_KEY}
    missing = sorted(own - state_dict.keys())
    _refuse(dict(missing=missing, foreign=sorted(state_dict.keys() - own)), arch)
    out = {official: state_dict[project] for official, project in table.items()}
    pixels = state_dict[ANCHORS_KEY]
    out[_ANCHORS] = pixels / STRIDES.to(pixels)
    return out


def convert_checkpoint(
    source: str | Path, target: str | Path, arch: str = 'auto'
) -> Converted:
    """Convert an official YOLOv5 checkpoint file, or a safetensors file of its tensors.

    Args:
        source (str | Path): Checkpoint to read. No code in it is run.
        target (str | Path): Output file with `state_dict`, and `meta`, see
            `write_converted`.
        arch (str): Size, or `'auto'`.

    Returns:
        Converted: The written content.

    Raises:
        FileNotFoundError, CheckpointError: See `read_weights`.
        ValueError: See `convert`; the message starts with the file name.
    """
    result = read_converted(source, partial(convert, arch=arch))
    write_converted(result, target)
    return result


def _refuse_names(state_dict: Mapping[str, Tensor]) -> None:
    """Raise an error for tensors without the official names."""
    if any(key.startswith('neck.top_down_blocks.') for key in state_dict):
        raise ValueError('it already has the names of this project')
    raise ValueError(
        'the names are not those of the official YOLOv5 v6 '
        f'({_STEM}, {HEAD}.m.0.weight), but {first_names(list(state_dict))}'
    )


def _size_of(state: Mapping[str, Tensor]) -> str:
    """Return the size with the width of the stem and the depth of the first block."""
    width = len(state[_STEM])
    depth = sum(
        key.startswith('model.2.m.') and key.endswith('.cv1.conv.weight')
        for key in state
    )
    for name, spec in ARCHS.items():
        if (spec.width, spec.depth) == (width, depth):
            return name
    known = ', '.join(f'{n} {s.width} and {s.depth}' for n, s in ARCHS.items())
    raise ValueError(
        f'no YOLOv5 has {width} channels in model.0 and {depth} bottlenecks in '
        f'model.2 (known: {known})'
    )


def _with_norms(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace biases of convolutions by batch norms that add them in evaluation."""
    out = {}
    for key, value in state.items():
        unit = key.removesuffix(_BIAS)
        if unit == key or f'{unit}.bn.bias' in state:
            out[key] = value
            continue
        out[f'{unit}.bn.weight'] = torch.ones_like(value)
        out[f'{unit}.bn.bias'] = value
        out[f'{unit}.bn.running_mean'] = torch.zeros_like(value)
        # so that the square root of variance and epsilon is 1
        out[f'{unit}.bn.running_var'] = torch.full_like(value, 1 - NORM['eps'])
        out[f'{unit}.bn.num_batches_tracked'] = torch.tensor(0)
    return out


def _refuse(faults: dict[str, list[str]], arch: str) -> None:
    """Raise an error that names the tensors which prevent the conversion."""
    if text := fault_text(faults):
        raise ValueError(
            f'these are not the tensors of a YOLOv5 v6 of arch {arch!r} (known: '
            f'{", ".join(ARCHS)}): {text}'
        )


def _pixels(cells: Tensor | None) -> Tensor:
    """Return anchors (3, 3, 2) in pixels from those in units of the stride.

    Raises:
        ValueError: Wrong shape.
    """
    if cells is None:
        return torch.tensor(ANCHORS, dtype=torch.float32)
    if cells.shape != (3, 3, 2):
        raise ValueError(
            f'{_ANCHORS} {tuple(cells.shape)} are not those of 3 levels of 3 anchors'
        )
    return cells.float() * STRIDES
