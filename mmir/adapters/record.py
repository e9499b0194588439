"""Record of a model's adaptation, kept in one attribute of the model."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from .walk import unwrap

ATTRIBUTE = '_mmir'


@dataclass(frozen=True)
class Stage:
    """Training stage: its method, and what it changes in the model.

    Attributes:
        name: Name of the stage and of its adapters.
        method: Class name of the method, such as `ConvLoRA`.
        changed: Keys of the state dict that may change: adapters, other trainable
            parameters, updated running statistics.
    """

    name: str
    method: str
    changed: tuple[str, ...]


@dataclass
class LoadedAdapter:
    """Adapter that was loaded into a model.

    Attributes:
        layers: Names of the layers it adapts.
        replaced: Names of the plain modules that became adapter layers for it.
        others: Tensors swapped in and out along with the adapter, by key: the previous
            values while it is on, its own while it is off.
        on: Whether the adapter is on.
    """

    layers: list[str]
    replaced: list[str]
    others: dict[str, Tensor]
    on: bool = True


@dataclass
class Record:
    """Everything mmir stores on a model outside its state dict.

    Attributes:
        stage: Current training stage, if any.
        loaded: Adapters loaded from files, by name; the latest comes last.
        extras: Data of methods, by a name of their choice.
    """

    stage: Stage | None = None
    loaded: dict[str, LoadedAdapter] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)


def record_of(model: nn.Module) -> Record:
    """Record of a model, wrapped or not; created if there is none."""
    return unwrap(model).__dict__.setdefault(ATTRIBUTE, Record())


def forget(model: nn.Module) -> None:
    """Remove stage and loaded adapters from the record; extras stay."""
    record = record_of(model)
    record.stage, record.loaded = None, {}


def in_stage(model: nn.Module) -> bool:
    """Check whether a model, wrapped or not, is in a stage of adaptation."""
    record = unwrap(model).__dict__.get(ATTRIBUTE)
    return record is not None and record.stage is not None


def parts_in_stage(model: nn.Module) -> dict[str, nn.Module]:
    """Find what is being adapted in a model.

    Args:
        model: The model, wrapped or not.

    Returns:
        Name -> module. The name of the model itself is empty; otherwise these are the
        parts that were built by `mmir.Adapted`, such as its backbone.
    """
    model = unwrap(model)
    if in_stage(model):
        return {'': model}
    parts = model.named_modules()
    return {n: m for n, m in parts if ATTRIBUTE in m.__dict__ and in_stage(m)}


def stage_of(model: nn.Module) -> Stage:
    """Current stage of a model.

    Raises:
        ValueError: The model is not in a stage.
    """
    if not in_stage(model):
        raise ValueError(
            'the model is in no stage of adaptation: build it by mmir.Adapted with '
            'adapt=dict(...), or call adapt_ before training'
        )
    return record_of(model).stage
