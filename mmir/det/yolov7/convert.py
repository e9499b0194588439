"""Conversion of official YOLOv7 and MMYOLO checkpoints."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mmir.det.yolo.families import YOLOV7, refuse_others
from mmir.det.yolo.head_module import ANCHORS, YOLOHeadModule
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
from mmir.det.yolov7.arch import ARCHS, get_arch
from mmir.det.yolov7.backbone import YOLOv7Backbone
from mmir.det.yolov7.convert_names import SOURCES, Table, name_table
from mmir.det.yolov7.neck import YOLOv7Neck


def convert(state_dict: Mapping[str, Tensor], arch: str = 'auto') -> Converted:
    """Convert an official or MMYOLO state dict; the format is detected from its keys.

    Re-parameterized official heads have no implicit layers. They get implicit layers
    that add 0 and multiply by 1, which is the same function.

    Args:
        state_dict (Mapping[str, Tensor]): Official or MMYOLO state dict.
        arch (str): Size, or `'auto'` to choose the one whose names match.

    Returns:
        Converted: All tensors of the source; none of the model is missing.

    Raises:
        ValueError: Unknown size; another network; unknown format; tensors that are
            missing, unexpected or of another shape, all named; or inconsistent anchors.
    """
    refuse_others(state_dict, YOLOV7)
    source = _source_of(state_dict)
    tables = {n: name_table(n) for n in (ARCHS if arch == 'auto' else [arch])}
    faults = {n: _faults(state_dict, t, source) for n, t in tables.items()}
    best = min(faults, key=lambda n: sum(map(len, faults[n].values())))
    _refuse(faults[best], source, best)
    table = tables[best]
    found = {
        row.project: single(state_dict[getattr(row, source)])
        for row in table.rows
        if getattr(row, source) in state_dict
    }
    classes = _fill_implicit(found, best)
    with torch.device('meta'):
        parts = {
            'backbone': YOLOv7Backbone(best),
            'neck': YOLOv7Neck(best),
            'bbox_head.head_module': YOLOHeadModule(classes, get_arch(best).out),
        }
    _refuse(dict(misshapen=misshapen(found, parts)), source, best)
    if source == 'official':
        found[ANCHORS_KEY] = _anchors(state_dict, table.head)
    else:
        found[ANCHORS_KEY] = torch.tensor(ANCHORS, dtype=torch.float32)
    return Converted(found, source, best, classes, source == 'official')


def export_names(
    state_dict: Mapping[str, Tensor], arch: str, target: str
) -> dict[str, Tensor]:
    """Convert a dense state dict of this project back to another format.

    Args:
        state_dict (Mapping[str, Tensor]): Weights of a `YOLOv7`, with its anchors.
        arch (str): Size of the model.
        target (str): `'official'` (with implicit layers and anchors) or `'mmyolo'`
            (which does not store anchors).

    Returns:
        dict[str, Tensor]: The same tensors with the names of the target.

    Raises:
        ValueError: Unknown size or target, or missing or unexpected tensors, all named.
    """
    if target not in SOURCES:
        raise ValueError(f'unknown target {target!r}, choose from {SOURCES}')
    table = name_table(arch)
    own = {row.project for row in table.rows} | {ANCHORS_KEY}
    faults = dict(missing=own - state_dict.keys(), foreign=state_dict.keys() - own)
    _refuse({k: sorted(v) for k, v in faults.items()}, 'dense project', arch)
    out = {getattr(row, target): state_dict[row.project] for row in table.rows}
    if target == 'official':
        pixels = state_dict[ANCHORS_KEY]
        out[f'{table.head}.anchors'] = pixels / STRIDES.to(pixels)
        out[f'{table.head}.anchor_grid'] = pixels.view(3, 1, 3, 1, 1, 2)
    return out


def convert_checkpoint(
    source: str | Path, target: str | Path, arch: str = 'auto'
) -> Converted:
    """Convert an official or MMYOLO checkpoint file.

    Args:
        source (str | Path): Official or MMYOLO checkpoint.
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


def _source_of(state_dict: Mapping[str, Tensor]) -> str:
    """Detect the format from the keys."""
    starts = {'official': 'model.0.', 'mmyolo': 'neck.reduce_layers.2.'}
    for source, start in starts.items():
        if any(key.startswith(start) for key in state_dict):
            return source
    if any(key.startswith('neck.spp.') for key in state_dict):
        raise ValueError('it already has the names of this project')
    raise ValueError(
        'the names are neither those of the official YOLOv7 (model.0.conv.weight) nor '
        f'those of MMYOLO (neck.reduce_layers.2.*), but {first_names(list(state_dict))}'
    )


def _faults(
    state_dict: Mapping[str, Tensor], table: Table, source: str
) -> dict[str, list[str]]:
    """Return missing and unexpected tensors for a size."""
    wanted = [getattr(row, source) for row in table.rows]
    implicit = {k for k in wanted if k.startswith((f'{table.head}.i',))}
    if source == 'official':
        wanted += [f'{table.head}.anchors', f'{table.head}.anchor_grid']
        if not implicit & state_dict.keys():
            wanted = [k for k in wanted if k not in implicit]
    return dict(
        missing=[k for k in wanted if k not in state_dict],
        foreign=sorted(state_dict.keys() - set(wanted)),
    )


def _refuse(faults: dict[str, list[str]], source: str, arch: str) -> None:
    """Raise an error that names the tensors which prevent the conversion."""
    if text := fault_text(faults):
        raise ValueError(
            f'these are not the tensors of a YOLOv7 of arch {arch!r} (known: '
            f'{", ".join(sorted(ARCHS))}) with {source} names: {text}'
        )


def _fill_implicit(found: dict[str, Tensor], arch: str) -> int:
    """Add missing implicit layers of a head, and return its number of classes."""
    layers = 'bbox_head.head_module.convs_pred'
    for level, channels in enumerate(get_arch(arch).out):
        bias = found[f'{layers}.{level}.1.bias']
        zeros = bias.new_zeros(1, channels, 1, 1)
        found.setdefault(f'{layers}.{level}.0.implicit', zeros)
        ones = bias.new_ones(1, len(bias), 1, 1)
        found.setdefault(f'{layers}.{level}.2.implicit', ones)
    return max(1, len(found[f'{layers}.0.1.bias']) // 3 - 5)


def _anchors(state_dict: Mapping[str, Tensor], head: str) -> Tensor:
    """Return the anchors (3, 3, 2) in pixels, which official files store twice.

    Raises:
        ValueError: Wrong shape, or the two copies are inconsistent.
    """
    cells, pixels = (
        state_dict[f'{head}.{name}'].float() for name in ('anchors', 'anchor_grid')
    )
    if cells.shape != (3, 3, 2) or pixels.numel() != cells.numel():
        raise ValueError(
            f'{head}.anchors {tuple(cells.shape)} and {head}.anchor_grid '
            f'{tuple(pixels.shape)} are not those of 3 levels of 3 anchors'
        )
    pixels = pixels.reshape(3, 3, 2)
    # half precision rounds anchors that were fitted to a dataset
    if not torch.allclose(cells * STRIDES, pixels, rtol=2e-3):
        raise ValueError(
            f'{head}.anchors, in cells, and {head}.anchor_grid, in pixels, are '
            f'inconsistent: {(cells * STRIDES).flatten().tolist()} and '
            f'{pixels.flatten().tolist()}'
        )
    return pixels
