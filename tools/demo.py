"""The main job in small, on synthetic images: what `make demo` runs.

Both stages of TensorFact and its dense baseline, then `work_dirs/demo/report.md` with a
table, learning curves and detections beside ground truth in both modalities.
"""

import argparse
import sys
from pathlib import Path

from mmengine.config import Config

from mmir.adapters import merge_checkpoint
from mmir.apis.det_preview import detection_panels
from mmir.cli.stages import (
    ROOT,
    StageError,
    count_parameters,
    curve,
    latest_checkpoint,
    read_scalars,
    train_stage,
)
from mmir.visualization import save_curves, save_detection_grid

CONFIGS = ROOT / 'configs/tensorfact'
METRIC = 'coco/bbox_mAP_50'
STAGES = {
    'RGB stage': ('yolo_rgb', None),
    'infrared, TensorFact': ('yolo_flir_1pct', 'checkpoint'),
    'infrared, dense fine-tuning': ('yolo_flir_1pct_dense', 'merged'),
}
INTRODUCTION = """# Demo of mmir: an infrared detector from a few labelled images

**Synthetic images, a small network, short schedules.** These figures show that the
path works; they say nothing about the method or about real infrared images.

A YOLOv7-tiny learns people, bicycles and cars on {rgb} rendered RGB images. Then 62
labelled thermal images adapt it, in two ways with the same steps and augmentation:
TensorFact trains low-rank additions to the frozen kernels, the normalisation and the
head; dense fine-tuning trains everything. Tested on {val} other thermal images.
"""


def run_stage(name: str, out: Path, starts: dict[str, Path]) -> dict:
    """Train one stage; return what the report says of it."""
    config, start = STAGES[name]
    work_dir = out / config
    arguments = [str(CONFIGS / f'{config}.py'), '--demo', '--seed', '0']
    if start:
        arguments += ['--cfg-options', f'load_from={starts[start]}']
    seconds = train_stage(arguments, work_dir, name)
    dumped = Config.fromfile(work_dir / f'{config}.py')
    scalars = read_scalars(work_dir)
    trainable, total = count_parameters(dumped)
    delta = work_dir / 'delta.pth'
    return dict(
        config=dumped,
        seconds=seconds,
        trainable=trainable,
        total=total,
        loss=curve(scalars, 'loss'),
        map50=curve(scalars, METRIC),
        checkpoint=latest_checkpoint(work_dir),
        delta=delta if delta.is_file() else None,
    )


def size_of(path: Path | None) -> str:
    """Size of a file."""
    return f'{path.stat().st_size / 2**20:.1f} MiB' if path else 'none'


def table(results: dict[str, dict]) -> str:
    """Markdown table of all stages."""
    lines = [
        '| stage | mAP50 | trainable parameters | checkpoint | delta file | time |',
        '|---|---|---|---|---|---|',
    ]
    for name, row in results.items():
        share = row['trainable'] / row['total']
        lines.append(
            f'| {name} | {row["map50"][1][-1]:.3f} | {row["trainable"]:,} ({share:.1%})'
            f' | {size_of(row["checkpoint"])} | {size_of(row["delta"])} | '
            f'{row["seconds"] / 60:.1f} min |'
        )
    return '\n'.join(lines)


def pictures(results: dict[str, dict], out: Path) -> None:
    """Learning curves of all stages; detections of the RGB and the infrared model."""
    infrared = {k: v for k, v in results.items() if k != 'RGB stage'}
    save_curves(
        out / 'curves.png',
        {
            'loss, RGB stage (step)': {'loss': results['RGB stage']['loss']},
            'loss, infrared (step)': {k: v['loss'] for k, v in infrared.items()},
            'mAP50 (epoch)': {k: v['map50'] for k, v in results.items()},
        },
        'step or epoch',
    )
    rows = []
    for name in ('RGB stage', 'infrared, TensorFact'):
        stage = results[name]
        rows += detection_panels(stage['config'], stage['checkpoint'], (3, 11), name)
    save_detection_grid(
        out / 'detections.png', rows, ('person', 'bicycle', 'car'), min_score=0.01
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=Path('work_dirs/demo'))
    out = parser.parse_args().out
    from mmir.testing.demo import TRAIN_IMAGES, VAL_IMAGES

    print('mmir demo: SYNTHETIC images, about 10 minutes on two cores')
    results: dict[str, dict] = {}
    starts: dict[str, Path] = {}
    try:
        for name in STAGES:
            results[name] = run_stage(name, out, starts)
            if not starts:
                starts['checkpoint'] = results[name]['checkpoint']
                starts['merged'] = out / 'rgb_merged.pth'
                merge_checkpoint(starts['checkpoint'], starts['merged'])
    except StageError as error:
        print(error, file=sys.stderr)
        return 1
    pictures(results, out)
    rows = table(results)
    introduction = INTRODUCTION.format(rgb=TRAIN_IMAGES, val=VAL_IMAGES)
    (out / 'report.md').write_text(
        f'{introduction}\n{rows}\n\nCheckpoints also hold the state of the optimizer '
        'and the averaged weights.\n\n![learning curves](curves.png)\n\n'
        'Detections, as many of the strongest as there are objects; after a training '
        'this short they are right before they are confident:\n\n'
        '![detections](detections.png)\n'
    )
    print(f'{rows}\n\nreport: {out / "report.md"}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
