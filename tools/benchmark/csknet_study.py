"""CSK-Net and its baselines on pairs: a field, synthetic streets, leaves.

The rows train with the same schedule, augmentation and order; each is tested with both
images and with each of them alone. Rates and weights are chosen on held-out training
images (`--search`). Several processes may run at once; finished runs are skipped.
`csknet_study_report.py` writes the tables.

    python tools/benchmark/csknet_study.py --data FOLDER --weights FOLDER
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from _csk_rows import BACKBONE, DECODER, ROWS, model_config
from _csk_tasks import TASKS
from _runs import RESULT, drain
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, save_checkpoint

from mmir.cli import cli
from mmir.engine import recalibrate_norms
from mmir.utils.files import write_json

WEIGHTS_FILE = 'mobilenetv2_mmseg.safetensors'
BATCH, RATE = 4, 0.03
HELD_SEED = 100
RECALIBRATED = 'csk', 'csk, teacher ir', 'csk, teacher rgb'
BATCHES = 20  # for the statistics
SEARCH: tuple[tuple[str, dict[str, Any]], ...] = (
    *(
        (camera, dict(rate=rate, weighted=weighted))
        for camera in ('rgb', 'ir')
        for rate in (0.01, 0.03, 0.1)
        for weighted in (False, True)
    ),
    *(
        (f'csk, teacher {camera}', dict(distill=dict(encoder=w, decoder=w)))
        for w in (1.0, 0.1)
        for camera in ('ir', 'rgb')
    ),
)


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        row: Name in `ROWS`.
        seed: Controls all randomness.
        held: Whether held-out training images take the place of the test images.
        choice: Settings that differ from the defaults, as JSON.
    """

    row: str
    seed: int
    held: bool = False
    choice: str = '{}'

    def folder(self, out: Path) -> Path:
        """Folder of the run."""
        words = [self.row.replace(', ', '-').replace(' ', '_')]
        for key, value in json.loads(self.choice).items():
            words.append(f'{key}={json.dumps(value)}'.replace('/', '_'))
        part = 'held_out' if self.held else 'test'
        name = '_'.join(words).replace('"', '').replace(' ', '')
        return out / part / f'{name}_seed{self.seed}'

    def teacher(self) -> 'Run | None':
        """Run of the teacher, which has the same rate and length."""
        camera = ROWS[self.row].teacher
        if camera is None:
            return None
        kept = {k: v for k, v in json.loads(self.choice).items() if k in COMMON}
        return Run(camera, self.seed, self.held, json.dumps(kept))


COMMON = 'rate', 'steps', 'weighted'  # settings that all rows have


def run_config(run: Run, args: argparse.Namespace) -> Config:
    """Config of a run for `Runner.from_cfg`."""
    choice = json.loads(run.choice)
    task = TASKS[args.task]
    steps, rate = choice.pop('steps', task.steps), choice.pop('rate', RATE)
    decoder = dict(DECODER, num_classes=task.classes)
    if choice.pop('weighted', True):
        loss = dict(decoder['loss_decode'], class_weight=task.class_weight)
        decoder['loss_decode'] = loss
    train, test = task.sets(args.data, args.out, run.held)
    weights = dict(type='Pretrained', checkpoint=str(args.weights / WEIGHTS_FILE))
    plain = dict(
        data_preprocessor=task.preprocessor(),
        backbone=dict(BACKBONE, init_cfg=weights),
    )
    first = run.teacher()
    source = first and first.folder(args.out) / 'model.pth'
    model = model_config(
        ROWS[run.row],
        plain,
        decoder,
        source,
        choice,
    )
    loader = dict(num_workers=0, persistent_workers=False)
    test_loader = dict(
        loader,
        batch_size=1,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=test,
    )
    evaluator = dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'])
    return Config(
        dict(
            default_scope='mmseg',
            model=model,
            work_dir=str(run.folder(args.out)),
            train_dataloader=dict(
                loader,
                batch_size=BATCH,
                sampler=dict(type='InfiniteSampler', shuffle=True),
                dataset=train,
            ),
            test_dataloader=test_loader,
            test_evaluator=evaluator,
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=steps),
            test_cfg=dict(type='mmir.MissingModalityTestLoop', metrics=['mIoU']),
            optim_wrapper=dict(
                type='OptimWrapper',
                optimizer=dict(type='SGD', lr=rate, momentum=0.9, weight_decay=5e-4),
                paramwise_cfg=dict(norm_decay_mult=0.0),
            ),
            param_scheduler=[
                dict(
                    type='PolyLR',
                    power=0.9,
                    eta_min=rate / 100,
                    by_epoch=False,
                    end=steps,
                )
            ],
            default_hooks=dict(
                checkpoint=None,
                non_finite=dict(type='mmir.NonFiniteLossHook', action='stop'),
                random_state=dict(type='mmir.RandomStateHook'),
                channels_last=dict(type='mmir.ChannelsLastHook'),
            ),
            log_processor=dict(by_epoch=False),
            log_level='WARNING',
            randomness=dict(seed=run.seed),
            experiment_name=str(run.folder(args.out)).replace('/', '_'),
        )
    )


