"""Count of the trainable parameters of a model."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn
from torch.nn.parameter import is_lazy

from .layer import AdapterLayer
from .record import in_stage, stage_of
from .walk import count_parameters, is_head, unwrap

PARTS = ('adapters', 'heads', 'norms', 'rest')


@dataclass(frozen=True)
class TrainableReport:
    """Trainable parameters of a model by part.

    Attributes:
        name: Name of the stage, or '' if there is none.
        method: Class name of the method, or ''.
        total: Number of parameters (elements).
        trainable: Number of trainable ones in `adapters`, `heads`, `norms` and `rest`;
            parts without any are left out.
        notes: Notes of the method: title -> text.
    """

    name: str
    method: str
    total: int
    trainable: dict[str, int]
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Fraction of the parameters that train, 0 to 1."""
        return sum(self.trainable.values()) / max(1, self.total)

    def __str__(self) -> str:
        count = sum(self.trainable.values())
        parts = ', '.join(f'{part} {n:,}' for part, n in self.trainable.items())
        what = f'{self.method} {self.name!r}: ' if self.method else ''
        lines = [
            f'{what}{count:,} of {self.total:,} parameters train ({self.share:.1%})'
            + (f': {parts}' if parts else '')
        ]
        return '\n'.join([*lines, *(f'  {k}: {v}' for k, v in self.notes.items())])


def tally(reasons: Mapping[str, str]) -> str:
    """Count the reasons why layers were left alone, with one example layer each.

    Args:
        reasons: Reason by layer name.
    """
    examples = {reason: name for name, reason in reversed(reasons.items())}
    return '; '.join(
        f'{count} x {reason}, such as {examples[reason]!r}'
        for reason, count in Counter(reasons.values()).items()
    )


def trainable_report(
    model: nn.Module, notes: dict[str, str] | None = None
) -> TrainableReport:
    """Count the trainable parameters of a model; shared ones count once.

    Args:
        model: Any model, wrapped or not, adapted or not.
        notes: Notes to include: title -> text.

    Returns:
        The report; its `str` is what the log shows.
    """
    model = unwrap(model)
    kind: dict[int, str] = {}
    for name, parameter in model.named_parameters():
        kind[id(parameter)] = 'heads' if is_head(name) else 'rest'
    for module in model.modules():
        own = module.parameters(recurse=False)
        if hasattr(module, 'normalized_shape') or 'Norm' in type(module).__name__:
            for parameter in own:
                if kind[id(parameter)] != 'heads':
                    kind[id(parameter)] = 'norms'
    for layer in model.modules():
        if isinstance(layer, AdapterLayer):  # a norm inside an adapter belongs to it
            for _, adapter in layer.named_adapters():
                for parameter in adapter.parameters():
                    kind[id(parameter)] = 'adapters'
    counts: Counter[str] = Counter()
    for parameter in model.parameters():
        if parameter.requires_grad and not is_lazy(parameter):
            counts[kind[id(parameter)]] += parameter.numel()
    stage = stage_of(model) if in_stage(model) else None
    return TrainableReport(
        stage.name if stage else '',
        stage.method if stage else '',
        count_parameters(model),
        {
            part: counts[part]
            for part in ('adapters', 'heads', 'norms', 'rest')
            if counts[part]
        },
        dict(notes or {}),
    )
