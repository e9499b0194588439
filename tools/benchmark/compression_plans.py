"""Accuracy of a trained detector at three sizes: planned, uniform and energy ranks.

Three uniform rank rules, each of which keeps a fraction `alpha` of every kernel, define
the budgets. For each budget, `compression_plan` and the highest energy that fits choose
ranks for the same layers. All models are evaluated without fine-tuning, on the
validation data of the config. Prints a Markdown table and writes the numbers to
`--out`.

    python tools/benchmark/compression_plans.py CONFIG CHECKPOINT
"""

import argparse
import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.runner import Runner
from torch import nn

from mmir.adapters import merge_
from mmir.adapters.walk import count_parameters
from mmir.cli import cli
from mmir.tensorfact import CompressionPlan, compression_plan, factorize_
from mmir.tensorfact.rank import factor_count, wanted_rank
from mmir.tensorfact.rank_search import rank_for_energy
from mmir.tensorfact.split import SPLITS, get_split
from mmir.tensorfact.svd import spectrum
from mmir.utils.files import write_json

STEPS = 30
"""Number of bisection steps in the search for the energy."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.parser(__doc__.splitlines()[0])
    add = parser.add_argument
    add('checkpoint', help='weights of the trained detector')
    add(
        '--alphas',
        nargs='+',
        type=float,
        default=[0.9, 0.75, 0.5],
        help='fractions of the kernels that the uniform ranks keep',
    )
    add('--split', choices=SPLITS, default='ts_dd', help='split of the factors')
    add('--exclude', nargs='*', help='expressions of layers to skip; default: heads')
    add('--out', type=Path, default=Path('work_dirs/benchmark/compression.json'))
    return parser.parse_args(arguments)


def size_at(dense: CompressionPlan, ranks: Mapping[str, int]) -> int:
    """Parameter count at the given ranks; layers that would grow stay dense."""
    total, split = dense.before.params, get_split(dense.split)
    for layer in dense.layers:
        size = factor_count(ranks[layer.name], layer.shape, split)
        total += min(size - layer.before.params, 0)
    return total


def energy_within(model: nn.Module, dense: CompressionPlan, budget: int) -> float:
    """Largest fraction of energy at which a model has at most `budget` parameters."""
    split = get_split(dense.split)
    spectra = {
        layer.name: spectrum(split.unfold(model.get_submodule(layer.name).weight))
        for layer in dense.layers
    }
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        energy = (low + high) / 2
        ranks = {name: rank_for_energy(s, energy) for name, s in spectra.items()}
        fits = size_at(dense, ranks) <= budget
        low, high = (energy, high) if fits else (low, energy)
    return low


def rows(
    model: nn.Module, alphas: Sequence[float], split: str, select: Mapping[str, Any]
) -> Iterator[tuple[str, Callable[[nn.Module], object]]]:
    """Yield (name, function that compresses a model in place) for every budget.

    Args:
        model: Dense model with trained weights.
        alphas: Fractions of the kernels that the uniform ranks keep.
        split: Split of the factors.
        select: `exclude` of `factorize_`, if given.
    """
    dense = compression_plan(model, dict(rank=1), split=split, **select)
    yield 'dense', lambda model: None
    for alpha in alphas:
        rule = dict(alpha=alpha)
        ranks = {
            e.name: wanted_rank(rule, e.shape, get_split(split)) for e in dense.layers
        }
        budget = size_at(dense, ranks)
        plan = compression_plan(model, dict(params=budget), split=split, **select)
        yield f'plan, {budget:,} parameters', plan.apply_
        common = dict(split=split, **select)
        yield f'uniform, alpha {alpha:g}', partial(factorize_, rank=rule, **common)
        energy = energy_within(model, dense, budget)
        rule = dict(energy=energy)
        yield f'energy {energy:.4f}', partial(factorize_, rank=rule, **common)


def evaluate(runner: Runner, model: nn.Module) -> dict[str, float]:
    """Metrics of a model on the validation data of a runner."""
    runner.model = model
    return {name: float(value) for name, value in runner.val().items()}


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown table of the results, the dense model first."""
    metrics, dense = list(results[0]['metrics']), results[0]['params']
    heads = ['ranks', 'parameters', 'of dense', *metrics]
    lines = [heads, ['---'] * len(heads)]
    for row in results:
        share = f'{row["params"] / dense:.1%}'
        values = [f'{row["metrics"][name]:.3f}' for name in metrics]
        lines.append([row['ranks'], f'{row["params"]:,}', share, *values])
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print the table and write the JSON file; return the rows."""
    args = parse(arguments)
    cli.check_checkpoint(args.checkpoint, 'checkpoint', args.trust_checkpoint)
    cfg = cli.prepare(args)
    # No training: no moving average to swap in, no best checkpoint to keep.
    cfg.load_from, cfg.resume, cfg.custom_hooks = None, False, []
    cfg.default_hooks = dict(cfg.get('default_hooks') or {}, checkpoint=None)
    runner = cli.build_runner(cfg)
    runner.load_checkpoint(args.checkpoint, strict=True)
    model = merge_(runner.model)
    select = {} if args.exclude is None else dict(exclude=args.exclude)
    results: list[dict[str, Any]] = []
    for name, compress_ in rows(model, args.alphas, args.split, select):
        smaller = copy.deepcopy(model)
        compress_(smaller)
        params = count_parameters(smaller)
        results.append(
            dict(ranks=name, params=params, metrics=evaluate(runner, smaller))
        )
        measured = dict(config=args.config, checkpoint=args.checkpoint, rows=results)
        write_json(dict(measured, split=args.split, demo=args.demo), args.out)
    print(table(results))
    return results


if __name__ == '__main__':
    sys.exit(cli.run(main))
