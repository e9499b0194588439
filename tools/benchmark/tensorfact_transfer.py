"""Few-shot transfer from RGB to infrared on real images: TensorFact and dense tuning.

For each task one RGB stage, then for each number of infrared images and each seed the
infrared stage of every method, all from the same RGB model, with the same images, steps
and augmentation. Runs that are done are not repeated; tables, curves and JSON go to the
output folder.

    python tools/benchmark/tensorfact_transfer.py --data FOLDER --task street drone
"""

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from mmir.apis.det_preview import detection_panels
from mmir.apis.stages import (
    ROOT,
    count_parameters,
    curve,
    latest_checkpoint,
    read_scalars,
    train_stage,
)
from mmir.utils.rescale import set_image_scale, set_schedule
from mmir.visualization import save_curves, save_detection_grid

CONFIGS = ROOT / 'configs/tensorfact'
METRIC = 'coco/bbox_mAP_50'


@dataclass
class Task:
    """One pair of cameras.

    Attributes:
        rgb, ir: Configs of the two stages.
        rgb_root, ir_root: Folders of the data.
        rgb_data: Arguments of the RGB data sets, training and validation.
        scale: Width and height of the images the network sees.
        rgb_epochs, rgb_images: Length of the RGB stage.
        shots: Number of infrared images -> epochs.
    """

    rgb: str
    ir: str
    rgb_root: str
    ir_root: str
    rgb_data: tuple[dict, dict] | None
    scale: tuple[int, int]
    rgb_epochs: int
    rgb_images: int
    shots: dict[int, int]


TASKS = {
    'street': Task(
        rgb='yolo-tiny_rgb.py',
        ir='yolo-tiny_flir_1pct.py',
        rgb_root='street_pairs/',
        ir_root='street_pairs/',
        rgb_data=tuple(
            dict(
                ann_file=f'{split}/rgb_annotations.json',
                data_prefix=dict(img=f'{split}/'),
            )
            for split in ('train', 'val')
        ),
        scale=(320, 320),
        rgb_epochs=60,
        rgb_images=180,
        shots={18: 48, 36: 24},
    ),
    'drone': Task(
        rgb='yolo-tiny_drone_rgb.py',
        ir='yolo-tiny_drone_ir.py',
        rgb_root='drone_rgb/',
        ir_root='drone_ir/',
        rgb_data=None,
        scale=(320, 320),
        rgb_epochs=8,
        rgb_images=573,
        shots={25: 36},
    ),
}
BATCH_SIZE = 4


def method_config(method: str, ir: str) -> Config:
    """Config of the infrared stage for a method.

    `tensorfact`: the shipped recipe. `dense`: every parameter of the merged network, at
    the same rate; `dense_lr1e-4`: at a tenth of it.
    """
    if method == 'tensorfact':
        return Config.fromfile(CONFIGS / ir)
    cfg = Config.fromfile(CONFIGS / ir.replace('.py', '_dense.py'))
    if method == 'dense_lr1e-4':
        cfg.optim_wrapper.optimizer.lr = 1e-4
    return cfg


