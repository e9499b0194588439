"""Reduce the output layers of a detector to some of its classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.evaluation.functional import coco_classes
from mmengine.registry import MODELS
from torch import Tensor

from mmir.utils.checkpoint import (
    CheckpointError,
    load_checkpoint,
    save_checkpoint_atomic,
    weights_of,
)
from mmir.utils.files import few

_BOX = 5  # x, y, w, h and objectness, before the classes of an anchor


def keep_classes(
    state_dict: Mapping[str, Tensor],
    shapes: Mapping[str, torch.Size],
    known: Sequence[str],
    wanted: Sequence[str],
) -> tuple[dict[str, Tensor], list[str]]:
    """Keep the rows of some classes in the output layers of a one-stage detector.

    Output layers are those whose number of channels differs between checkpoint and
    model. Their channels are ordered anchor by anchor, with one channel per class,
    after x, y, w, h and objectness if the layer predicts these too. A detector reduced
    this way gives the same scores for these classes.

    Args:
        state_dict (Mapping[str, Tensor]): Weights for the classes `known`.
        shapes (Mapping[str, torch.Size]): Shapes of the tensors of the model for the
            classes `wanted`.
        known (Sequence[str]): Class names of the checkpoint, in order.
        wanted (Sequence[str]): Class names of the model, in order.

    Returns:
        tuple[dict[str, Tensor], list[str]]: New state dict, and the names of the
        tensors that were reduced.

    Raises:
        ValueError: A class is unknown to the checkpoint, a tensor does not have the
            layout described above (the message names it), or nothing is to be reduced:
            classes in another order would keep the wrong rows.
    """
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(
            f'the checkpoint has no class {few(unknown)}; its classes: {few(known, 10)}'
        )
    rows = torch.tensor([known.index(name) for name in wanted])
    result, reduced = dict(state_dict), []
    for key, tensor in state_dict.items():
        shape = shapes.get(key)
        if shape is not None and tensor.shape != shape:
            result[key] = _keep_rows(key, tensor, shape, len(known), rows)
            reduced.append(key)
    if not reduced:
        raise ValueError(
            f'no output layer has more channels than that of the model: it was not '
            f'made for the {len(known)} classes {few(known, 3)}, or the model is not '
            f'for fewer'
        )
    return result, reduced


def _keep_rows(
    key: str, tensor: Tensor, shape: torch.Size, known: int, rows: Tensor
) -> Tensor:
    """Reduce one tensor of an output layer to the classes `rows`."""
    same = tensor.ndim == len(shape)
    dims = [i for i in range(tensor.ndim) if same and tensor.shape[i] != shape[i]]
    dim = dims[0] if len(dims) == 1 else None
    if dim is not None and known != len(rows):
        old, new = tensor.shape[dim], shape[dim]
        anchors, rest = divmod(old - new, known - len(rows))
        sizes = anchors * known, anchors * (_BOX + known)
        if anchors > 0 and not rest and old in sizes:
            groups = tensor.unflatten(dim, (anchors, old // anchors))
            box = torch.arange(old // anchors - known)
            kept = torch.cat([box, len(box) + rows])
            return groups.index_select(dim + 1, kept).flatten(dim, dim + 1)
    raise ValueError(
        f'{key}: {tuple(tensor.shape)} in the checkpoint, {tuple(shape)} in the model. '
        f'This is no output layer of a one-stage detector with {known} and {len(rows)} '
        'classes'
    )


def keep_classes_in_file(
    model: Mapping[str, Any],
    source: str | Path,
    target: str | Path,
    wanted: Sequence[str],
    known: Sequence[str] | None = None,
) -> list[str]:
    """Write a checkpoint that detects only some of its classes, see `keep_classes`.

    Other metadata is kept, such as the note that batch norms must not be trained.

    Args:
        model (Mapping): Config of the model for the classes `wanted`.
        source (str | Path): Checkpoint to read.
        target (str | Path): Checkpoint to write.
        wanted (Sequence[str]): Class names of the model, in order.
        known (Sequence[str], optional): Class names of the checkpoint, in order.
            Default: those in its metadata, or those of COCO.

    Returns:
        list[str]: Names of the tensors that were reduced.

    Raises:
        CheckpointError: `source` cannot be read, or it does not fit the model.
    """
    content = load_checkpoint(source)
    state = weights_of(content, source)
    known = list(known or _class_names(content) or coco_classes())
    plain = dict(model, adapt=None) if 'adapt' in model else dict(model)
    with torch.device('meta'):
        built = MODELS.build(plain)
    shapes = {key: tensor.shape for key, tensor in built.state_dict().items()}
    missing = [key for key in shapes if key not in state]
    if missing:
        raise CheckpointError(
            f'{source} does not fit the model: it has no {few(missing)}'
        )
    try:
        state, reduced = keep_classes(state, shapes, known, wanted)
    except ValueError as error:
        raise CheckpointError(f'{source}: {error}') from error
    meta = content.get('meta')
    meta = dict(meta) if isinstance(meta, dict) else {}
    if 'num_classes' in meta:
        meta['num_classes'] = len(wanted)
    meta['dataset_meta'] = dict(classes=tuple(wanted))
    save_checkpoint_atomic(dict(state_dict=state, meta=meta), target)
    return reduced


def _class_names(content: Mapping[str, Any]) -> Sequence[str] | None:
    """Class names in the metadata of a checkpoint of mmdet."""
    meta = content.get('meta')
    dataset = meta.get('dataset_meta') if isinstance(meta, dict) else None
    found = dataset or meta if isinstance(dataset or meta, dict) else {}
    return found.get('classes') or found.get('CLASSES')
