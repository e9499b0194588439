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
import itertools
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from _runs import RESULT, drain
from _vireid_rows import CLIP, ROWS, model_config
from _vireid_tasks import TASKS, clip_features, datasets
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmir.cli import cli
from mmir.engine import NonFiniteLossError
from mmir.evaluation import get_protocol, rank_features
from mmir.utils.errors import UserError
from mmir.utils.files import write_json

MEASURES = 'R1', 'mAP', 'mINP'
SEARCH_ROWS = dict(agw='baseline', tmpa='TMPA')
"""Network -> the row whose search decides its learning rate."""


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        task: Name in `TASKS`.
        row: Name in `ROWS`, or `CLIP`.
        seed: Controls all randomness, and the split of the people where there are
            several.
        held: Whether held-out training people take the place of the test people.
        choice: Rate and steps, as JSON.
    """

    task: str
    row: str
    seed: int
    held: bool = False
    choice: str = '{}'

    def folder(self, out: Path) -> Path:
        """Folder of the run."""
        words = [self.row.replace(', ', '-').replace(' ', '_').replace('_%', '')]
        words += [f'{key}={value}' for key, value in json.loads(self.choice).items()]
        part = 'held_out' if self.held else 'test'
        return out / self.task / part / f'{"_".join(words)}_seed{self.seed}'


def run_config(run: Run, args: argparse.Namespace) -> Config:
    """Config of a run for `Runner.from_cfg`."""
    task, row, choice = TASKS[run.task], ROWS[run.row], json.loads(run.choice)
    root = task.root(args.data, args.out / run.task)
    folder = run.folder(args.out)
    train, test, people = datasets(task, root, folder, run.seed, run.held, row.caj)
    backbone = task.backbone(args.weights)
    loader = dict(num_workers=0, persistent_workers=False)
    ids, images = task.batch
    sampler = dict(type='mmir.CrossModalIdentitySampler', seed=run.seed)
    return Config(
        dict(
            default_scope='mmpretrain',
            model=model_config(
                row, backbone, task.stem, task.channels, people, run.seed
            ),
            work_dir=str(folder),
            train_dataloader=dict(
                loader,
                batch_size=2 * ids * images,
                sampler=dict(sampler, ids_per_batch=ids, images_per_id=images),
                dataset=train,
            ),
            test_dataloader=dict(
                loader,
                batch_size=32,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=test,
            ),
            test_evaluator=dict(
                type='mmir.VIReIDMetric', protocols=list(task.protocols)
            ),
            test_cfg=dict(),
            **schedule(choice['rate'], choice['steps'], task.backbone_rate),
            default_hooks=dict(
                checkpoint=None,
                non_finite=dict(type='mmir.NonFiniteLossHook', action='stop'),
                random_state=dict(type='mmir.RandomStateHook'),
            ),
            log_processor=dict(by_epoch=False),
            log_level='WARNING',
            randomness=dict(seed=run.seed),
            experiment_name=str(folder).replace('/', '_'),
        )
    )


def schedule(rate: float, steps: int, backbone_rate: float) -> dict[str, Any]:
    """Training loop, optimizer and schedule: SGD, a short warmup, then a cosine.

    Args:
        rate: Learning rate after the warmup.
        steps: Number of steps; the first tenth is the warmup.
        backbone_rate: Factor of the rate of the backbone, except for MFT in it.
    """
    rates = {
        'backbone': dict(lr_mult=backbone_rate),
        'backbone.transfer': dict(lr_mult=1.0),
    }
    warm = max(1, steps // 10)
    sgd = dict(type='SGD', lr=rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    cosine = dict(type='CosineAnnealingLR', begin=warm, end=steps, eta_min_ratio=0.01)
    return dict(
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=steps),
        optim_wrapper=dict(
            type='OptimWrapper',
            optimizer=sgd,
            paramwise_cfg=dict(custom_keys=rates),
            clip_grad=dict(max_norm=100.0),  # rarely active: a guard
        ),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=warm),
            dict(cosine, by_epoch=False),
        ],
    )


def execute(run: Run, args: argparse.Namespace) -> None:
    """Train and test in both directions; write the result."""
    begin = time.monotonic()
    if run.row == CLIP:
        values, trainable = clip_values(run, args), 0
    else:
        cfg = run_config(run, args)
        init_default_scope(cfg.default_scope)
        runner = Runner.from_cfg(cfg)
        diverged = not trained(runner, run)
        parameters = [p for p in runner.model.parameters() if p.requires_grad]
        trainable = sum(p.numel() for p in parameters)
        values = by_protocol(runner.test()) if not diverged else nothing(run.task)
    result = dict(
        settings=dict(asdict(run), choice=json.loads(run.choice)),
        seconds=round(time.monotonic() - begin, 1),
        trainable=trainable,
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU',
        values=values,
    )
    write_json(result, run.folder(args.out) / RESULT)


def trained(runner: Runner, run: Run) -> bool:
    """Train; whether the losses stayed finite. Only a search may try such a rate."""
    try:
        runner.train()
    except NonFiniteLossError:
        if not run.held:
            raise
        return False
    return True


def nothing(task: str) -> dict[str, dict[str, float]]:
    """Measures of a model that diverged."""
    names = [get_protocol(given).name for given in TASKS[task].protocols]
    return {name: dict.fromkeys(MEASURES, 0.0) for name in names}


def by_protocol(metrics: dict[str, float]) -> dict[str, dict[str, float]]:
    """Take the measures, in percent, from the results of the test loop."""
    found: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        protocol, _, measure = name.rpartition('/')
        if measure in MEASURES:
            found.setdefault(protocol, {})[measure] = float(value)
    return found


def clip_values(run: Run, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Measures of frozen features of CLIP on the test people of a split."""
    task = TASKS[run.task]
    root = task.root(args.data, args.out / run.task)
    parts = task.images(root, run.seed)
    names = sorted({image.path for part in parts for image in part})
    cache = args.out / run.task / 'clip_features.pt'
    rows = dict(zip(names, clip_features(args.clip, root, names, cache), strict=True))
    found = {}
    for given in task.protocols:
        rules = get_protocol(given)
        sides = [[i for i in parts[1] if (i.modality == rules.query) is asked]
                 for asked in (True, False)]  # fmt: skip
        features = [
            torch.stack([rows[i.path] for i in side]).double() for side in sides
        ]
        labels = [([i.pid for i in side], [i.cam for i in side]) for side in sides]
        gallery = [list(range(len(sides[1])))]
        ranking = rank_features(*features, *labels, rules, gallery)
        found[rules.name] = {name: 100 * ranking.mean[name] for name in MEASURES}
    return found


