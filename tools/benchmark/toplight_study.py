"""TOPLight and its parts on crops of people: pretraining, soup, FDR.

MobileNetV2 from ImageNet weights. The pretrainings see RGB crops of cars, bicycles and
what flies, see `_toplight_objects.py`; their views and losses are those of the configs
of TOPLight. Then all rows are fine-tuned on the crops of people of `vireid_study.py`,
with its splits, schedule and search: `--search` tries learning rates for `plain` and
for `plain, FDR` on held-out training people of each split, and the other rows inherit
theirs. Rows differ in nothing else. Several processes may run at once; finished runs
are skipped. `vireid_study_report.py` writes the tables.

    python tools/benchmark/toplight_study.py --data FOLDER --weights FOLDER --search
    python tools/benchmark/toplight_study.py --data FOLDER --weights FOLDER
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from _runs import RESULT, drain
from _toplight_objects import object_folder
from _toplight_rows import (
    PATHS_FILE,
    ROWS,
    SEARCH_ROWS,
    model_config,
    pretraining_parts,
)
from _vireid_runs import (
    Run,
    base_config,
    chosen,
    fit_and_test,
    search_runs,
    train_config,
    write_result,
)
from _vireid_tasks import TASKS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, save_checkpoint

from mmir.cli import cli
from mmir.utils.errors import UserError

TASK = 'crops'
PRETRAINING = 'pretraining, '
"""How the names of runs begin that only pretrain."""
BATCH, STEPS, RATE = 32, 100, 0.01
"""Of a pretraining: images, of two views each, steps, learning rate."""
MEASURED = 20
"""Batches for the statistics of a soup."""


def pretraining_of(run: Run) -> Run | None:
    """Pretraining that a run starts from; None for one from ImageNet weights alone."""
    name = ROWS[run.row].pretraining
    return name and Run(TASK, PRETRAINING + name, run.seed)


def pretraining_config(run: Run, args: argparse.Namespace) -> Config:
    """Config of a pretraining for `Runner.from_cfg`."""
    folder, objects = run.folder(args.out), object_folder(args.data, args.out)
    classes = sum(path.is_dir() for path in objects.iterdir())
    name = run.row.removeprefix(PRETRAINING)
    parts = pretraining_parts(name, args.weights, classes)
    for hook in parts['hooks']:
        if hook['type'] == 'mmir.UniformSoupHook':
            hook |= dict(batches=MEASURED)
    sgd = dict(type='SGD', lr=RATE, momentum=0.9, weight_decay=5e-4)
    cosine = dict(type='CosineAnnealingLR', begin=0, end=STEPS, by_epoch=False)
    return Config(
        dict(
            base_config(run, folder),
            model=parts['model'],
            custom_hooks=parts['hooks'],
            train_dataloader=dict(
                num_workers=0,
                batch_size=BATCH,
                collate_fn=dict(type='default_collate'),
                sampler=dict(type='InfiniteSampler', shuffle=True),
                dataset=dict(
                    type='mmir.ImageFolder',
                    data_root=str(objects.parent),
                    data_prefix=objects.name,
                    pipeline=parts['pipeline'],
                ),
            ),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=STEPS),
            optim_wrapper=dict(type='OptimWrapper', optimizer=sgd),
            param_scheduler=[cosine],
        )
    )


def run_config(run: Run, args: argparse.Namespace) -> Config:
    """Config of a fine-tuning for `Runner.from_cfg`."""
    first = pretraining_of(run)
    source = first and first.folder(args.out)

    def model(people: int) -> dict:
        return model_config(ROWS[run.row], args.weights, source, people)

    return train_config(run, args, model)


def execute(run: Run, args: argparse.Namespace) -> None:
    """Pretrain and write both forms of the weights, or fine-tune and test."""
    begin = time.monotonic()
    if not run.row.startswith(PRETRAINING):
        values, trainable = fit_and_test(run, run_config(run, args))
        write_result(run, args.out, begin, values=values, trainable=trainable)
        return
    cfg = pretraining_config(run, args)
    init_default_scope(cfg.default_scope)
    runner = Runner.from_cfg(cfg)
    runner.train()
    weights = dict(state_dict=runner.model.backbone.state_dict())
    save_checkpoint(weights, str(run.folder(args.out) / PATHS_FILE))
    losses = {
        name: float(value.mean(20))
        for name, value in runner.message_hub.log_scalars.items()
        if 'loss' in name
    }
    write_result(run, args.out, begin, losses=losses)


def all_runs(args: argparse.Namespace) -> list[Run]:
    """Runs in the order in which they begin; pretrainings come first."""
    if args.search:
        return search_runs(TASK, [*SEARCH_ROWS.values()], args.seeds)
    runs = []
    for seed in args.seeds:
        settings = chosen(TASK, args.out, seed, SEARCH_ROWS)
        for row in args.rows:
            run = Run(TASK, row, seed, choice=settings[ROWS[row].network])
            first = pretraining_of(run)
            runs += [first, run] if first else [run]
    return [*dict.fromkeys(runs)]


def ready(runs: Sequence[Run], out: Path) -> list[Run]:
    """Runs whose pretraining is finished, or that have none."""
    return [
        run
        for run in runs
        if run.row.startswith(PRETRAINING)
        or not (first := pretraining_of(run))
        or (first.folder(out) / RESULT).is_file()
    ]


def parse() -> argparse.Namespace:
    """Read the command line.

    Raises:
        UserError: `--search` is given with rows, which inherit their rate.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--data', type=Path, required=True, help='folder of real images')
    add('--weights', type=Path, required=True, help='folder with MobileNetV2')
    add('--out', type=Path, default=Path('work_dirs/toplight'))
    add('--rows', nargs='+', choices=[*ROWS])
    add('--seeds', nargs='+', type=int, default=[*TASKS[TASK].seeds])
    names = ' and '.join(f'"{row}"' for row in SEARCH_ROWS.values())
    add('--search', action='store_true', help=f'try learning rates for {names}')
    args = parser.parse_args()
    if args.search and args.rows:
        raise UserError(f'--search runs {names} and takes no --rows')
    args.rows = args.rows or [*ROWS]
    for name in ('data', 'weights', 'out'):
        setattr(args, name, getattr(args, name).resolve())
    return args


def main() -> None:
    args = parse()
    runs = all_runs(args)
    drain(
        lambda: ready(runs, args.out),
        len(runs),
        lambda run: run.folder(args.out),
        lambda run: execute(run, args),
    )


if __name__ == '__main__':
    sys.exit(cli.run(main))