def prepare(cfg: Config, task: Task, epochs: int, images: int, seed: int) -> Config:
    """Set what all runs of a task share."""
    set_image_scale(cfg, task.scale)
    set_schedule(cfg, epochs, BATCH_SIZE, images)
    cfg.train_cfg.val_interval = max(1, epochs // 3)
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[key].num_workers = 1
    cfg.randomness = dict(seed=seed)
    cfg.default_hooks.pop('visualization')
    cfg.default_hooks.logger.interval = 5
    return cfg


def run(cfg: Config, work_dir: Path, title: str) -> dict:
    """Train unless it was done; return the result."""
    done = work_dir / 'result.json'
    if done.is_file():
        return json.loads(done.read_text())
    work_dir.mkdir(parents=True, exist_ok=True)
    path = work_dir / 'study.py'
    cfg.dump(path)
    # a run that was interrupted goes on
    seconds = train_stage([str(path), '--resume'], work_dir, title)
    scalars = read_scalars(work_dir)
    trainable, total = count_parameters(cfg)
    best = next(row for row in reversed(scalars) if METRIC in row)
    result = dict(
        title=title,
        seconds=seconds,
        trainable=trainable,
        parameters=total,
        checkpoint=str(latest_checkpoint(work_dir)),
        loss=curve(scalars, 'loss'),
        map50=curve(scalars, METRIC),
        final={k: v for k, v in best.items() if k.startswith('coco/')},
    )
    temporary = done.with_suffix('.tmp')
    temporary.write_text(json.dumps(result, indent=1))
    temporary.replace(done)
    return result


def rgb_stage(task: Task, data: Path, out: Path) -> tuple[Path, Path]:
    """Train the RGB stage; return its checkpoint and the merged one."""
    from mmir.layers import merge_checkpoint

    cfg = Config.fromfile(CONFIGS / task.rgb)
    sets = cfg.train_dataloader.dataset.dataset, cfg.val_dataloader.dataset
    for dataset, arguments in zip(sets, task.rgb_data or ({}, {}), strict=True):
        dataset.update(data_root=str(data / task.rgb_root), **arguments)
    cfg.test_dataloader = cfg.val_dataloader
    prepare(cfg, task, task.rgb_epochs, task.rgb_images, seed=0)
    result = run(cfg, out / 'rgb', 'RGB stage')
    checkpoint, merged = Path(result['checkpoint']), out / 'rgb/merged.pth'
    if not merged.is_file():
        merge_checkpoint(checkpoint, merged)
    return checkpoint, merged


def ir_stage(
    task: Task, data: Path, out: Path, start: tuple[Path, Path], key: tuple
) -> dict:
    """Train the infrared stage `key` = (method, images, seed)."""
    method, images, seed = key
    cfg = method_config(method, task.ir)
    for dataset in (
        cfg.train_dataloader.dataset.dataset,
        cfg.val_dataloader.dataset,
        cfg.test_dataloader.dataset,
    ):
        dataset.data_root = str(data / task.ir_root)
    cfg.train_dataloader.dataset.dataset.subset = dict(num=images, seed=seed)
    cfg.load_from = str(start[0] if method == 'tensorfact' else start[1])
    prepare(cfg, task, task.shots[images], images, seed)
    name = f'{method}_{images}_seed{seed}'
    return run(cfg, out / name, f'{method}, {images} images, seed {seed}')


def table(results: dict[str, dict]) -> str:
    """Markdown table of mean and standard deviation over the seeds."""
    lines = [
        '| task | images | method | seeds | mAP50 | mAP | trainable | minutes a run |',
        '|---|---|---|---|---|---|---|---|',
    ]
    groups: dict[tuple, list[dict]] = {}
    for name, result in results.items():
        task, method, images, _ = name.split('/')
        groups.setdefault((task, int(images), method), []).append(result)
    for (task, images, method), rows in sorted(groups.items()):
        cells = [
            _mean_std([row['final'][k] for row in rows])
            for k in (METRIC, 'coco/bbox_mAP')
        ]
        minutes = statistics.mean(row['seconds'] for row in rows) / 60
        lines.append(
            f'| {task} | {images} | {method} | {len(rows)} | {cells[0]} | {cells[1]} | '
            f'{rows[0]["trainable"]:,} | {minutes:.1f} |'
        )
    return '\n'.join(lines)


def _mean_std(values: list[float]) -> str:
    spread = f' ± {statistics.stdev(values):.3f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):.3f}{spread}'


def report(out: Path, results: dict[str, dict]) -> None:
    """Write table, curves and JSON of what is there."""
    text = table(results)
    (out / 'table.md').write_text(text + '\n')
    (out / 'results.json').write_text(json.dumps(results, indent=1))
    plots: dict[str, dict] = {}
    for name, result in results.items():
        task, method, images, seed = name.split('/')
        if seed == '0':
            plots.setdefault(f'{task}, {images} images', {})[method] = result['map50']
    save_curves(out / 'curves.png', plots, 'epoch')
    print(text, flush=True)


def picture(out: Path, images: int) -> None:
    """Detections of the drone task's TensorFact model beside ground truth."""
    run_dir = out / f'drone/tensorfact_{images}_seed0'
    cfg = Config.fromfile(run_dir / 'study.py')
    rows = detection_panels(
        cfg, latest_checkpoint(run_dir), (3, 33, 63, 93), 'TensorFact, 25 images'
    )
    # two images a line
    pairs = [a + b for a, b in zip(rows[::2], rows[1::2], strict=True)]
    save_detection_grid(out / 'drone.png', pairs, cfg.classes, min_score=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, required=True, help='real images')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/transfer'))
    parser.add_argument('--task', nargs='+', choices=TASKS, default=list(TASKS))
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument(
        '--methods', nargs='+', default=['tensorfact', 'dense', 'dense_lr1e-4']
    )
    args = parser.parse_args()
    results: dict[str, dict] = {}
    stages = {t: rgb_stage(TASKS[t], args.data, args.out / t) for t in args.task}
    for seed in args.seeds:
        for name in args.task:
            for images in TASKS[name].shots:
                for method in args.methods:
                    key = (method, images, seed)
                    results[f'{name}/{method}/{images}/{seed}'] = ir_stage(
                        TASKS[name], args.data, args.out / name, stages[name], key
                    )
                    report(args.out, results)
    if 'drone' in args.task and 'tensorfact' in args.methods:
        picture(args.out, next(iter(TASKS['drone'].shots)))


if __name__ == '__main__':
    main()