def execute(run: Run, args: argparse.Namespace) -> None:
    """Train, test with every subset of the images, write weights and result."""
    begin = time.monotonic()
    cfg = run_config(run, args)
    init_default_scope(cfg.default_scope)
    runner = Runner.from_cfg(cfg)
    runner.train()
    trained = time.monotonic() - begin
    values = runner.test()
    model, folder = runner.model, run.folder(args.out)
    weights = {k: v.half() if v.is_floating_point() else v
               for k, v in model.state_dict().items()}  # fmt: skip
    save_checkpoint(dict(state_dict=weights), str(folder / 'model.pth'))
    again = recalibrated(runner) if run.row in RECALIBRATED else None
    parameters = [p for p in model.parameters() if p.requires_grad]
    result = dict(
        settings=dict(asdict(run), choice=json.loads(run.choice)),
        seconds=round(trained, 1),
        trainable=sum(p.numel() for p in parameters),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU',
        subsets=by_variant(values),
        recalibrated=again,
    )
    write_json(result, folder / RESULT)


def recalibrated(runner: Runner) -> dict[str, float]:
    """mIoU of each camera alone, with statistics of the norms from passes with it."""
    names = runner.model.modalities
    recalibrate_norms(runner.model, runner.train_dataloader, names, BATCHES)
    values = by_variant(runner.test())
    return {name: values[name] for name in names}


def by_variant(values: Mapping[str, Any]) -> dict[str, float]:
    """Take mIoU from the results of a test loop with variants."""
    ending = '/mIoU'
    return {
        name.removesuffix(ending): float(value)
        for name, value in values.items()
        if name.endswith(ending)
    }


def all_runs(args: argparse.Namespace) -> list[Run]:
    """Runs in the order in which they begin; a teacher comes before its student."""
    if args.search is not None:
        rows = args.search or ROWS
        found = [(name, json.dumps(c)) for name, c in SEARCH if name in rows]
        runs = [Run(name, HELD_SEED, True, choice) for name, choice in found]
    else:
        pairs = itertools.product(args.seeds, args.rows)
        runs = [Run(name, seed) for seed, name in pairs]
    whole = []
    for run in runs:
        whole += [first, run] if (first := run.teacher()) else [run]
    return [*dict.fromkeys(whole)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, required=True, help='real images')
    parser.add_argument('--weights', type=Path, required=True, help='of MobileNetV2')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/csknet'))
    parser.add_argument('--task', choices=TASKS, default='field')
    parser.add_argument('--rows', nargs='+', choices=ROWS, default=[*ROWS])
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument(
        '--search', nargs='*', choices=ROWS, help='rows, on held-out images'
    )
    args = parser.parse_args()
    for path in ('data', 'weights', 'out'):
        setattr(args, path, getattr(args, path).resolve())
    runs = all_runs(args)

    def ready() -> list[Run]:
        return [
            run
            for run in runs
            if not (first := run.teacher())
            or (first.folder(args.out) / RESULT).is_file()
        ]

    drain(
        ready,
        len(runs),
        lambda run: run.folder(args.out),
        lambda run: execute(run, args),
    )


if __name__ == '__main__':
    sys.exit(cli.run(main))
