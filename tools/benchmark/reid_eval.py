"""Speed of the evaluation of person re-identification, against loops over queries.

Evaluates random features at the size of SYSU-MM01: 10 trials of the all-search and 10
of the indoor-search protocol, for 3,803 queries and a pool of 6,775 gallery images. The
loops are the usual ones: sort each trial's distances, then score one query after the
other, by cumulative sums in NumPy or by Python lists. All must give the same numbers.
Prints a Markdown table and writes the numbers to `--out`.

    python tools/benchmark/reid_eval.py
    python tools/benchmark/reid_eval.py --identities 10   # a small run
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _timing import clock_for, environment, summarize, take_turns

from mmir.cli import cli
from mmir.evaluation import cosine_distances, draw_galleries, get_protocol, rank_metrics
from mmir.evaluation.protocols import SAME_PLACE, SYSU_IR, SYSU_RGB
from mmir.evaluation.ranking import RANKS, Ranking
from mmir.utils.errors import UserError
from mmir.utils.files import write_json

NAMES = ('sysu_all_agw', 'sysu_indoor_agw')
LOOPS = {'sums': 'loop, NumPy', 'lists': 'loop, Python lists'}
INDOOR_SHARE = 56 / 96
"""Share of the identities of SYSU-MM01 that indoor cameras see."""

Labels = tuple[np.ndarray, np.ndarray]
Score = Callable[[np.ndarray, int], list[float]]
"""Scores of a query from its ranked identities and its own."""


def labels(identities: int, cams: Sequence[int], images: int) -> Labels:
    """Identities and cameras (N,) of a test set with about the sizes of SYSU-MM01.

    All identities are seen by the outdoor cameras, a part of them by the others.
    """
    indoor = round(INDOOR_SHARE * identities)
    folders = [
        (identity, cam)
        for identity in range(identities)
        for cam in cams
        if cam in (3, 4, 5, 6) or identity < indoor
    ]
    sizes = np.full(len(folders), images // len(folders))
    sizes[: images - sizes.sum()] += 1
    columns = zip(*folders, strict=True)
    return tuple(np.repeat(np.array(column), sizes) for column in columns)


class Case:
    """Random features, labels and galleries.

    Args:
        identities: Number of identities; 96 gives the size of SYSU-MM01.
        dims: Length of a feature.
    """

    def __init__(self, identities: int, dims: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.asked = labels(identities, SYSU_IR, round(3803 * identities / 96))
        self.pool = labels(identities, SYSU_RGB, round(6775 * identities / 96))
        self.query, self.gallery = (
            torch.randn(len(side[0]), dims, generator=generator, dtype=torch.float64)
            for side in (self.asked, self.pool)
        )
        names = [f'{k:05d}' for k in range(len(self.pool[0]))]
        self.galleries = {
            name: draw_galleries(name, *self.pool, names) for name in NAMES
        }

    def distances(self) -> torch.Tensor:
        """Distances of all queries to the whole pool."""
        return cosine_distances(self.query, self.gallery)

    def ranked(self, distances: torch.Tensor) -> dict[str, Ranking]:
        """Evaluate by mmir."""
        (ids, cams), (other_ids, other_cams) = self.asked, self.pool
        return {
            name: rank_metrics(
                distances, ids, other_ids, cams, other_cams, name, galleries
            )
            for name, galleries in self.galleries.items()
        }

    def looped(self, distances: np.ndarray, score: Score) -> dict[str, list[float]]:
        """Evaluate by a loop over trials and queries: mean R1 to R20, mAP, mINP."""
        found = {}
        for name, galleries in self.galleries.items():
            trials = []
            for index in galleries:
                other = tuple(column[index] for column in self.pool)
                trials.append(
                    plain_trial(distances[:, index], self.asked, other, score)
                )
            found[name] = np.mean(trials, axis=0).tolist()
        return found


def by_sums(ids: np.ndarray, identity: int) -> list[float]:
    """Score a query by cumulative sums: R1 to R20, AP, INP."""
    right = ids == identity
    firsts = np.sort(np.unique(ids, return_index=True)[1])
    curve = np.cumsum(right[firsts])
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(hits) + 1)
    last = np.flatnonzero(right)[-1]
    return [
        *curve[np.minimum(RANKS, len(curve)) - 1],
        (precision * right).sum() / hits[-1],
        hits[-1] / (last + 1),
    ]


def by_lists(ids: np.ndarray, identity: int) -> list[float]:
    """Score a query by Python lists: R1 to R20, AP, INP."""
    ranked = ids.tolist()
    first = list(dict.fromkeys(ranked)).index(identity) + 1
    found = [rank for rank, other in enumerate(ranked, 1) if other == identity]
    precision = [number / rank for number, rank in enumerate(found, 1)]
    return [
        *(float(first <= k) for k in RANKS),
        sum(precision) / len(precision),
        len(found) / found[-1],
    ]


def plain_trial(
    distances: np.ndarray, query: Labels, gallery: Labels, score: Score
) -> np.ndarray:
    """Evaluate one trial, query by query."""
    order = np.argsort(distances, axis=1, kind='stable')
    scores = []
    for row, identity, cam in zip(order, *query, strict=True):
        if cam == SAME_PLACE[0]:
            row = row[gallery[1][row] != SAME_PLACE[1]]
        ids = gallery[0][row]
        if (ids == identity).any():
            scores.append(score(ids, identity))
    return np.mean(scores, axis=0)


def check(ranked: dict[str, Ranking], looped: dict[str, list[float]]) -> float:
    """Largest difference of the two results.

    Raises:
        UserError: It is more than 1e-12.
    """
    worst = max(
        float(np.abs(np.array([*ranked[name].mean.values()]) - looped[name]).max())
        for name in ranked
    )
    if worst > 1e-12:
        raise UserError(f'the two evaluations differ by {worst:.2g}')
    return worst


def process_memory() -> int | None:
    """Peak of the resident bytes of this process; None where it is not known."""
    try:
        resource = import_module('resource')
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == 'darwin' else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(case: Case, rounds: int, threads: int) -> dict[str, Any]:
    """Time all in turns; check that they agree."""
    clock = clock_for('cpu', threads)
    distances = case.distances()
    rows = np.ascontiguousarray(distances.numpy())
    calls = {
        'mmir': lambda: case.ranked(distances),
        'sums': lambda: case.looped(rows, by_sums),
        'lists': lambda: case.looped(rows, by_lists),
        'distances': case.distances,
    }
    ranked = calls['mmir']()
    memory = process_memory()  # before the loops need more
    difference = max(check(ranked, calls[name]()) for name in LOOPS)
    found = summarize(take_turns(calls, rounds, clock), 'mmir')
    return dict(
        queries=rows.shape[0],
        gallery=rows.shape[1],
        evaluations=sum(get_protocol(name).trials for name in NAMES),
        seconds={name: found[name]['ms'][1] / 1e3 for name in calls},
        speedup={name: found[name]['ratio'][1] for name in LOOPS},
        memory=memory,
        difference=difference,
    )


def table(result: dict[str, Any]) -> str:
    """Markdown table of the measurement."""
    seconds, memory = result['seconds'], result['memory']
    lines = [
        f'{result["queries"]:,} queries, {result["gallery"]:,} gallery images, '
        f'{result["evaluations"]} evaluations, results equal to '
        f'{result["difference"]:.0e}',
        '',
        '| step | seconds | times mmir |',
        '|---|---:|---:|',
        f'| distances, once | {seconds["distances"]:.2f} | |',
        f'| all evaluations, mmir | {seconds["mmir"]:.3f} | 1 |',
    ]
    lines += [
        f'| all evaluations, {text} | {seconds[name]:.2f} | '
        f'{result["speedup"][name]:.1f} |'
        for name, text in LOOPS.items()
    ]
    if memory is not None:
        lines += ['', f'peak memory of the process: {memory / 2**20:.0f} MiB']
    return '\n'.join(lines)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--identities', type=int, default=96, help='96: the size of SYSU-MM01')
    add('--dims', type=int, default=2048, help='length of a feature')
    add('--rounds', type=int, default=3)
    add('--threads', type=int, default=1)
    add('--out', type=Path, default=Path('work_dirs/benchmark/reid_eval.json'))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print the table and write the JSON file; return the results."""
    args = parse(arguments)
    torch.set_num_threads(args.threads)
    result = measure(Case(args.identities, args.dims), args.rounds, args.threads)
    options = dict(dims=args.dims, rounds=args.rounds, threads=args.threads)
    result['environment'] = environment('cpu', **options)
    write_json(result, args.out, indent=1)
    print(table(result))
    return result


if __name__ == '__main__':
    sys.exit(cli.run(main))
