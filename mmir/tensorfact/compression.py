"""Compression plans: which convolutions to factorize, at which ranks, for a size."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from mmir.adapters import count_parameters, names_of, why_not_plain, why_tied

from .allocation import Cost, Option, choose, options_of
from .conv_cost import Calls, Forward, macs_of, record_calls
from .factorize import FactorizeReport, choose_layers, factorize_
from .layer import TensorFactConv
from .rank import describe_kernel
from .split import KernelShape, get_split

UNITS = ('params', 'macs')
"""Costs that a plan can reduce."""


@dataclass(frozen=True)
class PlannedLayer:
    """Plan for one convolution.

    Attributes:
        name: Name of the module.
        shape: Shape of the kernel, (T, S, D2, D1).
        rank: Rank of the factors; None if the layer stays dense.
        error: Relative error of the kernel, ||K - A B|| / ||K||.
        before: Cost of the dense layer, without bias.
        after: Cost afterwards. MACs are those of two convolutions or of one, whichever
            is lower.
    """

    name: str
    shape: KernelShape
    rank: int | None
    error: float
    before: Cost
    after: Cost


@dataclass(frozen=True)
class CompressionPlan:
    """Ranks of the convolutions of a model, see `compression_plan`.

    Attributes:
        target: The requested target.
        split: Split of the factors.
        layers: The convolutions that may be factorized, in the order of the model.
        before: Cost of the dense model: all parameters, and MACs of its 2D
            convolutions.
        after: The same after factorization.
    """

    target: dict[str, Any]
    split: str
    layers: tuple[PlannedLayer, ...]
    before: Cost
    after: Cost

    @property
    def ranks(self) -> dict[str, int]:
        """Ranks of the layers to factorize, by name."""
        return {each.name: each.rank for each in self.layers if each.rank}

    def apply_(self, model: nn.Module) -> FactorizeReport:
        """Factorize a model as planned, in place.

        If the target is `macs`, evaluation runs two convolutions (see `TensorFactConv`,
        mode `auto`); if it is `params`, each layer decides by itself. Training
        reconstructs the kernel.

        Args:
            model: The model the plan was made for, or one of the same structure.

        Returns:
            Report, as from `factorize_`.

        Raises:
            ValueError: A planned layer is missing, has another shape or is not finite;
                names the layer. The model is unchanged then.
        """
        self._check(model)
        before, fast = count_parameters(model), 'macs' in self.target
        for rank in sorted(set(self.ranks.values())):
            names = [name for name, r in self.ranks.items() if r == rank]
            factorize_(
                model,
                rank,
                self.split,
                include=[rf'^{re.escape(name)}$' for name in names],
                exclude=(),
                two_conv_max_rank=rank if fast else None,
            )
        dense = {e.name: 'dense by the plan' for e in self.layers if not e.rank}
        return FactorizeReport(self.ranks, dense, before, count_parameters(model))

    def _check(self, model: nn.Module) -> None:
        modules = dict(model.named_modules(remove_duplicate=False))
        tied = why_tied(model)
        for each in self.layers:
            conv = modules.get(each.name)
            if not isinstance(conv, nn.Conv2d) or conv.weight.shape != each.shape:
                found = 'nothing' if conv is None else repr(conv)
                raise ValueError(
                    f'{each.name}: planned for a convolution of '
                    f'{describe_kernel(each.shape)}, the model has {found}'
                )
            if reason := why_not_plain(conv, rebuilt=True) or tied.get(conv):
                raise ValueError(f'{each.name}: {reason}')
            _check_finite(each.name, conv)

    def to_json(self) -> str:
        """Serialize the plan to JSON; see `from_json`."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> 'CompressionPlan':
        """Load a plan from the JSON of `to_json`.

        Raises:
            ValueError: The text is not a compression plan.
        """
        try:
            data = json.loads(text)
            costs = {key: Cost(**data.pop(key)) for key in ('before', 'after')}
            layers = [
                PlannedLayer(
                    **{
                        **each,
                        'shape': tuple(each['shape']),
                        'before': Cost(**each['before']),
                        'after': Cost(**each['after']),
                    }
                )
                for each in data.pop('layers')
            ]
            return cls(**data, layers=tuple(layers), **costs)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f'this is not a compression plan: {error!r}') from error

    def __str__(self) -> str:
        rows = [('layer', 'kernel', 'rank', 'error', 'params', 'MMACs')]
        rows += [
            (
                each.name,
                'x'.join(map(str, each.shape)),
                str(each.rank or 'dense'),
                f'{each.error:.4f}',
                *_changes(each.before, each.after),
            )
            for each in self.layers
        ]
        rows.append(('whole model', '', '', '', *_changes(self.before, self.after)))
        used = [column for column in zip(*rows, strict=True) if any(column[1:])]
        widths = [max(map(len, column)) for column in used]
        return '\n'.join(
            '  '.join(
                cell.rjust(width) if index else cell.ljust(width)
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in zip(*used, strict=True)
        )


def _check_finite(name: str, conv: nn.Conv2d) -> None:
    """Raise a ValueError that names the layer if its kernel is not finite."""
    if not conv.weight.isfinite().all():
        raise ValueError(f'{name}: NaN or infinite weights')


def _changes(before: Cost, after: Cost) -> tuple[str, str]:
    """Table cells `before -> after`; empty if unknown."""

    def cell(old: float | None, new: float | None, form: str) -> str:
        """Both numbers, or an empty cell."""
        return '' if old is None else f'{old:{form}} -> {new:{form}}'

    macs = [None if c.macs is None else c.macs / 1e6 for c in (before, after)]
    return cell(before.params, after.params, ','), cell(*macs, ',.1f')


def compression_plan(
    model: nn.Module,
    target: Mapping[str, Any],
    *,
    input_size: Sequence[int] | None = None,
    split: str = 'ts_dd',
    forward: Forward | None = None,
    **select: Any,
) -> CompressionPlan:
    """Choose ranks for the convolutions of a trained model, layer by layer.

    Each layer stays dense or gets a rank that makes it smaller and, for the target
    `macs`, cheaper as two convolutions. The ranks are picked by `choose`.

    Args:
        model: Dense model with trained weights; not modified.
        target: The limit, as a number or, below 1, as a fraction of the dense model:
            `params` of the model, or `macs` (multiply-accumulate operations) of its 2D
            convolutions. Or `rank`: report what `factorize_` with this rule would do.
        input_size: (H, W) for 3 channels, or (C, H, W); required for `macs`.
        split: How kernels are reshaped to matrices, see `SPLITS`.
        forward: Calls the model as `forward(model, x)` with x (1, C, H, W). Default:
            `model(x)`.
        **select: `include`, `exclude` and `factorize_stem` of `factorize_`.

    Raises:
        ValueError: Invalid argument, a model with factors, non-finite weights (names
            the layer), or an unreachable target (gives the lowest possible value).
    """
    unit, goal = _parse_target(target)
    if unit == 'macs' and input_size is None:
        raise ValueError('target macs: give input_size=(H, W) or (C, H, W)')
    if any(isinstance(m, TensorFactConv) for m in model.modules()):
        raise ValueError('the model has factors already: merge_ it before planning')
    rule = goal if unit == 'rank' else 1
    layers, _ = choose_layers(model, rule, split, **select)
    convs = {name: layer.conv for name, layer in layers.items()}
    for name, conv in convs.items():
        _check_finite(name, conv)
    calls = None if input_size is None else _calls(model, input_size, forward)
    whole = Cost(count_parameters(model), _whole_macs(model, split, calls))
    menus = [
        options_of(
            conv.weight,
            get_split(split),
            _layer_macs(conv, split, calls),
            save_macs=unit == 'macs',
            ranks=[layers[name].rank] if unit == 'rank' else None,
        )
        for name, conv in convs.items()
    ]
    if unit == 'rank':
        picks = [factors for _, factors in menus]
    else:
        full = getattr(whole, unit)
        picks = choose(menus, full, unit, goal * full if goal < 1 else goal)
    pairs = [(menu[0], pick) for menu, pick in zip(menus, picks, strict=True)]
    return _plan(dict(target), split, convs, pairs, whole)


def _layer_macs(
    conv: nn.Conv2d, split: str, calls: Calls | None
) -> tuple[int, int] | None:
    """MACs of a convolution: dense, and as two convolutions at rank 1."""
    if calls is None:
        return None
    shapes = calls.get(conv, ())
    return macs_of(conv, None, split, shapes), macs_of(conv, 1, split, shapes)


def _whole_macs(model: nn.Module, split: str, calls: Calls | None) -> int | None:
    """MACs of all 2D convolutions of a model."""
    if calls is None:
        return None
    convs = [conv for conv, _ in names_of(model, nn.Conv2d)]
    return sum(macs_of(conv, None, split, calls.get(conv, ())) for conv in convs)


def _plan(
    target: dict[str, Any],
    split: str,
    convs: Mapping[str, nn.Conv2d],
    pairs: Sequence[Sequence[Option]],
    whole: Cost,
) -> CompressionPlan:
    """Assemble a plan from the dense and the chosen option of each layer."""
    layers, after = [], whole
    for (name, conv), (dense, pick) in zip(convs.items(), pairs, strict=True):
        shape = tuple(conv.weight.shape)
        layers.append(
            PlannedLayer(name, shape, pick.rank, pick.error, dense.cost, pick.cost)
        )
        after = after.plus(pick.cost, dense.cost)
    return CompressionPlan(target, split, tuple(layers), whole, after)


def _parse_target(target: Mapping[str, Any]) -> tuple[str, Any]:
    """Parse a target into its unit and number, or into `rank` and the rule."""
    if isinstance(target, Mapping) and len(target) == 1:
        ((unit, goal),) = target.items()
        number = isinstance(goal, (int, float)) and not isinstance(goal, bool)
        if unit == 'rank' or (unit in UNITS and number and goal > 0):
            return unit, goal
    raise ValueError(
        f'unknown target {target!r}: give one of params, macs with a number '
        'above 0 (below 1 a fraction of the dense model), or rank with a rank rule'
    )


def _calls(
    model: nn.Module, input_size: Sequence[int], forward: Forward | None
) -> Calls:
    """Inputs of the convolutions for an image of `input_size`."""
    if len(input_size) not in (2, 3):
        raise ValueError(f'input_size {tuple(input_size)!r} is not (H, W) or (C, H, W)')
    size = input_size if len(input_size) == 3 else (3, *input_size)
    like_this = next(p for p in model.parameters() if p.is_floating_point())
    return record_calls(model, like_this.new_zeros(1, *size), forward)
