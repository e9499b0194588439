"""Few-shot transfer from RGB to infrared on real images: TensorFact and its baselines.

Each task has one RGB detector, which is trained dense, then factorized and trained
further until it has recovered. Then, for each number of infrared images and each seed,
every method runs its infrared stage from this detector, with the same images, steps and
augmentation. Finished runs are skipped. Tables, plots and JSON are written to the
output folder.

    python tools/benchmark/tensorfact_transfer.py --data FOLDER --task drone

Settings are chosen on training images only: `--hold-out` trains on a part of the
infrared training set and evaluates on the rest, `--rates` tries learning rates.
"""

import argparse
import itertools
import statistics
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mmengine.config import Config, DictAction

from mmir.adapters import merge_checkpoint
from mmir.apis.det_preview import detection_panels
from mmir.cli import cli
from mmir.cli.stages import ROOT, latest_checkpoint
from mmir.cli.study import collect, grouped, pivot, run_once, table
from mmir.testing.rescale import set_image_scale, set_schedule
from mmir.testing.scenes import write_flir
from mmir.utils.files import write_json
from mmir.visualization import save_curves, save_detection_grid

from _coco_tasks import hold_out  # isort: skip

CONFIGS = ROOT / 'configs/tensorfact'
METRIC = 'coco/bbox_mAP_50'
BATCH_SIZE, STEPS = 4, 200
RECOVERY_EPOCHS, RECOVERY_RATE = 10, 3e-4
SCALE = 320, 320

# Row -> suffix of the `yolo_flir_1pct*` config whose `adapt` setting is used.
METHODS = {
    'full': '_full',
    'frozen': '_frozen',
    'bn': '_bn',
    'lora': '',
    'scratch': '_scratch',
    'tensorfact': '_tensorfact',
    'tensorfact_rank1': '_tensorfact',
    'tensorfact_comp': '_tensorfact_comp',
    'tensorfact_no_rgb': '_tensorfact',
}
FACTORIZED = 'tensorfact', 'tensorfact_rank1', 'tensorfact_comp'
WITHOUT_RGB = 'scratch', 'tensorfact_no_rgb'
# Selected on held-out training images, see `--hold-out`.
RATES = dict.fromkeys(METHODS, 1e-3) | {
    'bn': 3e-3,
    'lora': 3e-3,
    'tensorfact_rank1': 3e-3,
}
DELTA_RANKS = {
    'lora': 12,  # as many trainable parameters as rank 1 has under `ts_dd`
    'tensorfact': 4,
    'tensorfact_comp': 4,
    'tensorfact_rank1': 1,
}


@dataclass
class Task:
    """Transfer task between two cameras.

    Attributes:
        rgb, ir: Configs of the two stages.
        rgb_root, ir_root: Data folders.
        rgb_epochs: Length of the RGB stage.
        shots: Numbers of infrared images.
        rgb_data: Arguments of the RGB datasets, training and validation.
        synthetic: Number of synthetic RGB street scenes to add to the training set.
        ir_data: Arguments of the infrared datasets, training and validation.
        stage: Task whose RGB detector to start from. Default: its own.
    """

    rgb: str
    ir: str
    rgb_root: str
    ir_root: str
    rgb_epochs: int
    shots: tuple[int, ...]
    rgb_data: tuple[dict, dict] = field(default=({}, {}))
    synthetic: int = 0
    ir_data: tuple[dict, dict] = field(default=({}, {}))
    stage: str | None = None


TASKS = {
    'drone': Task(
        rgb='yolo-tiny_drone_rgb.py',
        ir='yolo-tiny_drone_ir.py',
        rgb_root='drone_rgb/',
        ir_root='drone_ir/',
        rgb_epochs=60,
        shots=(10, 25, 50, 245),
    ),
    'street': Task(
        rgb='yolo-tiny_rgb.py',
        ir='yolo-tiny_flir_1pct.py',
        rgb_root='street_pairs/',
        ir_root='street_pairs/',
        rgb_epochs=80,
        shots=(9, 18, 36, 180),
        synthetic=240,
        rgb_data=tuple(
            dict(
                ann_file=f'{split}/rgb_annotations.json',
                data_prefix=dict(img=f'{split}/'),
            )
            for split in ('train', 'val')
        ),
    ),
    'hituav': Task(
        rgb='yolo-tiny_rgb.py',
        ir='yolo-tiny_flir_1pct.py',
        rgb_root='street_pairs/',
        ir_root='hituav/',
        rgb_epochs=80,
        shots=(20, 40, 400),
        ir_data=tuple(
            dict(
                type='mmir.CocoSubsetDataset',
                ann_file=f'{split}.json',
                data_prefix=dict(img=f'{split}/'),
                metainfo=dict(classes=('person', 'bicycle', 'car')),
            )
            for split in ('train', 'test')
        ),
        stage='street',
    ),
}