def search_runs(task: str, rows: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """Runs on held-out training people: each rate, for each split and row."""
    return [
        Run(task, row, seed, True, choice_of(task, rate))
        for seed, row, rate in itertools.product(seeds, rows, TASKS[task].searched)
    ]


def choice_of(task: str, rate: float) -> str:
    """Settings of a run as JSON. All rows of a task take the same number of steps."""
    return json.dumps(dict(rate=rate, steps=TASKS[task].steps))


def chosen(task: str, out: Path, seed: int) -> dict[str, str]:
    """Settings of each network for a split: the best of its search, else the default.

    Only runs on the held-out training people of this split are read. The best has the
    largest mean of mAP over the directions.

    Raises:
        UserError: The search of this split has begun and is not finished.
    """
    found = {}
    if not TASKS[task].own_splits:
        seed = TASKS[task].seeds[0]
    for network, row in SEARCH_ROWS.items():
        runs = search_runs(task, [row], [seed])
        scores = {}
        for run in runs:
            file = run.folder(out) / RESULT
            if file.is_file():
                values = json.loads(file.read_text())['values'].values()
                scores[run.choice] = score_of(values)
        if 0 < len(scores) < len(runs):
            raise UserError(
                f'the search of {row}, seed {seed}, has {len(scores)} of {len(runs)} '
                f'runs: finish it with --task {task} --search --seeds {seed}'
            )
        default = choice_of(task, TASKS[task].rates[network])
        found[network] = max(scores, key=scores.__getitem__, default=default)
    return found


def score_of(values: Any) -> float:
    """Mean of mAP over the directions."""
    return statistics.mean(value['mAP'] for value in values)


def test_runs(
    task: str, rows: Sequence[str], seeds: Sequence[int], out: Path
) -> list[Run]:
    """Runs on the test people, all rows of a seed after another."""
    runs = []
    for seed in seeds:
        settings = chosen(task, out, seed)
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
    add('--task', choices=TASKS, default='people')
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
