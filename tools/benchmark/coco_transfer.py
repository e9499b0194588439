"""Few-shot transfer of COCO detectors to thermal cameras: adapters and fine-tuning.

Each row starts from the same COCO detector, reduced to the classes of the task, and
trains on the same thermal images with the same augmentation. Learning rate and length
of each row are chosen on training images only (`--hold-out`). A run is evaluated on
the thermal test images and on RGB images, to see what is left of the RGB detector.
Finished runs are skipped. Tables and JSON are written by `coco_transfer_report.py`.

    python tools/benchmark/coco_transfer.py --data FOLDER --weights FOLDER \\
        --detector yolox-nano --task street --images 18 62 --seeds 0 1 2 3 4
"""

import argparse
import copy
import itertools
import json
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, ValLoop, load_checkpoint
from tqdm import tqdm

from mmir.adapters import load_adapter
from mmir.apis.det_preview import detection_panels
from mmir.cli import cli
from mmir.cli.stages import ROOT
from mmir.engine.autocast import has_bfloat16
from mmir.testing.rescale import set_image_scale, set_schedule
from mmir.utils.files import write_json
from mmir.visualization import save_detection_grid

from _coco_rows import DETECTORS, Row  # isort: skip
from _coco_tasks import TASKS, hold_out  # isort: skip

MOSAIC = ROOT / 'configs/_base_/datasets/coco_ir.py'
RGB_STAGE = 'RGB stage'
RGB_SETTINGS: dict[str, Any] = dict(rate=3e-4, steps=400, options=())
EPOCH_IMAGES = 64  # smaller sets are repeated, so that batches are full


@dataclass(frozen=True)
class Run:
    """One training: what is trained, on which images, for how long.

    Attributes:
        detector, task, row: Names in `DETECTORS`, `TASKS` and the rows of the detector.
        images: Number of thermal images; 0 only evaluates the COCO detector.
        seed: Selects the images and controls all randomness.
        size: Width of the network input in pixels.
        rate: Learning rate.
        steps: Optimization steps.
        factor: Learning rate of the adapters, relative to `rate`.
        augment: `'zoom'` of single images as in the configs, or `'mosaic'`.
        batch: Images per step.
        options: Config changes, as in `--cfg-options`.
    """

    detector: str
    task: str
    row: str
    images: int
    seed: int
    size: int
    rate: float
    steps: int
    factor: float = 1.0
    augment: str = 'zoom'
    batch: int = 4
    options: tuple[tuple[str, Any], ...] = field(default=())

    @property
    def changes(self) -> str:
        """Short text of the options."""
        texts = [f'{key.rpartition(".")[2]}={value}' for key, value in self.options]
        return ' '.join(texts) or '-'

    @property
    def name(self) -> str:
        """Folder name."""
        text = (
            f'{self.detector}_{self.task}_{self.row}_{self.images}_seed{self.seed}'
            f'_{self.size}_lr{self.rate:g}x{self.factor:g}_{self.steps}_{self.augment}'
            f'_{self.batch}_{self.changes}'
        )
        return ''.join(c if c.isalnum() or c in '._=-' else '-' for c in text)


