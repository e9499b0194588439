"""Reading of released weights, and what their conversions share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmir.det.yolo.pickled_modules import Foreign, module_weights, read_pickled
from mmir.utils.checkpoint import (
    CheckpointError,
    UnsafeCheckpointError,
    load_checkpoint,
    save_checkpoint_atomic,
)

ANCHORS_KEY = 'bbox_head.anchors'
STRIDES = torch.tensor([8.0, 16.0, 32.0]).view(3, 1, 1)
IDENTITY_NOTE = (
    'The batch norms of this checkpoint are the identity, because the source has them '
    'folded; training with batch statistics would destroy it at the first step. Train '
    "it with frozen norms (type='mmir.Adapted', adapt=dict(..., norm='frozen')), or "
    'measure the norms on images when converting (--images).'
)
_HALF = (torch.float16, torch.bfloat16)
_WRAPPER = 'module.'


@dataclass(frozen=True)
class Converted:
    """Converted state dict, with the names of this project.

    Attributes:
        state_dict: Weights and `bbox_head.anchors`; half precision becomes float32.
        source: Format of the source, such as `'official'` or `'mmyolo'`.
        arch: Size of the network.
        num_classes: Number of classes of the head.
        own_anchors: Whether the source contained anchors, or those of the released
            models were filled in.
        norms: Whether the batch norms are those of the source, the identity because the
            source has them folded, or measured on images since.
    """

    state_dict: dict[str, Tensor]
    source: str
    arch: str
    num_classes: int
    own_anchors: bool
    norms: Literal['own', 'identity', 'measured'] = 'own'

    @property
    def anchors(self) -> list:
        """Anchors (levels, A, 2), width and height in pixels, as nested lists."""
        return self.state_dict[ANCHORS_KEY].tolist()


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint, including one that pickles whole modules.

    No code in the file is run. As in the official code, the moving average `ema` is
    used if present, else `model`. Other files hold a `state_dict` or are one.

    Args:
        path (str | Path): Checkpoint file, of torch.save or safetensors.

    Returns:
        dict[str, Tensor]: State dict as saved, without the prefix `module.` of
        distributed training.

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
    return unwrapped(found)


def read_converted(
    path: str | Path, convert: Callable[[dict[str, Tensor]], Converted]
) -> Converted:
    """Read and convert a checkpoint file.

    Args:
        path (str | Path): Checkpoint file.
        convert (callable): Converts its state dict.

    Returns:
        Converted: What `convert` returns.

    Raises:
        FileNotFoundError, CheckpointError: See `read_weights`.
        ValueError: From `convert`; the message starts with the file name.
    """
    try:
        return convert(read_weights(path))
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def write_converted(result: Converted, path: str | Path) -> None:
    """Write a converted checkpoint, which loads with `weights_only=True`.

    Args:
        result (Converted): The content.
        path (str | Path): Output file with `state_dict`, and `meta` with `arch`,
            `num_classes`, `anchors`, `source` and `norms`, and a `note` if the norms
            are the identity.
    """
    meta = dict(
        arch=result.arch,
        num_classes=result.num_classes,
        anchors=result.anchors,
        source=result.source,
        norms=result.norms,
    )
    if result.norms == 'identity':
        meta['note'] = IDENTITY_NOTE
    save_checkpoint_atomic(dict(meta=meta, state_dict=result.state_dict), path)


def unwrapped(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without the prefix of distributed training."""
    if all(key.startswith(_WRAPPER) for key in state_dict):
        return {k.removeprefix(_WRAPPER): v for k, v in state_dict.items()}
    return dict(state_dict)


def single(value: Tensor) -> Tensor:
    """Return the tensor, in float32 if it has half precision."""
    return value.float() if value.dtype in _HALF else value


def first_names(keys: list[str]) -> str:
    """Return the first names of a list."""
    return ', '.join(keys[:6]) + (', ...' if len(keys) > 6 else '')


def fault_text(faults: Mapping[str, list[str]]) -> str:
    """Describe lists of tensors by kind of fault; empty if there are none."""
    parts = [f'{len(k)} {what}: {first_names(k)}' for what, k in faults.items() if k]
    return '; '.join(parts)


def misshapen(found: Mapping[str, Tensor], parts: dict[str, nn.Module]) -> list[str]:
    """Return the tensors that do not fit a network, with both shapes.

    Args:
        found (Mapping[str, Tensor]): Tensors with the names of this project.
        parts (dict[str, nn.Module]): Parts of the network by the prefix of their names.
    """
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


def _tensors(content: Any) -> dict[str, Tensor]:
    """Return the state dict of an entry of a checkpoint."""
    if isinstance(content, Foreign):
        return module_weights(content)
    items = content.items() if isinstance(content, Mapping) else ()
    return {k: v for k, v in items if isinstance(k, str) and isinstance(v, Tensor)}
