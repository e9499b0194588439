"""What a model remembers of its adaptation: one record, one attribute."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from .walk import unwrap

ATTRIBUTE = '_mmir'


@dataclass(frozen=True)
class Stage:
    """What a stage of training changes.

    Attributes:
        name: Name of the stage and of its adapters.
        method: Class name of the method, such as `ConvLoRA`.
        changed: Keys of the state dict that may change: adapters, other trainable
            parameters, running statistics that are updated.
    """

    name: str
    method: str
    changed: tuple[str, ...]


@dataclass
class LoadedAdapter:
    """An adapter that was loaded on top of a model.

    Attributes:
        layers: Names of the layers it widens.
        replaced: Names of the plain modules that became adapter layers for it.
        others: Tensors that take turns with those in the model, by key: the former
            ones while the adapter is on, its own while it is off.
        on: Whether the adapter is on.
    """

    layers: list[str]
    replaced: list[str]
    others: dict[str, Tensor]
    on: bool = True


@dataclass
class Record:
    """Everything mmir remembers of a model, out of its state dict.

    Attributes:
        stage: The stage it trains in, if any.
        loaded: Adapters loaded from files, by name, the latest last.
        extras: What a method keeps there, by a name of its choice.
    """

    stage: Stage | None = None
    loaded: dict[str, LoadedAdapter] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)


def record_of(model: nn.Module) -> Record:
    """The record of a model, wrapped or not; made if there is none."""
    return unwrap(model).__dict__.setdefault(ATTRIBUTE, Record())


def forget(model: nn.Module) -> None:
    """Remove what the record says of stages and files; extras stay."""
    record = record_of(model)
    record.stage, record.loaded = None, {}


def in_stage(model: nn.Module) -> bool:
    """Tell whether a model, wrapped or not, is in a stage of adaptation."""
    record = unwrap(model).__dict__.get(ATTRIBUTE)
    return record is not None and record.stage is not None


def stage_of(model: nn.Module) -> Stage:
    """The stage a model is in.

    Raises:
        ValueError: If it is in none.
    """
    if not in_stage(model):
        raise ValueError(
            'the model is in no stage of adaptation: build it by mmir.Adapted with '
            'adapt=dict(...), or call adapt_ before training'
        )
    return record_of(model).stage
