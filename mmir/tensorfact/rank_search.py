"""Rank rules that read the weights: energy per layer, and a budget for a model."""

from collections.abc import Mapping

from torch import Tensor

from .allocation import choose, options_of
from .rank import Rank, describe_kernel, fraction, wanted_rank
from .split import Split
from .svd import spectrum


def rank_for_energy(squares: Tensor, energy: float) -> int:
    """Smallest rank whose squared singular values sum to the fraction `energy`."""
    kept = squares.cumsum(0)
    return min(int((kept < energy * kept[-1]).sum()) + 1, len(squares))


def rank_of_kernel(rule: Rank, kernel: Tensor, split: Split) -> int:
    """Rank requested by a rule, given the weights of the layer.

    Args:
        rule: As in `wanted_rank`, or `dict(energy=e)` with 0 < e <= 1 for the smallest
            rank that keeps the fraction e of the squared norm of the kernel.
        kernel: Shape (T, S, D2, D1).
        split: How the kernel is reshaped to a matrix.

    Returns:
        The rank. An integer rule is returned as is, even above the full rank.

    Raises:
        ValueError: Invalid rule, or NaN or infinite weights.
    """
    if not isinstance(rule, Mapping) or 'energy' not in rule:
        return wanted_rank(rule, tuple(kernel.shape), split)
    energy = fraction(rule, 'energy')
    if energy is None or energy > 1:
        raise ValueError(
            f'rank {rule!r} for a kernel of {describe_kernel(tuple(kernel.shape))}: '
            'energy must be a number above 0 and up to 1'
        )
    return rank_for_energy(spectrum(split.unfold(kernel)), energy)


def search_ranks(
    rule: Rank, kernels: Mapping[str, Tensor], split: Split
) -> dict[str, int | None]:
    """Rank of each layer of a model under a rule.

    Args:
        rule: As in `rank_of_kernel`, or `dict(budget=P)`: P parameters for all layers
            together, an integer, or below 1 a fraction of the parameters of the
            kernels. `choose` distributes them.
        kernels: Kernels (T, S, D2, D1) by layer name.
        split: How the kernels are reshaped to matrices.

    Returns:
        Ranks in the order of `kernels`; None where a budget leaves a layer dense.

    Raises:
        ValueError: Invalid rule, a budget that cannot be met, or NaN or infinite
            weights (names the layer).
    """
    budget = isinstance(rule, Mapping) and 'budget' in rule
    found = {}
    for name, kernel in kernels.items():
        try:
            found[name] = (
                options_of(kernel, split)
                if budget
                else rank_of_kernel(rule, kernel, split)
            )
        except ValueError as error:
            raise ValueError(f'{name}: {error}') from error
    if not budget:
        return found
    dense = sum(kernel.numel() for kernel in kernels.values())
    picks = choose([*found.values()], dense, 'params', _budget(rule, dense))
    return {name: pick.rank for name, pick in zip(found, picks, strict=True)}


def _budget(rule: Mapping[str, float], dense: int) -> int:
    """Number of parameters that a rule `dict(budget=...)` allows."""
    value = fraction(rule, 'budget')
    if value is not None and value < 1:
        return int(value * dense)
    if value is None or not isinstance(rule['budget'], int):
        raise ValueError(
            f'rank {rule!r}: budget must be a positive integer, the parameters of all '
            'layers, or a fraction below 1 of the parameters of their kernels'
        )
    return rule['budget']
