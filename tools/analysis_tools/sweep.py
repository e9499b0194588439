"""Sweep: train a config for every combination of some of its values.

    python tools/analysis_tools/sweep.py CONFIG --sweep rank 1 2 4 --sweep lr 1e-3 1e-4

Finished runs are skipped and interrupted ones are resumed, so the same command
continues a sweep. After every run, a table (mean and standard deviation over the
seeds), a plot and a JSON file of all results are updated in the output folder.
"""

import argparse
import ast
import itertools
import sys
from collections.abc import Iterable
from pathlib import Path

from mmengine.config import Config, ConfigDict

from mmir.cli import cli
from mmir.cli.study import collect, grouped, run_once, table
from mmir.testing.demo import apply_demo
from mmir.utils.errors import UserError
from mmir.utils.files import write_json
from mmir.visualization import save_curves

NAMES = {
    'rank': 'model.adapt.rank',
    'split': 'model.adapt.split',
    'delta_rank': 'model.adapt.delta.rank',
    'norm': 'model.adapt.norm',
    'lr': 'optim_wrapper.optimizer.lr',
}
SUBSET = {'fraction': 'frac', 'images': 'num'}


def parse_args() -> argparse.Namespace:
    short = ', '.join([*NAMES, *SUBSET])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help=cli.CONFIG_HELP)
    parser.add_argument(
        '--sweep',
        nargs='+',
        action='append',
        required=True,
        metavar=('KEY', 'VALUE'),
        help=f'key of the config, or {short}; repeat for a grid',
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--metric', default='coco/bbox_mAP_50')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/sweep'))
    cli.add_cfg_options(parser)
    parser.add_argument('--demo', action='store_true', help='small, synthetic data')
    return parser.parse_args()


def parse_value(text: str) -> object:
    """Parse a number, list or dict; anything else is kept as a string."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def axes_of(sweeps: Iterable[list[str]]) -> dict[str, list]:
    """Values of each swept key.

    Raises:
        UserError: A key has no values or is given twice.
    """
    axes: dict[str, list] = {}
    for key, *values in sweeps:
        if not values or key in axes:
            raise UserError(f'--sweep {key}: give its values, once: --sweep {key} 1 2')
        axes[key] = [parse_value(value) for value in values]
    return axes


def change(cfg: Config, key: str, value: object) -> None:
    """Set one swept value, in place.

    Raises:
        UserError: The config has no such key.
    """
    if key in SUBSET:
        dataset = cfg.train_dataloader.dataset
        while 'dataset' in dataset:
            dataset = dataset.dataset
        seed = (dataset.get('subset') or {}).get('seed', 0)
        dataset.subset = ConfigDict({SUBSET[key]: value, 'seed': seed})
        return
    *path, last = NAMES.get(key, key).split('.')
    node = cfg._cfg_dict
    for depth, part in enumerate(path):
        node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise UserError(
                f'--sweep {key}: no {".".join(path[: depth + 1])} in config'
            )
    # replace, not merge: dict(energy=.9) merged into dict(alpha=1) is not a rule
    node[last] = ConfigDict(value) if isinstance(value, dict) else value


def set_seed(cfg: Config, seed: int) -> None:
    """Seed everything random in a run, including the choice of a few-shot subset."""
    cfg.randomness = dict(seed=seed)
    dataset = cfg.train_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    if 'seed' in (dataset.get('subset') or {}):
        dataset.subset.seed = seed


def folder_name(settings: dict[str, object]) -> str:
    """Folder name of a run, safe on any file system."""
    text = '_'.join(
        f'{key.rpartition(".")[2]}={value}' for key, value in settings.items()
    )
    return ''.join(c if c.isalnum() or c in '._=-' else '-' for c in text)


def report(out: Path, axes: dict[str, list], metric: str) -> None:
    """Write table, plot and JSON of the runs in `out`."""
    rows = collect(out)
    keys = list(axes)
    text = table(rows, keys, {metric: lambda row: row['final'][metric]})
    (out / 'table.md').write_text(text + '\n')
    write_json(rows, out / 'results.json')
    first, *others = keys
    lines: dict[str, tuple[list, list]] = {}
    for key, runs in grouped(rows, [*others, first]).items():
        name = ', '.join(f'{k}={v}' for k, v in zip(others, key, strict=False))
        x, y = lines.setdefault(name or metric, ([], []))
        x.append(key[-1] if isinstance(key[-1], int | float) else str(key[-1]))
        y.append(sum(run['final'][metric] for run in runs) / len(runs))
    save_curves(out / 'sweep.png', {metric: lines}, first)
    print(text, flush=True)


def main() -> None:
    args = parse_args()
    axes = axes_of(args.sweep)
    base = cli.load_config(args.config, args.cfg_options)
    for seed in args.seeds:
        for values in itertools.product(*axes.values()):
            settings = dict(zip(axes, values, strict=True), seed=seed)
            cfg = Config(base.to_dict(), filename=args.config)
            for key, value in zip(axes, values, strict=True):
                change(cfg, key, value)
            set_seed(cfg, seed)
            work_dir = args.out / folder_name(settings)
            if args.demo:
                cfg = apply_demo(cfg, str(work_dir))
            run_once(cfg, work_dir, settings, args.metric)
            report(args.out, axes, args.metric)


if __name__ == '__main__':
    sys.exit(cli.run(main))
