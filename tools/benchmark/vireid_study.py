"""AGW, CAJ and TMPA, and parts of TMPA, on small sets of people.

The rows of a task train with the same schedule, augmentation and order of batches. Rate
and number of steps are chosen for each network on held-out training people
(`--search`); afterwards, all rows are tested on people that were never seen. Several
processes may run at once; finished runs are skipped. `vireid_study_report.py` writes
the tables.

    python tools/benchmark/vireid_study.py --task people --search
    python tools/benchmark/vireid_study.py --task people
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
SEARCH_SEEDS = 100, 101
RATES, LENGTHS = (0.003, 0.01, 0.03, 0.1), (0.5, 1.0)
"""Learning rates, and numbers of steps as shares of the default, of the search."""


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        task: Name in `TASKS`.
        row: Name in `ROWS`, or `CLIP`.
        seed: Controls all randomness, and the split into people.
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
    out = args.out / run.task
    root = task.root(args.data, out)
    train, test, people = datasets(
        task, root, run.folder(args.out), run.seed, run.held, row.caj
    )
    backbone = task.backbone(args.weights)
    loader = dict(num_workers=0, persistent_workers=False)
    ids, images = task.batch
    sampler = dict(type='mmir.CrossModalIdentitySampler', seed=run.seed)
    rates = {
        'backbone': dict(lr_mult=task.backbone_rate),
        'backbone.transfer': dict(lr_mult=1.0),
    }
    warm = max(1, choice['steps'] // 10)
    return Config(
        dict(
            default_scope='mmpretrain',
            model=model_config(row, backbone, task.stem, task.channels, people),
            work_dir=str(run.folder(args.out)),
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
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=choice['steps']),
            test_cfg=dict(),
            optim_wrapper=dict(
                type='OptimWrapper',
                optimizer=dict(
                    type='SGD',
                    lr=choice['rate'],
                    momentum=0.9,
                    weight_decay=5e-4,
                    nesterov=True,
                ),
                paramwise_cfg=dict(custom_keys=rates),
                clip_grad=dict(max_norm=100.0),  # rarely active: a guard
            ),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=warm),
                dict(
                    type='CosineAnnealingLR',
                    by_epoch=False,
                    begin=warm,
                    end=choice['steps'],
                    eta_min_ratio=0.01,
                ),
            ],
            default_hooks=dict(
                checkpoint=None,
                non_finite=dict(type='mmir.NonFiniteLossHook', action='stop'),
                random_state=dict(type='mmir.RandomStateHook'),
            ),
            log_processor=dict(by_epoch=False),
            log_level='WARNING',
            randomness=dict(seed=run.seed),
            experiment_name=str(run.folder(args.out)).replace('/', '_'),
        )
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


def search_runs(task: str) -> list[Run]:
    """Runs on held-out people: rates and lengths of each network."""
    found = []
    for network, row in SEARCH_ROWS.items():
        steps = TASKS[task].defaults[network]['steps']
        for rate, share, seed in itertools.product(RATES, LENGTHS, SEARCH_SEEDS):
            choice = json.dumps(dict(rate=rate, steps=round(share * steps)))
            found.append(Run(task, row, seed, True, choice))
    return found


def chosen(task: str, out: Path) -> dict[str, dict[str, Any]]:
    """Rate and steps of each network: the best of the search, else the defaults.

    The best has the largest mean of mAP over directions and seeds. A search that is not
    finished decides nothing, so that all runs of a table have the same settings.
    """
    found = {}
    for network, row in SEARCH_ROWS.items():
        scores: dict[str, list[float]] = {}
        runs = [run for run in search_runs(task) if run.row == row]
        files = [run.folder(out) / RESULT for run in runs]
        if not all(file.is_file() for file in files):
            found[network] = TASKS[task].defaults[network]
            continue
        for run, file in zip(runs, files, strict=True):
            values = json.loads(file.read_text())['values'].values()
            scores.setdefault(run.choice, []).append(score_of(values))
        best = max(scores, key=lambda choice: statistics.mean(scores[choice]))
        found[network] = json.loads(best)
    return found


def score_of(values: Any) -> float:
    """Mean of mAP over the directions."""
    return statistics.mean(value['mAP'] for value in values)


def test_runs(
    task: str, rows: Sequence[str], seeds: Sequence[int], out: Path
) -> list[Run]:
    """Runs on the test people, all rows of a seed after another."""
    settings = chosen(task, out)
    runs = []
    for seed, row in itertools.product(seeds, rows):
        choice = {} if row == CLIP else settings[ROWS[row].network]
        runs.append(Run(task, row, seed, choice=json.dumps(choice)))
    return runs


def parse() -> argparse.Namespace:
    """Read the command line.

    Raises:
        UserError: A folder that the task needs is not given.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--task', choices=TASKS, default='people')
    add('--data', type=Path, help='folder that holds person_crops')
    add('--weights', type=Path, help='folder with weights of MobileNetV2')
    add('--clip', type=Path, help='folder with weights of CLIP; adds a row of `crops`')
    add('--out', type=Path, default=Path('work_dirs/vireid'))
    add('--rows', nargs='+', choices=[*ROWS], default=[*ROWS])
    add('--seeds', nargs='+', type=int)
    add('--search', action='store_true', help='on held-out people, for all rows')
    args = parser.parse_args()
    if args.task == 'crops' and not (args.data and args.weights):
        raise UserError('--task crops needs --data and --weights')
    for name in ('data', 'weights', 'clip', 'out'):
        path = getattr(args, name)
        setattr(args, name, path.resolve() if path else Path())
    return args


def main() -> None:
    args = parse()
    seeds = args.seeds or TASKS[args.task].seeds
    rows = [*args.rows, *([CLIP] if args.clip != Path() else [])]
    if args.search:
        runs = search_runs(args.task)
    else:
        runs = test_runs(args.task, rows, seeds, args.out)
    drain(
        lambda: runs,
        len(runs),
        lambda run: run.folder(args.out),
        lambda run: execute(run, args),
    )


if __name__ == '__main__':
    sys.exit(cli.run(main))
