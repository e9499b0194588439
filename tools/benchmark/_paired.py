"""Paired differences of rows over seeds, and tables."""

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence

import numpy as np


def bootstrap_interval(
    values: Sequence[float], coverage: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean, over all resamples of a few values.

    With n values there are n**n resamples, all of which are taken, so the result is
    exact and has no seed. With 3 values the interval spans nearly all of them.

    Args:
        values (Sequence[float]): At most 6 values.
        coverage (float): Share of the resampled means inside.

    Returns:
        tuple[float, float]: Lower and upper end.
    """
    resamples = np.array(list(itertools.product(values, repeat=len(values))))
    tail = 50 * (1 - coverage)
    low, high = np.percentile(resamples.mean(axis=1), [tail, 100 - tail])
    return float(low), float(high)


def difference(
    values: Mapping[int, float], others: Mapping[int, float], scale: float = 100
) -> str:
    """Mean paired difference with its interval, in bold where it excludes 0.

    Args:
        values, others: Seed -> value of a row.
        scale: Factor of the differences; 100 gives points.

    Returns:
        str: Empty if fewer than 3 seeds are common.
    """
    seeds = sorted(set(values) & set(others))
    if len(seeds) < 3:
        return ''
    differences = [scale * (values[seed] - others[seed]) for seed in seeds]
    low, high = bootstrap_interval(differences)
    text = f'{statistics.mean(differences):+.1f} [{low:+.1f}, {high:+.1f}]'
    return f'**{text}**' if low > 0 or high < 0 else text


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation; the mean alone of a single value."""
    mean = f'{statistics.mean(values):.1f}' if values else ''
    return f'{mean} ± {statistics.stdev(values):.1f}' if len(values) > 1 else mean


def table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Markdown table."""
    text = ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)]
    text += ['| ' + ' | '.join(map(str, line)) + ' |' for line in lines]
    return '\n'.join(text)
