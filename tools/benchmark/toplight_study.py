"""TOPLight and its parts on crops of people, and on synthetic people from scratch.

`crops`: MobileNetV2 from ImageNet weights. The pretrainings see RGB crops of cars,
bicycles and what flies. Then all rows are fine-tuned on the crops of people of
`vireid_study.py`, with its splits, schedule and search.
`scratch`: MobileNetV2 and ResNet-50 from random weights. The pretrainings see the RGB
images of the training people.

Views and losses of the pretrainings are those of the configs of TOPLight, their images
are in `_toplight_objects.py`; they see nothing of the test people. `--search` tries
learning rates for `plain`, `plain, FDR` and `ResNet-50` on held-out training people of
each split, and the other rows inherit theirs. `--search-pretraining` does the same for
the pretrainings, by `TOP, soup`. Rows differ in nothing else. Several processes may run
at once; finished runs are skipped. `vireid_study_report.py` writes the tables.

    python tools/benchmark/toplight_study.py --data FOLDER --weights FOLDER --search
    python tools/benchmark/toplight_study.py --data FOLDER --weights FOLDER \\
        --search-pretraining
    python tools/benchmark/toplight_study.py --data FOLDER --weights FOLDER
    python tools/benchmark/toplight_study.py --task scratch --search
    python tools/benchmark/toplight_study.py --task scratch
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from _runs import RESULT, drain
from _toplight_int8 import int8_results
from _toplight_objects import class_counts, object_folder, people_folder
from _toplight_rows import (
    LARGE,
    PATHS_FILE,
    PRETRAINING_RATE,
    ROWS,
    SEARCH_ROWS,
    SOUP_FILE,
    model_config,
    pretraining_parts,
)
from _vireid_runs import (
    Run,
    base_config,
    chosen,
    fit_and_test,
    held_out_score,
    runner_of,
    search_runs,
    train_config,
    write_result,
)
from _vireid_tasks import HEIGHT, TASKS, WIDTH
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import save_checkpoint

from mmir.cli import cli
from mmir.reid.cost import vireid_cost
from mmir.utils.errors import UserError

PRETRAINING = 'pretraining, '
"""How the names of runs begin that only pretrain."""
PRETRAINED = 'TOP, soup'
"""The row whose search decides the rate of all pretrainings."""
BATCH = 32
"""Images of a step of a pretraining, of two views each."""
MEASURED = 20
"""Batches for the statistics of a soup."""


@dataclass(frozen=True)
class Plan:
    """What a task pretrains, and which rows it has.

    Attributes:
        size: Width and height of the views in px.
        steps: Steps of a pretraining.
        rate: Learning rate of a pretraining, without a search.
        rates: Those of the search.
        rows: Names in `ROWS`.
        searched: Network -> the row whose search decides its learning rate.
        quantized: Rows that are also tested in 8 bits.
    """

    size: tuple[int, int]
    steps: int
    rate: float
    rates: tuple[float, ...]
    rows: tuple[str, ...]
    searched: dict[str, str]
    quantized: tuple[str, ...] = ()


_WHOLE = 'plain', 'plain, FDR', 'TOP, L_idc + L_fd', 'generic, soup'
PLANS = {
    'crops': Plan(
        size=(112, 112),
        steps=100,
        rate=0.01,
        rates=(0.0003, 0.001, 0.003, 0.01),
        rows=tuple(name for name, row in ROWS.items() if not row.large),
        searched=SEARCH_ROWS,
        quantized=('plain', 'TOP, soup, FDR'),
    ),
    'scratch': Plan(
        size=(WIDTH, HEIGHT),
        steps=200,
        rate=0.05,
        rates=(),
        rows=(*_WHOLE, 'TOP, soup', 'TOP, soup, FDR', 'ResNet-50'),
        searched={**SEARCH_ROWS, LARGE: 'ResNet-50'},
    ),
}


def pretraining_of(run: Run) -> Run | None:
    """Pretraining that a run starts from; None without one."""
    name = ROWS[run.row].pretraining
    if name is None:
        return None
    choice = json.dumps(dict(rate=json.loads(run.choice)[PRETRAINING_RATE]))
    return Run(run.task, PRETRAINING + name, run.seed, choice=choice)


def pretraining_images(run: Run, args: argparse.Namespace) -> Path:
    """Folder of images per class, without people of the test; written once."""
    if run.task == 'crops':
        return object_folder(args.data, args.out / run.task / 'pretraining/train')
    task = TASKS[run.task]
    root = task.root(args.data, args.out / run.task)
    train, _ = task.images(root, run.seed)
    target = args.out / run.task / f'pretraining/train_{run.seed}'
    return people_folder(train, root, target)


def pretraining_config(run: Run, args: argparse.Namespace) -> Config:
    """Config of a pretraining for `Runner.from_cfg`."""
    folder, images = run.folder(args.out), pretraining_images(run, args)
    plan, name = PLANS[run.task], run.row.removeprefix(PRETRAINING)
    rate = json.loads(run.choice)['rate']
    backbone = TASKS[run.task].backbone(args.weights)
    parts = pretraining_parts(name, backbone, len(class_counts(images)), plan.size)
    for hook in parts['hooks']:
        if hook['type'] == 'mmir.UniformSoupHook':
            hook |= dict(batches=MEASURED)
    sgd = dict(type='SGD', lr=rate, momentum=0.9, weight_decay=5e-4)
    cosine = dict(type='CosineAnnealingLR', begin=0, end=plan.steps, by_epoch=False)
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
                    data_root=str(images.parent),
                    data_prefix=images.name,
                    pipeline=parts['pipeline'],
                ),
            ),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=plan.steps),
            optim_wrapper=dict(type='OptimWrapper', optimizer=sgd),
            param_scheduler=[cosine],
        )
    )


def run_config(run: Run, args: argparse.Namespace) -> Config:
    """Config of a fine-tuning for `Runner.from_cfg`."""
    first = pretraining_of(run)
    source = first and first.folder(args.out)
    backbone = TASKS[run.task].backbone(args.weights)

    def model(people: int) -> dict:
        return model_config(ROWS[run.row], backbone, source, people)

    return train_config(run, args, model)


def execute(run: Run, args: argparse.Namespace) -> None:
    """Pretrain and write both forms of the weights, or fine-tune and test."""
    begin = time.monotonic()
    if run.row.startswith(PRETRAINING):
        write_result(run, args.out, begin, **pretrain(run, args))
        return
    cfg = run_config(run, args)
    found, model = fit_and_test(run, cfg)
    found['macs'] = vireid_cost(MODELS.build(cfg.model), HEIGHT, WIDTH).image
    if not run.held and run.row in PLANS[run.task].quantized:
        task = TASKS[run.task]
        _, images = task.images(task.root(args.data, args.out / run.task), run.seed)
        folder = run.folder(args.out)
        found |= int8_results(model, cfg, images, task.protocols, folder)
    write_result(run, args.out, begin, **found)


def pretrain(run: Run, args: argparse.Namespace) -> dict[str, Any]:
    """Pretrain and write both forms of the weights; returns what was measured.

    `losses` are means of the last 20 steps, `distance` is that of the weights of both
    paths before the soup, see `mmir.reid.toplight.SoupReport`.
    """
    cfg, folder = pretraining_config(run, args), run.folder(args.out)
    runner = runner_of(cfg)
    runner.train()
    weights = dict(state_dict=runner.model.backbone.state_dict())
    save_checkpoint(weights, str(folder / PATHS_FILE))
    losses = {
        name.removeprefix('train/'): float(value.mean(20))
        for name, value in runner.message_hub.log_scalars.items()
        if 'loss' in name
    }
    soup = torch.load(folder / SOUP_FILE, weights_only=True)['meta']['soup']
    images = class_counts(pretraining_images(run, args))
    return dict(losses=losses, distance=soup['distance'], images=images)


def pretrained_run(task: str, row: str, seed: int, choice: str, rate: float) -> Run:
    """Run of a row after a pretraining with a learning rate.

    Args:
        task, row, seed: Of the run.
        choice: Its settings without the pretraining.
        rate: Learning rate of the pretraining.
    """
    settings = json.dumps(json.loads(choice) | {PRETRAINING_RATE: rate})
    return Run(task, row, seed, choice=settings)


def pretraining_search(task: str, out: Path, seed: int) -> list[Run]:
    """Runs of `PRETRAINED` on held-out training people, one for each rate.

    The pretrainings see no people, so they are those of the test runs.
    """
    choice = chosen(task, out, seed, PLANS[task].searched)[ROWS[PRETRAINED].network]
    return [
        replace(pretrained_run(task, PRETRAINED, seed, choice, rate), held=True)
        for rate in PLANS[task].rates
    ]


def pretraining_rate(task: str, out: Path, seed: int) -> float:
    """Best rate of the search of a split, else the default.

    Raises:
        UserError: The search has begun and is not finished.
    """
    runs = pretraining_search(task, out, seed)
    scores = {
        json.loads(run.choice)[PRETRAINING_RATE]: score
        for run in runs
        if (score := held_out_score(run, out)) is not None
    }
    if 0 < len(scores) < len(runs):
        raise UserError(
            f'the search of pretrainings, seed {seed}, has {len(scores)} of '
            f'{len(runs)} runs: finish it with --search-pretraining --seeds {seed}'
        )
    return max(scores, key=scores.__getitem__, default=PLANS[task].rate)


def all_runs(args: argparse.Namespace) -> list[Run]:
    """Runs in the order in which they begin; pretrainings come first."""
    searched = PLANS[args.task].searched
    if args.search:
        return search_runs(args.task, [*searched.values()], args.seeds)
    runs = []
    for seed in args.seeds:
        if args.search_pretraining:
            found = pretraining_search(args.task, args.out, seed)
            runs += itertools.chain(*((pretraining_of(run), run) for run in found))
            continue
        settings = chosen(args.task, args.out, seed, searched)
        rate = pretraining_rate(args.task, args.out, seed)
        for row in args.rows:
            choice = settings[ROWS[row].network]
            if ROWS[row].pretraining is None:
                runs.append(Run(args.task, row, seed, choice=choice))
                continue
            run = pretrained_run(args.task, row, seed, choice, rate)
            runs += [pretraining_of(run), run]
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
        UserError: A folder that the task needs is not given, `--search` is given with
            rows, which inherit their rate, or a row is not one of the task.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--task', choices=[*PLANS], default='crops')
    add('--data', type=Path, help='folder of real images, for the crops')
    add('--weights', type=Path, help='folder with MobileNetV2, for the crops')
    add('--out', type=Path, default=Path('work_dirs/toplight'))
    add('--rows', nargs='+', choices=[*ROWS], help='default: all of the task')
    add('--seeds', nargs='+', type=int, help='default: those of the task')
    add('--search', action='store_true', help='try learning rates')
    add(
        '--search-pretraining',
        action='store_true',
        help='try those of the pretraining, after --search',
    )
    args = parser.parse_args()
    task, plan = TASKS[args.task], PLANS[args.task]
    if args.task == 'crops' and not (args.data and args.weights):
        raise UserError('--task crops needs --data and --weights')
    if args.search_pretraining and not plan.rates:
        raise UserError(f'--search-pretraining: {args.task} has one rate, {plan.rate}')
    if (args.search or args.search_pretraining) and args.rows:
        raise UserError('a search decides for all rows and takes no --rows')
    args.rows = args.rows or [*plan.rows]
    if others := [row for row in args.rows if row not in plan.rows]:
        raise UserError(f'--task {args.task} has no rows {others}: it has {plan.rows}')
    once = args.search and not task.own_splits
    args.seeds = args.seeds or [*(task.seeds[:1] if once else task.seeds)]
    for name in ('data', 'weights', 'out'):
        path = getattr(args, name)
        setattr(args, name, path.resolve() if path else Path())
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
