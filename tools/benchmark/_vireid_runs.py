"""Runs of studies of visible-infrared re-identification, and the search of a rate."""

import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _runs import RESULT
from _vireid_tasks import TASKS, datasets
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import Tensor, nn

from mmir.data.layouts.reid import PersonImage
from mmir.engine import NonFiniteLossError
from mmir.evaluation import get_protocol, rank_features
from mmir.registry import DATA_SAMPLERS
from mmir.reid.samplers import CrossModalIdentitySampler
from mmir.utils.errors import UserError
from mmir.utils.files import write_json

MEASURES = 'R1', 'mAP', 'mINP'


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


@DATA_SAMPLERS.register_module(force=True)  # tests import studies twice
class EndlessIdentitySampler(CrossModalIdentitySampler):
    """Epoch after epoch of the same batches without an end.

    At the end of an epoch, `IterBasedTrainLoop` sleeps for two seconds, which is as
    long as the few steps of an epoch here.
    """

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of this process, batch after batch."""
        for epoch in itertools.count(self.epoch):
            self.set_epoch(epoch)
            yield from super().__iter__()


def base_config(run: Run, folder: Path) -> dict[str, Any]:
    """Keys that pretraining and training share.

    Args:
        run: The run; its seed controls all randomness.
        folder: Folder of the run.
    """
    return dict(
        default_scope='mmpretrain',
        work_dir=str(folder),
        default_hooks=dict(
            checkpoint=None,
            non_finite=dict(type='mmir.NonFiniteLossHook', action='stop'),
            random_state=dict(type='mmir.RandomStateHook'),
            channels_last=dict(type='mmir.ChannelsLastHook'),  # a third faster on CPU
        ),
        log_processor=dict(by_epoch=False),
        log_level='WARNING',
        randomness=dict(seed=run.seed),
        experiment_name=str(folder).replace('/', '_'),
    )


def train_config(
    run: Run, args: Any, model: Callable[[int], dict], caj: bool = False
) -> Config:
    """Config of a training on people for `Runner.from_cfg`.

    Args:
        run: The run.
        args: Folders `data` and `out`.
        model: From the number of training people to the config of the model.
        caj: Channel augmentation.
    """
    task, choice = TASKS[run.task], json.loads(run.choice)
    root, folder = task.root(args.data, args.out / run.task), run.folder(args.out)
    train, test, people = datasets(task, root, folder, run.seed, run.held, caj)
    loader = dict(num_workers=0, persistent_workers=False)
    ids, images = task.batch
    sampler = dict(type='mmir.EndlessIdentitySampler', seed=run.seed)
    return Config(
        dict(
            base_config(run, folder),
            model=model(people),
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


def runner_of(cfg: Config) -> Runner:
    """Runner of a config, in its scope."""
    init_default_scope(cfg.default_scope)
    return Runner.from_cfg(cfg)


def fit_and_test(run: Run, cfg: Config) -> tuple[dict[str, Any], nn.Module]:
    """Train and test; returns measures in both directions and sizes, and the model."""
    runner = runner_of(cfg)
    finite = trained(runner, run)
    parameters = [p for p in runner.model.parameters() if p.requires_grad]
    values = by_protocol(runner.test()) if finite else nothing(run.task)
    found = dict(values=values, trainable=sum(p.numel() for p in parameters))
    return found, runner.model


def write_result(run: Run, out: Path, begin: float, **found: Any) -> None:
    """Write the result of a run, which says that it is finished.

    Args:
        run: The run.
        out: Folder of all runs.
        begin: When it began, by `time.monotonic`.
        **found: What was measured.
    """
    result = dict(
        settings=dict(asdict(run), choice=json.loads(run.choice)),
        seconds=round(time.monotonic() - begin, 1),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU',
        **found,
    )
    write_json(result, run.folder(out) / RESULT)


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


def ranked(
    features: Tensor, images: Sequence[PersonImage], protocols: Sequence[Any]
) -> dict[str, dict[str, float]]:
    """Measures of features, in percent.

    Args:
        features: Features (N, C).
        images: The images (N,); all of the other modality are the gallery.
        protocols: Of one trial.
    """
    found = {}
    for given in protocols:
        rules = get_protocol(given)
        asks = np.array([image.modality == rules.query for image in images])
        sides = [np.flatnonzero(asks), np.flatnonzero(~asks)]
        labels = [
            ([images[k].pid for k in side], [images[k].cam for k in side])
            for side in sides
        ]
        vectors = [features[torch.from_numpy(side)].double() for side in sides]
        gallery = [np.arange(len(sides[1]))]
        ranking = rank_features(*vectors, *labels, rules, gallery)
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


def chosen(
    task: str, out: Path, seed: int, searched: Mapping[str, str]
) -> dict[str, str]:
    """Settings of each network for a split: the best of its search, else the default.

    Only runs on the held-out training people of this split are read. The best has the
    largest mean of mAP over the directions.

    Args:
        task: The task.
        out: Folder of all runs.
        seed: Seed of the split.
        searched: Network -> the row whose search decides its learning rate.

    Raises:
        UserError: The search of this split has begun and is not finished.
    """
    found = {}
    if not TASKS[task].own_splits:
        seed = TASKS[task].seeds[0]
    for network, row in searched.items():
        runs = search_runs(task, [row], [seed])
        scores = {}
        for run in runs:
            score = held_out_score(run, out)
            if score is not None:
                scores[run.choice] = score
        if 0 < len(scores) < len(runs):
            raise UserError(
                f'the search of {row}, seed {seed}, has {len(scores)} of {len(runs)} '
                f'runs: finish it with --task {task} --search --seeds {seed}'
            )
        default = choice_of(task, TASKS[task].rate)
        found[network] = max(scores, key=scores.__getitem__, default=default)
    return found


def held_out_score(run: Run, out: Path) -> float | None:
    """Mean of mAP over the directions; None if the run is not finished."""
    file = run.folder(out) / RESULT
    if not file.is_file():
        return None
    values = json.loads(file.read_text())['values'].values()
    return statistics.mean(value['mAP'] for value in values)
