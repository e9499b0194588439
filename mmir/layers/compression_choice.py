"""Choosing one option a layer so that a model meets a limit at the least error."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmir.adapters import count_parameters, names_of

from .conv_cost import Calls, Cost, Stopwatch, like, macs_of
from .rank import factor_count, full_rank
from .rank_search import spectrum
from .split import Split, get_split


@dataclass(frozen=True)
class Option:
    """One way to have a layer.

    Attributes:
        rank: Rank of its factors, None for dense.
        cost: What it costs so.
        error: Relative error of its kernel, ||K - A B|| / ||K||.
    """

    rank: int | None
    cost: Cost
    error: float


def errors_of(kernel: Tensor, split: Split) -> list[float]:
    """Relative errors of the best approximations of a kernel (Eckart and Young).

    Args:
        kernel: Shape (T, S, D2, D1), finite.
        split: How it becomes a matrix.

    Returns:
        sqrt(sum of sigma_q^2 over q > r) / ||K|| for r from 0 to the full rank;
        zeros for a kernel of zeros.
    """
    squares = spectrum(kernel, split)
    tails = torch.cat([squares, squares.new_zeros(1)]).flip(0).cumsum(0).flip(0)
    return (tails / tails[0].clamp(min=1e-300)).sqrt().tolist()


def rank_ladder(limit: int) -> list[int]:
    """Ranks worth a look: all up to 16, then in steps of about a tenth."""
    ranks, rank = [], 1
    while rank <= limit:
        ranks.append(rank)
        rank = rank + 1 if rank < 16 else -(-rank * 11 // 10)
    return ranks


class Menus:
    """The options of single convolutions.

    Args:
        split: Split of the factors.
        unit: What an option must save: an attribute of `Cost`; `rank` if no option
            is to be judged.
        calls: Inputs of the convolutions; None to count parameters only.
        watch: Measures; None for no latency.
    """

    def __init__(
        self, split: str, unit: str, calls: Calls | None, watch: Stopwatch | None
    ) -> None:
        self.split, self.unit = split, unit
        self.calls, self.watch = calls, watch

    def dense(self, conv: nn.Conv2d) -> Cost:
        """Cost of a convolution as it is, without its bias."""
        if self.calls is None:
            return Cost(conv.weight.numel())
        shapes = self.calls.get(conv, ())
        macs = macs_of(like(conv, None, self.split, 'meta'), shapes)
        time = self.watch and self.watch(conv, None, self.split, shapes)
        return Cost(conv.weight.numel(), macs, time)

    def menu(self, conv: nn.Conv2d, ranks: Sequence[int] | None = None) -> list[Option]:
        """The dense layer, and the layer at some ranks.

        Args:
            conv: The convolution.
            ranks: Which; None for those that save parameters and the unit.

        Returns:
            The options, dense first.
        """
        cut, shape = get_split(self.split), tuple(conv.weight.shape)
        dense = self.dense(conv)
        shapes = () if self.calls is None else self.calls.get(conv, ())
        unit_macs = macs_of(like(conv, 1, self.split, 'meta'), shapes)
        errors, options = errors_of(conv.weight, cut), [Option(None, dense, 0.0)]
        for rank in rank_ladder(full_rank(shape, cut)) if ranks is None else ranks:
            params, macs = factor_count(rank, shape, cut), rank * unit_macs
            useless = params >= dense.params or (
                self.unit in ('macs', 'latency') and macs >= dense.macs
            )
            if ranks is None and useless:
                break  # all costs grow with the rank
            cost = Cost(
                params,
                None if dense.macs is None else min(macs, dense.macs),
                self.watch and self.watch(conv, rank, self.split, shapes),
            )
            if self.watch and cost.latency >= dense.latency:
                break
            options.append(Option(rank, cost, errors[rank]))
        return options

    def whole(self, model: nn.Module) -> Cost:
        """Parameters of the model, operations and time of its convolutions."""
        params = count_parameters(model)
        if self.calls is None:
            return Cost(params)
        costs = [self.dense(conv) for conv, _ in names_of(model, nn.Conv2d)]
        latency = sum(c.latency for c in costs) if self.watch else None
        return Cost(params, sum(c.macs for c in costs), latency)


def choose(
    menus: Sequence[Sequence[Option]], whole: Cost, unit: str, limit: float
) -> list[Option]:
    """Take steps from dense, least error per saved unit first, down to a limit.

    Args:
        menus: The options of each layer; the first is the dense one.
        whole: Cost of the model if all layers are dense.
        unit: Attribute of `Cost` to save.
        limit: The most the model may cost.

    Returns:
        One option a layer.

    Raises:
        ValueError: If all steps together do not reach the limit.
    """
    steps = [
        (price, index, option)
        for index, menu in enumerate(menus)
        for price, option in _hull(menu, unit)
    ]
    picks, total = [menu[0] for menu in menus], getattr(whole, unit)
    for _, index, option in sorted(steps, key=lambda step: step[0]):
        if total <= limit:
            break
        total += getattr(option.cost, unit) - getattr(picks[index].cost, unit)
        picks[index] = option
    if total > limit:
        raise ValueError(
            f'target {unit}: {limit:,.6g} cannot be reached, the least is '
            f'{total:,.6g} of {getattr(whole, unit):,.6g}; factorise more layers '
            '(include, exclude, split) or allow more'
        )
    return picks


def _hull(menu: Sequence[Option], unit: str) -> list[tuple[float, Option]]:
    """Steps along the lower convex hull of a layer's squared errors over its costs.

    Returns:
        Added squared error per saved unit, which never falls, and the option the
        step leads to.
    """

    def cost(option: Option) -> float:
        """What is to be saved, of an option."""
        return getattr(option.cost, unit)

    steps, here, price = [], menu[0], 0.0
    while cheaper := [option for option in menu if cost(option) < cost(here)]:
        slopes = [
            (option.error**2 - here.error**2) / (cost(here) - cost(option))
            for option in cheaper
        ]
        # Of equal slopes the longest step; rounding must not make prices fall.
        slope = min(slopes)
        here = min(
            (o for o, s in zip(cheaper, slopes, strict=True) if s == slope), key=cost
        )
        price = max(price, slope)
        steps.append((price, here))
    return steps
