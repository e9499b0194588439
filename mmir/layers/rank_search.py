"""Rank rules that read the weights: kept energy, and a budget for a whole model."""

import heapq
from collections.abc import Mapping

import torch
from torch import Tensor

from .rank import Rank, describe_kernel, factor_count, fraction, full_rank, wanted_rank
from .split import Split


def spectrum(kernel: Tensor, split: Split) -> Tensor:
    """Squared singular values of the matrix of a kernel.

    Args:
        kernel: Shape (T, S, D2, D1), any floating dtype and device.
        split: How it becomes a matrix.

    Returns:
        Shape (full rank,), float64, on the CPU, the largest first.

    Raises:
        ValueError: For NaN or infinite weights.
    """
    matrix = split.unfold(kernel.detach()).to('cpu', torch.float64)
    if not matrix.isfinite().all():
        raise ValueError('NaN or infinite weights cannot be factorised')
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    return torch.linalg.eigvalsh(matrix.T @ matrix).flip(0).clamp(min=0)


def rank_for_energy(squares: Tensor, energy: float) -> int:
    """Smallest rank whose squared singular values make `energy` of their sum."""
    kept = squares.cumsum(0)
    return min(int((kept < energy * kept[-1]).sum()) + 1, len(squares))


def rank_of_kernel(rule: Rank, kernel: Tensor, split: Split) -> int:
    """Rank a rule asks for, given the weights of the layer.

    Args:
        rule: As in `wanted_rank`, or `dict(energy=e)` with 0 < e <= 1 for the smallest
            r that keeps the part e of the squared norm of the kernel.
        kernel: Shape (T, S, D2, D1).
        split: How it becomes a matrix.

    Returns:
        The rank, which may exceed the full rank if an integer says so.

    Raises:
        ValueError: For a wrong rule, or NaN or infinite weights.
    """
    if not isinstance(rule, Mapping) or 'energy' not in rule:
        return wanted_rank(rule, tuple(kernel.shape), split)
    energy = fraction(rule, 'energy')
    if energy is None or energy > 1:
        raise ValueError(
            f'rank {rule!r} for a kernel of {describe_kernel(tuple(kernel.shape))}: '
            'energy is a number above 0 and up to 1'
        )
    return rank_for_energy(spectrum(kernel, split), energy)


def search_ranks(
    rule: Rank, kernels: Mapping[str, Tensor], split: Split, only_smaller: bool
) -> dict[str, int]:
    """Rank of each layer of a model by a rule.

    Args:
        rule: As in `rank_of_kernel`, or `dict(budget=P)`: P parameters for all factors
            together, an integer, or below 1 a fraction of the parameters of the
            kernels. See `spend` for who gets them.
        kernels: Kernels (T, S, D2, D1) by the name of the layer.
        split: How they become matrices.
        only_smaller: Whether a budget buys no rank at which factors are as large as
            the kernel. A layer with no smaller rank costs nothing and gets rank 1.

    Returns:
        Ranks in the order of `kernels`.

    Raises:
        ValueError: For a wrong rule (or budget), or NaN or infinite weights, naming
            the layer.
    """
    if isinstance(rule, Mapping) and 'budget' in rule:
        return _share(rule, kernels, split, only_smaller)
    ranks = {}
    for name, kernel in kernels.items():
        try:
            ranks[name] = rank_of_kernel(rule, kernel, split)
        except ValueError as error:
            raise ValueError(f'{name}: {error}') from error
    return ranks


def _share(
    rule: Mapping[str, float],
    kernels: Mapping[str, Tensor],
    split: Split,
    only_smaller: bool,
) -> dict[str, int]:
    """Ranks under a budget of parameters for all layers."""
    spectra, costs = {}, {}
    for name, kernel in kernels.items():
        shape = tuple(kernel.shape)
        cost, limit = factor_count(1, shape, split), full_rank(shape, split)
        if only_smaller:
            limit = min(limit, (kernel.numel() - 1) // cost)
        if limit:
            try:
                spectra[name] = spectrum(kernel, split)[:limit].tolist()
            except ValueError as error:
                raise ValueError(f'{name}: {error}') from error
            costs[name] = cost
    dense = sum(kernels[name].numel() for name in spectra)
    return dict.fromkeys(kernels, 1) | spend(_budget(rule, dense), spectra, costs)


def _budget(rule: Mapping[str, float], dense: int) -> int:
    """Number of parameters a rule `dict(budget=...)` allows."""
    value = fraction(rule, 'budget')
    if value is not None and value < 1:
        return int(value * dense)
    if value is None or not isinstance(rule['budget'], int):
        raise ValueError(
            f'rank {rule!r}: budget is a positive integer, the parameters of all '
            'factors, or a fraction below 1 of the parameters of their kernels'
        )
    return rule['budget']


def spend(
    budget: int, spectra: Mapping[str, list[float]], costs: Mapping[str, int]
) -> dict[str, int]:
    """Give each layer rank 1, then the next rank to the layer that gains most by it.

    The gain is the next squared singular value, the error it takes away, for each
    parameter it costs. A layer whose next rank is not affordable any more is passed
    over; where nothing is left to gain nothing is spent.

    Args:
        budget: Number of parameters to spend.
        spectra: Squared singular values a layer may use, the largest first, by name.
        costs: Parameters of one rank of the layer, by name.

    Returns:
        Rank of each layer in `spectra`, at least 1.

    Raises:
        ValueError: If the budget is too small for rank 1 of all layers.
    """
    ranks, least = dict.fromkeys(spectra, 1), sum(costs[name] for name in spectra)
    if least > budget:
        raise ValueError(
            f'a budget of {budget:,} parameters is too small: rank 1 of all '
            f'{len(spectra)} layers takes {least:,}'
        )
    left = budget - least
    # heapq takes the smallest first: gains are negative in it.
    queue = [
        (-squares[1] / costs[name], place, name)
        for place, (name, squares) in enumerate(spectra.items())
        if len(squares) > 1
    ]
    heapq.heapify(queue)
    while queue:
        gain, place, name = heapq.heappop(queue)
        if costs[name] > left or gain == 0:
            continue
        left, rank = left - costs[name], ranks[name] + 1
        ranks[name] = rank
        if rank < len(spectra[name]):
            heapq.heappush(queue, (-spectra[name][rank] / costs[name], place, name))
    return ranks