def prepare(cfg: Config, epochs: int, batch_size: int, seed: int) -> None:
    """Apply the settings of all runs: size, schedule, precision, one evaluation."""
    set_image_scale(cfg, SCALE)
    set_schedule(cfg, epochs, batch_size)
    cfg.train_cfg.val_interval = epochs
    cfg.default_hooks.checkpoint.interval = epochs
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[key].num_workers = 1
    cfg.val_evaluator.classwise = True
    cfg.test_evaluator = cfg.val_evaluator
    cfg.randomness = dict(seed=seed)
    cfg.default_hooks.pop('visualization')
    cfg.default_hooks.logger.interval = 5
    cfg.optim_wrapper.type = 'mmir.AutocastOptimWrapper'
    cfg.custom_hooks.append(dict(type='mmir.ChannelsLastHook'))
    for transform in cfg.val_dataloader.dataset.pipeline:
        if transform.type == 'mmir.PadToStride':
            transform.extra = 0.0  # the study was measured without the border


def rgb_stage(task: Task, data: Path, out: Path, dense: Path | None = None) -> Path:
    """Train an RGB stage; return its checkpoint.

    Without `dense`, trains the dense network from scratch. With `dense`, the checkpoint
    of that, factorizes the network and trains it until it recovers: truncating the
    ranks costs most of the accuracy.
    """
    cfg = Config.fromfile(CONFIGS / task.rgb)
    if dense is not None:
        factors = Config.fromfile(CONFIGS / 'yolo_rgb_tensorfact.py').model
        cfg.model.update(type=factors.type, target=factors.target, adapt=factors.adapt)
        cfg.load_from = str(dense)
        cfg.optim_wrapper.optimizer.lr = RECOVERY_RATE
    sets = cfg.train_dataloader.dataset.dataset, cfg.val_dataloader.dataset
    for dataset, arguments in zip(sets, task.rgb_data, strict=True):
        dataset.update(data_root=str(data / task.rgb_root), **arguments)
    if task.synthetic:
        _add_synthetic(cfg, task.synthetic, out / 'synthetic')
    cfg.test_dataloader = cfg.val_dataloader
    prepare(cfg, RECOVERY_EPOCHS if dense else task.rgb_epochs, 8, seed=0)
    folder = out / ('rgb_factorized' if dense else 'rgb')
    return Path(run_once(cfg, folder, {}, METRIC)['checkpoint'])


def _add_synthetic(cfg: Config, count: int, root: Path) -> None:
    """Add synthetic street scenes to the training images, in place."""
    write_flir(root, train=count, val=1, seed=0, sixteen_bit=False)
    mixed = cfg.train_dataloader.dataset
    scenes = dict(
        mixed.dataset,
        data_root=str(root.resolve()),
        ann_file='train/rgb_annotations.json',
        data_prefix=dict(img='train/'),
    )
    mixed.dataset = dict(type='ConcatDataset', datasets=[mixed.dataset, scenes])


def rgb_stages(task: Task, data: Path, out: Path) -> tuple[Path, Path]:
    """Train the RGB stages; return one detector's merged and factorized weights."""
    factorized = rgb_stage(task, data, out, rgb_stage(task, data, out))
    merged = factorized.with_name('merged.pth')
    if not merged.is_file():
        merge_checkpoint(factorized, merged)
    return merged, factorized


@dataclass(frozen=True)
class Run:
    """Infrared stage: method, number of images, seed, learning rate, config changes."""

    method: str
    images: int
    seed: int
    rate: float
    options: tuple[tuple[str, object], ...] = ()

    @property
    def name(self) -> str:
        """Folder name."""
        extra = ''.join(
            f'_{key.rpartition(".")[2]}={value}' for key, value in self.options
        )
        text = f'{self.method}_{self.images}_seed{self.seed}_lr{self.rate:g}{extra}'
        return ''.join(c if c.isalnum() or c in '._=-' else '-' for c in text)


