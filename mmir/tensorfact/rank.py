"""Rank rules: from what a config says to the rank of one layer."""

import math
from collections.abc import Mapping

from .split import KernelShape, Split

Rank = int | str | Mapping[str, float]
DeltaRank = int | Mapping[str, float]


def describe_kernel(shape: KernelShape) -> str:
    """Name a kernel shape (T, S, D2, D1) for messages, as in `64x3x3x3`."""
    return 'x'.join(map(str, shape)) + ' (out x in/groups x height x width)'


def full_rank(shape: KernelShape, split: Split) -> int:
    """Largest useful rank of a kernel: the smaller side of its matrix."""
    return min(split.matrix_shape(shape))


def factor_count(rank: int, shape: KernelShape, split: Split) -> int:
    """Number of elements of both factors, r(TS + D2 D1) for `ts_dd`."""
    return rank * sum(split.matrix_shape(shape))


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def fraction(rule: object, key: str) -> float | None:
    """The positive number of a rule like `dict(alpha=0.5)`, None if it is none."""
    if not isinstance(rule, Mapping) or set(rule) != {key}:
        return None
    value = rule[key]
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if good and 0 < value < math.inf else None


def wanted_rank(rank: Rank, shape: KernelShape, split: Split) -> int:
    """Rank a rule asks for, which may be more than the kernel can have.

    Args:
        rank: A positive integer; `'full'`; or `dict(alpha=...)`, where alpha is the
            part of the dense parameters to keep:
            r = clamp(floor(alpha * TSDD / (TS + DD)), 1, r_full).
        shape: Kernel shape (T, S, D2, D1).
        split: How the kernel becomes a matrix.

    Returns:
        The rank, at least 1.

    Raises:
        ValueError: If `rank` is none of these; the message names the geometry. Rules
            that read weights are none of these, see `rank_search`.
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
    """Rank of a layer by the rule `rank`, see `wanted_rank`.

    A kernel whose full rank is 1, such as 1x1 under `ts_dd`, has no choice: it gets
    rank 1, which is exact. So one `conv_cfg` serves networks with 1x1 convolutions.

    Raises:
        ValueError: If the rule is wrong or exceeds the full rank of the kernel.
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
    """Rank of a delta beside factors of rank `base_rank`.

    Args:
        rank: An integer from 0 (no delta) to the full rank, or `dict(ratio=...)`
            for max(1, round(ratio * base_rank)).
        base_rank: Rank of the factors the delta widens.
        shape: Kernel shape (T, S, D2, D1).
        split: How the kernel becomes a matrix.

    Returns:
        The rank, 0 for no delta.

    Raises:
        ValueError: For anything else; the message names the geometry.
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
