"""Ranks for the convolutions of a model at the least error within a limit.

One algorithm for `rank=dict(budget=...)` and for `compression_plan`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .rank import factor_count, full_rank
from .split import Split
from .svd import spectrum


@dataclass(frozen=True)
class Cost:
    """Cost of a layer or a model; what was not asked for is None.

    Attributes:
        params: Number of parameters.
        macs: Multiply-accumulate operations of one forward pass.
    """

    params: int
    macs: int | None = None

    def plus(self, after: 'Cost', before: 'Cost') -> 'Cost':
        """This cost when a part of it that cost `before` costs `after`."""
        macs = self.macs
        if macs is not None:
            macs += after.macs - before.macs
        return Cost(self.params + after.params - before.params, macs)


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
    squares = spectrum(split.unfold(kernel))
    tails = torch.cat([squares, squares.new_zeros(1)]).flip(0).cumsum(0).flip(0)
    return (tails / tails[0].clamp(min=1e-300)).sqrt().tolist()


def rank_ladder(limit: int) -> list[int]:
    """Ranks worth a look: all up to 16, then in steps of about a tenth."""
    ranks, rank = [], 1
    while rank <= limit:
        ranks.append(rank)
        rank = rank + 1 if rank < 16 else -(-rank * 11 // 10)
    return ranks


def options_of(
    kernel: Tensor,
    split: Split,
    macs: tuple[int, int] | None = None,
    *,
    save_macs: bool = False,
    ranks: Sequence[int] | None = None,
) -> list[Option]:
    """Ways to have one convolution: dense, and at some ranks.

    Args:
        kernel: Shape (T, S, D2, D1).
        split: How it becomes a matrix.
        macs: Operations of the dense layer and of two convolutions at rank 1; None to
            count parameters only.
        save_macs: Whether a rank must save operations as well as parameters.
        ranks: Ranks to offer. Default: every rank that saves.

    Returns:
        The options, dense first.

    Raises:
        ValueError: For NaN or infinite weights.
    """
    shape, dense = tuple(kernel.shape), Cost(kernel.numel(), macs and macs[0])
    errors, options = errors_of(kernel, split), [Option(None, dense, 0.0)]
    for rank in rank_ladder(full_rank(shape, split)) if ranks is None else ranks:
        cost = Cost(factor_count(rank, shape, split), macs and rank * macs[1])
        useless = cost.params >= dense.params
        if ranks is None and (useless or (save_macs and cost.macs >= dense.macs)):
            break  # costs grow with the rank
        if macs:  # the layer reconstructs its kernel where that multiplies less
            cost = Cost(cost.params, min(cost.macs, dense.macs))
        options.append(Option(rank, cost, errors[rank]))
    return options


def choose(
    menus: Sequence[Sequence[Option]], whole: int, unit: str, limit: float
) -> list[Option]:
    """Take steps from dense, least error per saved unit first, down to a limit.

    The error is the squared relative one, because a norm follows most convolutions.
    Steps lie on the lower convex hull of a layer's options, so nothing that costs the
    same or less has a smaller sum of errors.

    Args:
        menus: The options of each layer; the first is the dense one.
        whole: Cost of the model if all layers are dense.
        unit: Attribute of `Cost` to save.
        limit: The most the model may cost.

    Returns:
        One option per layer.

    Raises:
        ValueError: If all steps together do not reach the limit.
    """
    steps = [
        (price, index, option)
        for index, menu in enumerate(menus)
        for price, option in _hull(menu, unit)
    ]
    picks, total = [menu[0] for menu in menus], whole
    for _, index, option in sorted(steps, key=lambda step: step[0]):
        if total <= limit:
            break
        total += getattr(option.cost, unit) - getattr(picks[index].cost, unit)
        picks[index] = option
    if total > limit:
        raise ValueError(
            f'target {unit}: {limit:,.6g} cannot be reached, the least is '
            f'{total:,.6g} of {whole:,.6g}; factorize more layers (include, exclude, '
            'split) or allow more'
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
