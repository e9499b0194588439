"""Conversion of official YOLOv7 and MMYOLO checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmir.det.yolo.head_module import ANCHORS, YOLOHeadModule
from mmir.det.yolo.pickled_modules import Foreign, module_weights, read_pickled
from mmir.det.yolov7.arch import ARCHS, get_arch
from mmir.det.yolov7.backbone import YOLOv7Backbone
from mmir.det.yolov7.convert_names import SOURCES, Table, name_table
from mmir.det.yolov7.neck import YOLOv7Neck
from mmir.utils.checkpoint import (
    CheckpointError,
    UnsafeCheckpointError,
    load_checkpoint,
    save_checkpoint_atomic,
)

_STRIDES = torch.tensor([8.0, 16.0, 32.0]).view(3, 1, 1)
_ANCHORS = 'bbox_head.anchors'
_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Converted:
    """Converted state dict, with the names of this project.

    Attributes:
        state_dict: Weights and `bbox_head.anchors`; half precision becomes float32.
        source: Format of the source, `'official'` or `'mmyolo'`.
        arch: Size, a key of `ARCHS`.
        num_classes: Number of classes of the head.
        own_anchors: Whether the source contained anchors; MMYOLO files do not.
    """

    state_dict: dict[str, Tensor]
    source: str
    arch: str
    num_classes: int
    own_anchors: bool

    @property
    def anchors(self) -> list:
        """Anchors (levels, A, 2), width and height in pixels, as nested lists."""
        return self.state_dict[_ANCHORS].tolist()


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
        ValueError: Unknown size; unknown format; tensors that are missing, unexpected
            or of another shape, all named; or inconsistent anchors.
    """
    source = _source_of(state_dict)
    tables = {n: name_table(n) for n in (ARCHS if arch == 'auto' else [arch])}
    faults = {n: _faults(state_dict, t, source) for n, t in tables.items()}
    best = min(faults, key=lambda n: sum(map(len, faults[n].values())))
    _refuse(faults[best], source, best)
    table = tables[best]
    found = {
        row.project: _single(state_dict[getattr(row, source)])
        for row in table.rows
        if getattr(row, source) in state_dict
    }
    classes = _fill_implicit(found, best)
    _refuse(dict(misshapen=_misshapen(found, best, classes)), source, best)
    if source == 'official':
        found[_ANCHORS] = _anchors(state_dict, table.head)
    else:
        found[_ANCHORS] = torch.tensor(ANCHORS, dtype=torch.float32)
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
    own = {row.project for row in table.rows} | {_ANCHORS}
    faults = dict(missing=own - state_dict.keys(), foreign=state_dict.keys() - own)
    _refuse({k: sorted(v) for k, v in faults.items()}, 'dense project', arch)
    out = {getattr(row, target): state_dict[row.project] for row in table.rows}
    if target == 'official':
        pixels = state_dict[_ANCHORS]
        out[f'{table.head}.anchors'] = pixels / _STRIDES.to(pixels)
        out[f'{table.head}.anchor_grid'] = pixels.view(3, 1, 3, 1, 1, 2)
    return out


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint, including one that pickles whole modules.

    No code in the file is run. As in the official code, the moving average `ema` is
    used if present, else `model`. Other files hold a `state_dict` or are one.

    Args:
        path (str | Path): Checkpoint file.

    Returns:
        dict[str, Tensor]: State dict as saved.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: It cannot be read, requires running code, or has no weights.
    """
    try:
        content = load_checkpoint(path)
    except CheckpointError as error:  # also of a late protocol, which torch rejects
        try:
            content = read_pickled(path)
        except CheckpointError:
            if isinstance(error, UnsafeCheckpointError):
                raise
            raise error from None  # it names the format
    if isinstance(content, Mapping):
        keys = ('ema', 'model', 'state_dict')
        inside = (content[k] for k in keys if content.get(k) is not None)
        content = next(inside, content)
    found = _tensors(content)
    if not found:
        raise CheckpointError(
            f'{path} has no weights: neither a module nor a state dict, at the top '
            'level or under ema, model or state_dict'
        )
    return found


def convert_checkpoint(
    source: str | Path, target: str | Path, arch: str = 'auto'
) -> Converted:
    """Convert an official or MMYOLO checkpoint file.

    Args:
        source (str | Path): Official or MMYOLO checkpoint.
        target (str | Path): Output file with `state_dict`, and `meta` with `arch`,
            `num_classes`, `anchors` and `source`. It loads with `weights_only=True`.
        arch (str): Size, or `'auto'`.

    Returns:
        Converted: The written content.

    Raises:
        FileNotFoundError, CheckpointError: See `read_weights`.
        ValueError: See `convert`; the message starts with the file name.
    """
    try:
        result = convert(read_weights(source), arch)
    except ValueError as error:
        raise ValueError(f'{source}: {error}') from error
    meta = dict(
        arch=result.arch,
        num_classes=result.num_classes,
        anchors=result.anchors,
        source=result.source,
    )
    content = dict(meta=meta, state_dict=result.state_dict)
    save_checkpoint_atomic(content, target)
    return result


def _tensors(content: Any) -> dict[str, Tensor]:
    """Return the state dict of an entry of a checkpoint."""
    if isinstance(content, Foreign):
        return module_weights(content)
    items = content.items() if isinstance(content, Mapping) else ()
    return {k: v for k, v in items if isinstance(k, str) and isinstance(v, Tensor)}


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
        f'those of MMYOLO (neck.reduce_layers.2.*), but {_few(list(state_dict))}'
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
    parts = [f'{len(k)} {what}: {_few(k)}' for what, k in faults.items() if k]
    if parts:
        raise ValueError(
            f'these are not the tensors of a YOLOv7 of arch {arch!r} (known: '
            f'{", ".join(sorted(ARCHS))}) with {source} names: ' + '; '.join(parts)
        )


def _few(keys: list[str]) -> str:
    """Return the first names of a list."""
    return ', '.join(keys[:6]) + (', ...' if len(keys) > 6 else '')


def _single(value: Tensor) -> Tensor:
    """Return the tensor, in float32 if it has half precision."""
    return value.float() if value.dtype in _HALF else value


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


def _misshapen(found: dict[str, Tensor], arch: str, classes: int) -> list[str]:
    """Return the tensors that do not fit the network, with both shapes."""
    with torch.device('meta'):
        parts = {
            'backbone': YOLOv7Backbone(arch),
            'neck': YOLOv7Neck(arch),
            'bbox_head.head_module': YOLOHeadModule(classes, get_arch(arch).out),
        }
    shapes = {
        f'{part}.{key}': value.shape
        for part, module in parts.items()
        for key, value in module.state_dict().items()
    }
    return [
        f'{key} {tuple(value.shape)} for {tuple(shapes[key])}'
        for key, value in found.items()
        if value.shape != shapes[key]
    ]


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
    if not torch.allclose(cells * _STRIDES, pixels, rtol=2e-3):
        raise ValueError(
            f'{head}.anchors, in cells, and {head}.anchor_grid, in pixels, are '
            f'inconsistent: {(cells * _STRIDES).flatten().tolist()} and '
            f'{pixels.flatten().tolist()}'
        )
    return pixels