def ir_config(task: Task, run: Run, data: Path, rgb: tuple[Path, Path]) -> Config:
    """Config of an infrared stage on the full training set and the test set.

    `rgb` are the checkpoints of the RGB detector, merged and factorized.
    """
    cfg = Config.fromfile(CONFIGS / task.ir)
    donor = Config.fromfile(CONFIGS / f'yolo_flir_1pct{METHODS[run.method]}.py')
    cfg.model.adapt = donor.model.adapt
    start = rgb[run.method in FACTORIZED]
    cfg.load_from = None if run.method in WITHOUT_RGB else str(start)
    if run.method == 'tensorfact_no_rgb':
        cfg.model.adapt.delta = None
        for key in ('trainable', 'norm'):
            del cfg.model.adapt[key]
    elif run.method == 'lora':
        cfg.model.adapt.rank = DELTA_RANKS['lora']
    elif run.method in DELTA_RANKS:
        cfg.model.adapt.delta.rank = DELTA_RANKS[run.method]
    cfg.merge_from_dict(dict(run.options))
    cfg.optim_wrapper.optimizer.lr = run.rate
    train = cfg.train_dataloader.dataset.dataset
    sets = train, cfg.val_dataloader.dataset
    for dataset, arguments in zip(sets, task.ir_data, strict=True):
        dataset.update(data_root=str(data / task.ir_root), **arguments)
    train.subset = dict(num=run.images, seed=run.seed)
    cfg.test_dataloader = cfg.val_dataloader
    epochs = round(STEPS / -(-run.images // BATCH_SIZE))
    prepare(cfg, epochs, BATCH_SIZE, run.seed)
    return cfg


def ir_stage(
    task: Task,
    run: Run,
    data: Path,
    out: Path,
    rgb: tuple[Path, Path],
    held: bool,
) -> dict:
    """Train an infrared stage; with `held`, on a part of the training images."""
    cfg = ir_config(task, run, data, rgb)
    if held:
        train, val = cfg.train_dataloader.dataset.dataset, cfg.val_dataloader.dataset
        fit, check = hold_out(data / task.ir_root / train.ann_file, out)
        prefix = dict(train.data_prefix)
        train.ann_file = str(fit.resolve())
        val.update(ann_file=str(check.resolve()), data_prefix=prefix)
    options = ' '.join(f'{k.rpartition(".")[2]}={v}' for k, v in run.options)
    settings = dict(
        method=run.method,
        images=run.images,
        seed=run.seed,
        rate=run.rate,
        options=options or '-',
    )
    return run_once(cfg, out / 'runs' / run.name, settings, METRIC)


def report(out: Path, classes: tuple[str, ...]) -> None:
    """Write tables, curves over the number of images, and JSON of all results."""
    rows = collect(out / 'runs')
    keys = {'mAP50': METRIC, 'mAP': 'coco/bbox_mAP'}
    keys |= {f'AP {size}': f'coco/bbox_mAP_{size[0]}' for size in ('small', 'medium')}
    keys |= {f'AP {name}': f'coco/{name}_precision' for name in classes}
    columns = {title: partial(_final, key) for title, key in keys.items()}
    text = table(rows, ['images', 'method', 'rate', 'options'], columns)
    short = pivot(rows, 'method', 'images', partial(_final, METRIC))
    (out / 'table.md').write_text(f'mAP50\n\n{short}\n\n{text}\n')
    write_json(rows, out / 'results.json')
    lines: dict[str, tuple[list[int], list[float]]] = {}
    for key, runs in grouped(rows, ['method', 'options', 'images']).items():
        x, y = lines.setdefault(' '.join(key[:2]).removesuffix(' -'), ([], []))
        x.append(key[2])
        y.append(statistics.mean(row['final'][METRIC] for row in runs))
    save_curves(out / 'curves.png', {f'{out.name}, mAP50': lines}, 'infrared images')
    print(text, flush=True)


def _final(key: str, row: dict) -> float:
    return row['final'].get(key, float('nan'))


def picture(run_dir: Path, out: Path) -> None:
    """Draw the detections of a run beside the ground truth."""
    cfg = Config.fromfile(run_dir / 'study.py')
    panels = detection_panels(
        cfg, latest_checkpoint(run_dir), (3, 33, 63, 93), run_dir.name
    )
    # two images per row
    pairs = [a + b for a, b in zip(panels[::2], panels[1::2], strict=True)]
    save_detection_grid(out, pairs, cfg.classes, min_score=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, required=True, help='real images')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/transfer'))
    parser.add_argument('--task', choices=TASKS, required=True)
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--shots', nargs='+', type=int, help='numbers of images')
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=list(METHODS))
    parser.add_argument('--rates', nargs='+', type=float, help='learning rates to try')
    parser.add_argument('--hold-out', action='store_true', help='choose settings')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, help='for all runs'
    )
    parser.add_argument('--picture', help='name of a run to draw detections of')
    args = parser.parse_args()
    task, out = TASKS[args.task], args.out / args.task
    stage = task.stage or args.task
    rgb = rgb_stages(TASKS[stage], args.data, args.out / stage)
    folder = out / 'held_out' if args.hold_out else out
    options = tuple(sorted(args.cfg_options.items()))
    classes = Config.fromfile(CONFIGS / task.ir).classes
    for seed, images in itertools.product(args.seeds, args.shots or task.shots):
        for method in args.methods:
            for rate in args.rates or [RATES[method]]:
                run = Run(method, images, seed, rate, options)
                ir_stage(task, run, args.data, folder, rgb, args.hold_out)
                report(folder, classes)
    if args.picture:
        picture(folder / 'runs' / args.picture, folder / 'detections.png')


if __name__ == '__main__':
    sys.exit(cli.run(main))
