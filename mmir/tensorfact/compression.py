"""Which convolutions of a model to factorize, and at which rank, for a given size."""

import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from mmir.adapters import count_parameters, names_of

from .allocation import Cost, Option, choose, options_of
from .conv_cost import Calls, Forward, macs_of, record_calls
from .factorize import FactorizeReport, factorize_
from .layer import TensorFactConv
from .rank import describe_kernel
from .split import KernelShape, get_split

UNITS = ('params', 'macs')
"""What a plan can save."""


@dataclass(frozen=True)
class PlannedLayer:
    """What a plan does to one convolution.

    Attributes:
        name: Name of the module.
        shape: Shape of the kernel, (T, S, D2, D1).
        rank: Rank of the factors; None if it stays dense.
        error: Relative error of the kernel, ||K - A B|| / ||K||.
        before: Cost of the dense layer, without its bias.
        after: Cost afterwards. The operations are those of the form with two
            convolutions where these are fewer, else of one convolution.
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
        target: What was asked for.
        split: Split of the factors.
        layers: The convolutions that may be factorized, in the order of the model.
        before: Cost of the dense model: all its parameters; operations of its 2D
            convolutions.
        after: Likewise afterwards.
    """

    target: dict[str, Any]
    split: str
    layers: tuple[PlannedLayer, ...]
    before: Cost
    after: Cost

    @property
    def ranks(self) -> dict[str, int]:
        """Ranks of the layers that become factors, by name."""
        return {each.name: each.rank for each in self.layers if each.rank}

    def apply_(self, model: nn.Module) -> FactorizeReport:
        """Factorize a model as planned, in place.

        Where the plan saves operations, evaluation runs two convolutions (see
        `TensorFactConv`, mode `auto`); where it saves parameters, the layer decides
        by itself. Training reconstructs the kernel.

        Args:
            model: The model the plan was made for, or another of its structure.

        Returns:
            What was done, as by `factorize_`.

        Raises:
            ValueError: If a planned layer is missing, of another shape or not
                finite, by name. The model is unchanged then.
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
        for each in self.layers:
            conv = modules.get(each.name)
            if not isinstance(conv, nn.Conv2d) or conv.weight.shape != each.shape:
                found = 'nothing' if conv is None else repr(conv)
                raise ValueError(
                    f'{each.name}: planned for a convolution of '
                    f'{describe_kernel(each.shape)}, the model has {found}'
                )
            if not conv.weight.isfinite().all():
                raise ValueError(f'{each.name}: NaN or infinite weights')

    def to_json(self) -> str:
        """The plan as text of JSON, for `from_json`."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> 'CompressionPlan':
        """The plan that `to_json` wrote.

        Raises:
            ValueError: If the text is none.
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
            raise ValueError(f'this is no compression plan: {error!r}') from error

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


def _changes(before: Cost, after: Cost) -> tuple[str, str]:
    """Cells `before -> after` of a table; empty for what is not known."""

    def cell(old: float | None, new: float | None, form: str) -> str:
        """Both numbers, or nothing."""
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

    Each may stay dense or take a rank that makes it smaller and, for a target of
    operations, cheaper as two convolutions. `choose` takes the step of least error per
    saved unit until the target is met, as it does for `rank=dict(budget=...)`.

    Args:
        model: Dense model with its trained weights; it stays as it is.
        target: The most that is allowed, below 1 a fraction of the dense model:
            `params` of the model, or `macs` (multiply-accumulate operations) of its 2D
            convolutions. Or `rank`: tells what `factorize_` by this rank rule would do.
        input_size: (H, W) for 3 channels or (C, H, W); for `macs`.
        split: How kernels become matrices, see `SPLITS`.
        forward: `forward(model, x)` with x (1, C, H, W); None for `model(x)`.
        **select: `include`, `exclude` and `factorize_stem` of `factorize_`.

    Raises:
        ValueError: For a wrong argument, a model with factors, weights not finite
            (with the layer), or an unreachable target (with the least there is).
    """
    unit, goal = _parse_target(target)
    if unit == 'macs' and input_size is None:
        raise ValueError('target macs: give input_size=(H, W) or (C, H, W)')
    if any(isinstance(m, TensorFactConv) for m in model.modules()):
        raise ValueError('the model has factors already: merge_ it before planning')
    # On a copy, so that one place decides what can be factorized.
    rule = goal if unit == 'rank' else 1
    ranks = factorize_(copy.deepcopy(model), rule, split, **select).ranks
    convs = {name: model.get_submodule(name) for name in ranks}
    calls = None if input_size is None else _calls(model, input_size, forward)
    whole = Cost(count_parameters(model), _whole_macs(model, split, calls))
    menus = [
        options_of(
            conv.weight,
            get_split(split),
            _layer_macs(conv, split, calls),
            save_macs=unit == 'macs',
            ranks=[ranks[name]] if unit == 'rank' else None,
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
    """Operations of a convolution, dense and as two at rank 1."""
    if calls is None:
        return None
    shapes = calls.get(conv, ())
    return macs_of(conv, None, split, shapes), macs_of(conv, 1, split, shapes)


def _whole_macs(model: nn.Module, split: str, calls: Calls | None) -> int | None:
    """Operations of all 2D convolutions of a model."""
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
    """Put a plan together from the dense and the chosen option of each layer."""
    layers, after = [], whole
    for (name, conv), (dense, pick) in zip(convs.items(), pairs, strict=True):
        shape = tuple(conv.weight.shape)
        layers.append(
            PlannedLayer(name, shape, pick.rank, pick.error, dense.cost, pick.cost)
        )
        after = after.plus(pick.cost, dense.cost)
    return CompressionPlan(target, split, tuple(layers), whole, after)


def _parse_target(target: Mapping[str, Any]) -> tuple[str, Any]:
    """The unit of a target and its number, or `rank` and the rule."""
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
    """What the convolutions get when the model gets an image of `input_size`."""
    if len(input_size) not in (2, 3):
        raise ValueError(f'input_size {tuple(input_size)!r} is not (H, W) or (C, H, W)')
    size = input_size if len(input_size) == 3 else (3, *input_size)
    like_this = next(p for p in model.parameters() if p.is_floating_point())
    return record_calls(model, like_this.new_zeros(1, *size), forward)