def run_config(run: Run, row: Row, data: Path, out: Path, held: bool) -> Config:
    """Config of a run, for `Runner.from_cfg`.

    With `held`, a part of the training images takes the place of the test images. The
    row `RGB stage` trains on the RGB images of the task.
    """
    task = TASKS[run.task]
    cfg = Config.fromfile(ROOT / 'configs/tensorfact' / DETECTORS[run.detector].config)
    cfg.classes = task.classes
    wrapper = cfg.train_dataloader.dataset
    if run.augment == 'mosaic':
        wrapper.pipeline = Config.fromfile(MOSAIC).train_pipeline
    set_image_scale(cfg, task.canvas(run.size))
    cfg.model.adapt = row.adapt
    head = cfg.model.bbox_head
    head.get('head_module', head).num_classes = len(task.classes)
    rgb_stage = run.row == RGB_STAGE
    train, test = wrapper.dataset, cfg.val_dataloader.dataset
    train.update(
        (task.rgb_train if rgb_stage else task.train).dataset(data, cfg.classes)
    )
    test.update((task.rgb if rgb_stage else task.test).dataset(data, cfg.classes))
    if held:
        files = hold_out(Path(train.ann_file), out)
        test.data_prefix = train.data_prefix
        train.ann_file, test.ann_file = map(str, files)
    train.subset = None if rgb_stage else dict(num=max(run.images, 1), seed=run.seed)
    times = -(-EPOCH_IMAGES // max(run.images, 1))
    wrapper.dataset = dict(type='RepeatDataset', dataset=train, times=times)
    per_epoch = -(-times * run.images // run.batch) or 1
    set_short_run(cfg, max(1, round(run.steps / per_epoch)), run.batch)
    cfg.optim_wrapper.optimizer.lr = run.rate
    if row.factor != 1:
        custom = {key: dict(lr_mult=row.factor) for key in ('.adapters.', '.deltas.')}
        cfg.optim_wrapper.paramwise_cfg = dict(custom_keys=custom)
    cfg.randomness = dict(seed=run.seed)
    if not run.images:
        cfg.custom_hooks = []  # no average of weights without training
    cfg.merge_from_dict(dict(run.options))
    return cfg


def set_short_run(cfg: Config, epochs: int, batch: int) -> None:
    """Set what all runs share: length, no evaluation before the end, no workers."""
    set_schedule(cfg, epochs, batch)
    cfg.train_cfg.val_interval = epochs + 1  # evaluated after training
    cfg.default_hooks.checkpoint.interval = epochs
    cfg.default_hooks.pop('visualization')
    for key in ('train_dataloader', 'val_dataloader'):
        cfg[key].update(num_workers=0, persistent_workers=False)
    for key in ('test_dataloader', 'test_evaluator', 'test_cfg'):
        cfg[key] = None
    cfg.val_evaluator.classwise = True
    cfg.optim_wrapper.type = 'mmir.AutocastOptimWrapper'
    cfg.custom_hooks.append(dict(type='mmir.ChannelsLastHook'))
    cfg.log_level = 'WARNING'


def start(run: Run, cfg: Config, args: argparse.Namespace) -> Path:
    """Checkpoint from which a run starts: the COCO detector, or the RGB stage."""
    task, detector = TASKS[run.task], DETECTORS[run.detector]
    if task.rgb_train is None or run.row == RGB_STAGE:
        return detector.start(cfg, args.data, args.weights, args.out)
    file = args.data / task.rgb_train.folder / task.rgb_train.annotations
    images = len(json.loads(file.read_text())['images'])
    first = replace(run, row=RGB_STAGE, images=images, seed=0, **RGB_SETTINGS)
    execute(first, Row(adapt=None), args, held=False)
    return next((args.out / 'test/runs' / first.name).glob('epoch_*.pth'))


def execute(run: Run, row: Row, args: argparse.Namespace, held: bool) -> dict:
    """Train and evaluate; return and write the result. Finished runs are skipped."""
    out = args.out / ('held_out' if held else 'test')
    folder = out / 'runs' / run.name
    done = folder / 'result.json'
    if done.is_file():
        return json.loads(done.read_text())
    cfg = run_config(run, row, args.data, out, held)
    cfg.work_dir, cfg.experiment_name = str(folder), run.name
    init_default_scope(cfg.default_scope)
    cfg.load_from = str(start(run, cfg, args))
    runner = Runner.from_cfg(cfg)
    begin = time.monotonic()
    if run.images:
        runner.train()
    else:
        load_checkpoint(runner.model, cfg.load_from)
    seconds = time.monotonic() - begin
    thermal = runner.val_loop.run()
    task, loader = TASKS[run.task], copy.deepcopy(cfg.val_dataloader)
    loader.dataset.update(task.rgb.dataset(args.data, cfg.classes))
    rgb = ValLoop(runner, loader, cfg.val_evaluator).run()
    parameters = list(runner.model.parameters())
    adapter = folder / 'adapter.pth'
    result = dict(
        settings=vars(run) | dict(options=run.changes),
        seconds=round(seconds, 1),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        parameters=sum(p.numel() for p in parameters),
        adapter_bytes=adapter.stat().st_size if adapter.is_file() else None,
        training_loss=training_loss(runner),
        device=parameters[0].device.type,
        precision='bfloat16' if has_bfloat16(parameters[0].device.type) else 'float32',
        thermal=_short(thermal),
        rgb=_short(rgb),
    )
    if run.row != RGB_STAGE:
        for checkpoint in folder.glob('epoch_*.pth'):
            checkpoint.unlink()  # the adapter file stays
    write_json(result, done)
    return result


def picture(run: Run, row: Row, args: argparse.Namespace) -> None:
    """Draw test images: ground truth, the start, and the run; beside its result."""
    out = args.out / 'test'
    folder = out / 'runs' / run.name
    cfg = run_config(run, row, args.data, out, held=False)
    cfg.test_dataloader = cfg.val_dataloader
    init_default_scope(cfg.default_scope)
    before = start(run, cfg, args)
    model = MODELS.build(cfg.model)
    load_checkpoint(model, str(before), logger='silent')
    load_adapter(model, folder / 'adapter.pth')
    trained = folder / 'trained.pth'
    torch.save(dict(state_dict=model.state_dict()), trained)
    plain = copy.deepcopy(cfg)
    plain.model.adapt = None
    panels = [
        detection_panels(config, checkpoint, args.picture, title)
        for config, checkpoint, title in (
            (plain, before, 'before'),
            (cfg, trained, f'{run.row}, {run.images} thermal images'),
        )
    ]
    trained.unlink()
    grid = [[*was, now[1]] for was, now in zip(*panels, strict=True)]
    save_detection_grid(folder / 'detections.png', grid, cfg.classes, min_score=0.25)


def training_loss(runner: Runner) -> float | None:
    """Mean training loss of the last 20 steps."""
    scalars = runner.message_hub.log_scalars
    return float(scalars['train/loss'].mean(20)) if 'train/loss' in scalars else None


def _short(metrics: dict) -> dict:
    return {
        k.removeprefix('coco/').removeprefix('bbox_'): v for k, v in metrics.items()
    }


def parse_row(text: str, rows: dict[str, Row]) -> tuple[str, Row]:
    """Parse `row`, `row@rate`, `row@rate@steps` or `row@rate@steps@factor`."""
    name, *numbers = text.split('@')
    if name not in rows:
        raise cli.UserError(f'--rows: no row {name!r}, choose from {sorted(rows)}')
    kinds = dict(rate=float, steps=int, factor=float)
    try:
        given = {
            k: kind(n) for (k, kind), n in zip(kinds.items(), numbers, strict=False)
        }
    except ValueError as error:
        raise cli.UserError(f'--rows: {text}: {error}') from error
    if len(numbers) > len(kinds):
        raise cli.UserError(f'--rows: {text}: more than {", ".join(kinds)}')
    return name, replace(rows[name], **given)


def planned(args: argparse.Namespace) -> list[tuple[Run, Row]]:
    """All runs of the command line, seed by seed, so that rows stay comparable."""
    known = DETECTORS[args.detector].rows
    rows = [parse_row(text, known) for text in args.rows or known]
    runs = []
    for images, seed, (name, row) in itertools.product(args.images, args.seeds, rows):
        run = Run(
            detector=args.detector,
            task=args.task,
            row=name,
            images=images,
            seed=seed,
            size=args.size,
            rate=row.rate,
            steps=row.steps,
            factor=row.factor,
            augment=args.augment,
            batch=args.batch,
            options=tuple(sorted(args.cfg_options.items())),
        )
        runs.append((run, row))
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, required=True, help='real images')
    parser.add_argument('--weights', type=Path, required=True, help='COCO detectors')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/coco_transfer'))
    parser.add_argument('--detector', choices=DETECTORS, required=True)
    parser.add_argument('--task', choices=TASKS, default='street')
    parser.add_argument(
        '--rows',
        nargs='+',
        help='row, row@rate, row@rate@steps or row@rate@steps@factor; default: all',
    )
    parser.add_argument('--images', nargs='+', type=int, default=[62])
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--size', type=int, default=416, help='width in pixels')
    parser.add_argument('--batch', type=int, default=4, help='images per step')
    parser.add_argument('--augment', choices=['mosaic', 'zoom'], default='zoom')
    parser.add_argument(
        '--picture',
        nargs='+',
        type=int,
        metavar='INDEX',
        help='test images to draw detections on, in the folder of each run',
    )
    parser.add_argument('--hold-out', action='store_true', help='choose settings')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, help='for all runs'
    )
    args = parser.parse_args()
    for run, row in tqdm(planned(args), unit='run'):
        result = execute(run, row, args, args.hold_out)
        tqdm.write(
            f'{run.name}: thermal {result["thermal"].get("mAP_50", 0):.3f}, RGB '
            f'{result["rgb"].get("mAP_50", 0):.3f}, {result["seconds"]:.0f} s'
        )
        if args.picture:
            picture(run, row, args)


if __name__ == '__main__':
    sys.exit(cli.run(main))
