"""Rank rules: from the setting in a config to the rank of a layer."""

import math
from collections.abc import Mapping

from .split import KernelShape, Split

Rank = int | str | Mapping[str, float]
DeltaRank = int | Mapping[str, float]


def describe_kernel(shape: KernelShape) -> str:
    """Format a kernel shape (T, S, D2, D1) for messages, as in `64x3x3x3`."""
    return 'x'.join(map(str, shape)) + ' (out x in/groups x height x width)'


def full_rank(shape: KernelShape, split: Split) -> int:
    """Full rank of a kernel: the smaller side of its matrix."""
    return min(split.matrix_shape(shape))


def factor_count(rank: int, shape: KernelShape, split: Split) -> int:
    """Number of elements in both factors, r(TS + D2 D1) for `ts_dd`."""
    return rank * sum(split.matrix_shape(shape))


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def fraction(rule: object, key: str) -> float | None:
    """Value of a rule like `dict(alpha=0.5)`; None unless positive and finite."""
    if not isinstance(rule, Mapping) or set(rule) != {key}:
        return None
    value = rule[key]
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if good and 0 < value < math.inf else None


def wanted_rank(rank: Rank, shape: KernelShape, split: Split) -> int:
    """Rank requested by a rule; it may exceed the full rank of the kernel.

    Args:
        rank: Positive integer, `'full'`, or `dict(alpha=...)`, where alpha is the
            fraction of the dense parameters to keep:
            r = clamp(floor(alpha * TSDD / (TS + DD)), 1, r_full).
        shape: Kernel shape (T, S, D2, D1).
        split: How the kernel is reshaped to a matrix.

    Returns:
        The rank, at least 1.

    Raises:
        ValueError: Invalid rule; the message gives the geometry. Rules that read
            weights are not accepted here, see `rank_search`.
    """
    limit = full_rank(shape, split)
    if isinstance(rank, Mapping) and {'energy', 'budget'} & set(rank):
        raise ValueError(
            f'rank {dict(rank)} is read from weights: give it to factorize_ (or, with '
            'energy, to TensorFactConv.from_conv)'
        )
    if rank == 'full':
        return limit
    if _is_int(rank) and rank >= 1:
        return rank
    alpha = fraction(rank, 'alpha')
    if alpha is None:
        raise ValueError(
            f'rank {rank!r} for a kernel of {describe_kernel(shape)}: give an '
            f"integer from 1 to {limit}, 'full', or dict(alpha=...) with alpha > 0"
        )
    rows, cols = split.matrix_shape(shape)
    return max(1, min(math.floor(alpha * rows * cols / (rows + cols)), limit))


def resolve_rank(rank: Rank, shape: KernelShape, split: Split) -> int:
    """Rank of a layer under the rule `rank`, see `wanted_rank`.

    A kernel whose full rank is 1, such as 1x1 under `ts_dd`, always gets rank 1, which
    is exact. One `conv_cfg` therefore works for networks with 1x1 convolutions.

    Raises:
        ValueError: The rule is invalid or exceeds the full rank of the kernel.
    """
    wanted, limit = wanted_rank(rank, shape, split), full_rank(shape, split)
    if wanted > limit > 1:
        raise ValueError(
            f'rank {wanted} exceeds the full rank {limit} of a kernel of '
            f"{describe_kernel(shape)}: give at most {limit}, or 'full'"
        )
    return min(wanted, limit)


def resolve_delta_rank(
    rank: DeltaRank, base_rank: int, shape: KernelShape, split: Split
) -> int:
    """Rank of a delta for factors of rank `base_rank`.

    Args:
        rank: Integer from 0 (no delta) to the full rank, or `dict(ratio=...)` for
            max(1, round(ratio * base_rank)).
        base_rank: Rank of the factors.
        shape: Kernel shape (T, S, D2, D1).
        split: How the kernel is reshaped to a matrix.

    Returns:
        The rank; 0 for no delta.

    Raises:
        ValueError: Invalid rule; the message gives the geometry.
    """
    ratio, limit = fraction(rank, 'ratio'), full_rank(shape, split)
    value = rank if ratio is None else max(1, round(ratio * base_rank))
    if not _is_int(value) or not 0 <= value <= limit:
        raise ValueError(
            f'delta rank {rank!r} for a kernel of {describe_kernel(shape)}: give an '
            f'integer from 0 to {limit}, or dict(ratio=...) with ratio > 0 that '
            'leads to one'
        )
    return value
