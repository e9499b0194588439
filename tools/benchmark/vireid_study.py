"""AGW, CAJ and TMPA, and parts of TMPA, on small sets of people.

All rows of a task take the same number of steps and see the same batches in the same
order. CAJ and PedMix add their augmentation; the draws of CAJ also shift the random
crops. For each split, `--search` tries learning rates for the baseline and for TMPA on
held-out training people of that split. The other rows of a network inherit its rate.
Afterwards, all rows are tested on the test people of the split, which neither its
training nor its search has seen. Several processes may run at once; finished runs are
skipped. `vireid_study_report.py` writes the tables.

    python tools/benchmark/vireid_study.py --task people --weights FOLDER --search
    python tools/benchmark/vireid_study.py --task people --weights FOLDER
    python tools/benchmark/vireid_study.py --task crops --data FOLDER \\
        --weights FOLDER --clip FOLDER
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from _runs import drain
from _vireid_rows import CLIP, ROWS, model_config
from _vireid_runs import (
    Run,
    chosen,
    fit_and_test,
    ranked,
    search_runs,
    train_config,
    write_result,
)
from _vireid_tasks import TASKS, clip_features
from mmengine.config import Config

from mmir.cli import cli
from mmir.utils.errors import UserError

SEARCH_ROWS = dict(agw='baseline', tmpa='TMPA')
"""Network -> the row whose search decides its learning rate."""


def run_config(run: Run, args: argparse.Namespace) -> Config:
    """Config of a run for `Runner.from_cfg`."""
    task, row = TASKS[run.task], ROWS[run.row]

    def model(people: int) -> dict:
        backbone = task.backbone(args.weights)
        return model_config(row, backbone, task.stem, task.channels, people, run.seed)

    return train_config(run, args, model, row.caj)


def execute(run: Run, args: argparse.Namespace) -> None:
    """Train and test in both directions; write the result."""
    begin = time.monotonic()
    if run.row == CLIP:
        found = dict(values=clip_values(run, args), trainable=0)
    else:
        found, _ = fit_and_test(run, run_config(run, args))
    write_result(run, args.out, begin, **found)


def clip_values(run: Run, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Measures of frozen features of CLIP on the test people of a split."""
    task = TASKS[run.task]
    root = task.root(args.data, args.out / run.task)
    parts = task.images(root, run.seed)
    names = sorted({image.path for part in parts for image in part})
    cache = args.out / run.task / 'clip_features.pt'
    rows = dict(zip(names, clip_features(args.clip, root, names, cache), strict=True))
    features = torch.stack([rows[image.path] for image in parts[1]])
    return ranked(features, parts[1], task.protocols)


def test_runs(
    task: str, rows: Sequence[str], seeds: Sequence[int], out: Path
) -> list[Run]:
    """Runs on the test people, all rows of a seed after another."""
    runs = []
    for seed in seeds:
        settings = chosen(task, out, seed, SEARCH_ROWS)
        for row in rows:
            choice = '{}' if row == CLIP else settings[ROWS[row].network]
            runs.append(Run(task, row, seed, choice=choice))
    return runs


def parse() -> argparse.Namespace:
    """Read the command line.

    Raises:
        UserError: A folder that the task needs is not given, or `--search` is asked for
            rows that inherit their rate.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--task', choices=['people', 'crops'], default='people')
    add('--data', type=Path, help='folder that holds person_crops')
    add('--weights', type=Path, help='folder with weights of MobileNetV2')
    add('--clip', type=Path, help='folder with weights of CLIP; adds a row of `crops`')
    add('--out', type=Path, default=Path('work_dirs/vireid'))
    searched = [*SEARCH_ROWS.values()]
    add('--rows', nargs='+', choices=[*ROWS], help='default: all that apply')
    add('--seeds', nargs='+', type=int, help='default: those of the task')
    add(
        '--search',
        action='store_true',
        help=f'try learning rates for {" and ".join(searched)} on held-out training '
        'people of the split of each seed; other rows of a network inherit the best',
    )
    args = parser.parse_args()
    task = TASKS[args.task]
    once = args.search and not task.own_splits
    args.seeds = args.seeds or [*(task.seeds[:1] if once else task.seeds)]
    args.rows = args.rows or (searched if args.search else [*ROWS])
    inherit = [row for row in args.rows if row not in searched]
    if args.search and inherit:
        raise UserError(
            f'--search does not run {inherit}, which inherit their rate: choose --rows '
            f'from {searched}'
        )
    if not args.weights:
        raise UserError('--weights names the folder with weights of MobileNetV2')
    if args.task == 'crops' and not args.data:
        raise UserError('--task crops needs --data')
    for name in ('data', 'weights', 'clip', 'out'):
        path = getattr(args, name)
        setattr(args, name, path.resolve() if path else Path())
    return args


def main() -> None:
    args = parse()
    rows = [*args.rows, *([CLIP] if args.clip != Path() else [])]
    if args.search:
        runs = search_runs(args.task, args.rows, args.seeds)
    else:
        runs = test_runs(args.task, rows, args.seeds, args.out)
    drain(
        lambda: runs,
        len(runs),
        lambda run: run.folder(args.out),
        lambda run: execute(run, args),
    )


if __name__ == '__main__':
    sys.exit(cli.run(main))
