"""Rank allocation: ranks for a model's convolutions with the least error in a limit.

Used by `rank=dict(budget=...)` and by `compression_plan`.
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
    """Cost of a layer or a model.

    Attributes:
        params: Number of parameters.
        macs: Multiply-accumulate operations of one forward pass; None if not counted.
    """

    params: int
    macs: int | None = None

    def plus(self, after: 'Cost', before: 'Cost') -> 'Cost':
        """This cost after one part changes its cost from `before` to `after`."""
        macs = self.macs
        if macs is not None:
            macs += after.macs - before.macs
        return Cost(self.params + after.params - before.params, macs)


@dataclass(frozen=True)
class Option:
    """One form of a layer: dense, or factorized at some rank.

    Attributes:
        rank: Rank of the factors; None for dense.
        cost: Cost of the layer in this form.
        error: Relative error of the kernel, ||K - A B|| / ||K||.
    """

    rank: int | None
    cost: Cost
    error: float


def errors_of(kernel: Tensor, split: Split) -> list[float]:
    """Relative errors of the best low-rank approximations of a kernel (Eckart-Young).

    Args:
        kernel: Shape (T, S, D2, D1), finite.
        split: How the kernel is reshaped to a matrix.

    Returns:
        sqrt(sum of sigma_q^2 over q > r) / ||K|| for r from 0 to the full rank; all
        zeros for a zero kernel.
    """
    squares = spectrum(split.unfold(kernel))
    tails = torch.cat([squares, squares.new_zeros(1)]).flip(0).cumsum(0).flip(0)
    return (tails / tails[0].clamp(min=1e-300)).sqrt().tolist()


def rank_ladder(limit: int) -> list[int]:
    """Candidate ranks: all up to 16, then in steps of about 10 %."""
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
    """List the options of one convolution: dense, and factorized at some ranks.

    Args:
        kernel: Shape (T, S, D2, D1).
        split: How the kernel is reshaped to a matrix.
        macs: MACs of the dense layer, and of two convolutions at rank 1. None counts
            parameters only.
        save_macs: Whether a rank must save MACs as well as parameters.
        ranks: Ranks to offer. Default: the ranks of `rank_ladder` that save.

    Returns:
        The options, dense first.

    Raises:
        ValueError: NaN or infinite weights.
    """
    shape, dense = tuple(kernel.shape), Cost(kernel.numel(), macs and macs[0])
    errors, options = errors_of(kernel, split), [Option(None, dense, 0.0)]
    for rank in rank_ladder(full_rank(shape, split)) if ranks is None else ranks:
        cost = Cost(factor_count(rank, shape, split), macs and rank * macs[1])
        useless = cost.params >= dense.params
        if ranks is None and (useless or (save_macs and cost.macs >= dense.macs)):
            break  # costs grow with the rank
        if macs:  # the layer reconstructs its kernel where that takes fewer MACs
            cost = Cost(cost.params, min(cost.macs, dense.macs))
        options.append(Option(rank, cost, errors[rank]))
    return options


def choose(
    menus: Sequence[Sequence[Option]], whole: int, unit: str, limit: float
) -> list[Option]:
    """Choose one option per layer such that the model costs at most `limit`.

    Greedy: starting from all dense, it takes the step that adds the least error per
    saved unit until the limit is met. Steps follow the lower convex hull of each
    layer's options, so no choice of the same or lower cost has a smaller sum of errors.
    The error is the squared relative error, because a norm follows most convolutions.

    Args:
        menus: Options of each layer, dense first.
        whole: Cost of the model with all layers dense.
        unit: Attribute of `Cost` to save.
        limit: Largest allowed cost of the model.

    Returns:
        One option per layer.

    Raises:
        ValueError: The limit cannot be reached.
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
    """Steps along the lower convex hull of a layer's squared error over its cost.

    Returns:
        Per step the added squared error per saved unit, which never decreases, and the
        resulting option.
    """

    def cost(option: Option) -> float:
        """Cost of an option in `unit`."""
        return getattr(option.cost, unit)

    steps, here, price = [], menu[0], 0.0
    while cheaper := [option for option in menu if cost(option) < cost(here)]:
        slopes = [
            (option.error**2 - here.error**2) / (cost(here) - cost(option))
            for option in cheaper
        ]
        # Of equal slopes take the longest step; rounding must not make prices decrease.
        slope = min(slopes)
        here = min(
            (o for o, s in zip(cheaper, slopes, strict=True) if s == slope), key=cost
        )
        price = max(price, slope)
        steps.append((price, here))
    return steps
