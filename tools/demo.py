"""Demo on synthetic images: adapt an RGB detector to thermal scenes (`make demo`).

The shipped RGB detector is tested on thermal scenes, then adapted with a few labeled
ones and, for comparison, fully fine-tuned on them. The result is
`work_dirs/demo/report.md` with a table, learning curves, and detections before and
after.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from mmengine.config import Config

from mmir.apis.det_preview import detection_panels
from mmir.cli import cli
from mmir.cli.stages import (
    ROOT,
    StageError,
    count_parameters,
    curve,
    latest_checkpoint,
    read_scalars,
    tools_folder,
    train_stage,
)
from mmir.testing.demo import DETECTOR, IMAGES, VAL_IMAGES
from mmir.utils.shipped import shipped_checkpoint
from mmir.visualization import save_curves, save_detection_grid

CONFIGS = ROOT / 'configs/tensorfact'
METRIC = 'coco/bbox_mAP_50'
BEFORE, AFTER, FULL = 'before', 'adapted (ConvLoRA)', 'full fine-tuning'
STAGES = {AFTER: 'yolo_flir_1pct', FULL: 'yolo_flir_1pct_full'}
PICTURES = (3, 11, 20)
MIN_SCORE = 0.25
INTRODUCTION = """# Demo of mmir: an RGB detector learns a thermal camera

**Synthetic images.** The numbers show that everything works; they say nothing about
real infrared images, for which see `docs/results/`.

A YOLOv7-tiny that was trained on rendered RGB street scenes (people, bicycles, cars) is
tested on {val} rendered thermal scenes: *before*. It is then adapted to {train} other,
labeled thermal scenes in two ways, with equal steps and augmentation:

- ConvLoRA freezes the convolutions and trains low-rank updates of them, the
  normalization layers and the head;
- full fine-tuning trains everything.
"""


def evaluate(out: Path) -> dict:
    """Test the shipped detector on thermal scenes; return its row of the report."""
    work_dir = out / 'before'
    work_dir.mkdir(parents=True, exist_ok=True)
    checkpoint = shipped_checkpoint(DETECTOR)
    config, metrics = STAGES[FULL], work_dir / 'metrics.json'
    command = [sys.executable, str(tools_folder() / 'test.py')]
    command += [str(CONFIGS / f'{config}.py'), str(checkpoint), '--demo']
    command += ['--work-dir', str(work_dir), '--out', str(metrics)]
    log, start = work_dir / 'output.log', time.monotonic()
    print('before: the RGB detector on thermal scenes ...', flush=True)
    with log.open('w') as sink:
        code = subprocess.run(command, stdout=sink, stderr=subprocess.STDOUT).returncode
    if code:
        end = '\n'.join(log.read_text().splitlines()[-15:])
        raise StageError(f'before: exit code {code}, see {log}\n{end}')
    return dict(
        config=Config.fromfile(work_dir / f'{config}.py'),
        seconds=time.monotonic() - start,
        map50=([0], [json.loads(metrics.read_text())['metrics'][METRIC]]),
        checkpoint=checkpoint,
    )


def run_stage(name: str, out: Path, before: dict) -> dict:
    """Adapt the detector in one way; return its row of the report."""
    config = STAGES[name]
    work_dir = out / config
    arguments = [str(CONFIGS / f'{config}.py'), '--demo', '--seed', '0']
    arguments += ['--cfg-options', f'load_from={before["checkpoint"]}']
    seconds = train_stage(arguments, work_dir, name)
    dumped = Config.fromfile(work_dir / f'{config}.py')
    scalars = read_scalars(work_dir)
    trainable, total = count_parameters(dumped)
    epochs, values = curve(scalars, METRIC)
    return dict(
        config=dumped,
        seconds=seconds,
        trainable=trainable,
        total=total,
        loss=curve(scalars, 'loss'),
        map50=([0, *epochs], [*before['map50'][1], *values]),
        checkpoint=latest_checkpoint(work_dir),
        file=work_dir / 'adapter.pth',
    )


def table(results: dict[str, dict]) -> str:
    """Markdown table of all rows."""
    lines = [
        '| | mAP50 on thermal scenes | trainable parameters | adapter file | time |',
        '|---|---|---|---|---|',
    ]
    for name, row in results.items():
        trains, file = 'none', 'none'
        if 'trainable' in row:
            share = row['trainable'] / row['total']
            trains = f'{row["trainable"]:,} ({share:.1%})'
            file = f'{row["file"].stat().st_size / 2**20:.1f} MiB'
        minutes = row['seconds'] / 60
        lines.append(
            f'| {name} | {row["map50"][1][-1]:.3f} | {trains} | {file} | '
            f'{minutes:.1f} min |'
        )
    return '\n'.join(lines)


def pictures(results: dict[str, dict], out: Path) -> None:
    """Draw learning curves, and detections before and after beside ground truth."""
    trained = {k: v for k, v in results.items() if 'loss' in v}
    save_curves(
        out / 'curves.png',
        {
            'loss (step)': {k: v['loss'] for k, v in trained.items()},
            'mAP50 (epoch)': {k: v['map50'] for k, v in trained.items()},
        },
        'step or epoch',
    )
    before, after = (
        detection_panels(results[k]['config'], results[k]['checkpoint'], PICTURES, k)
        for k in (BEFORE, AFTER)
    )
    rows = [[was[1], now[1], now[0]] for was, now in zip(before, after, strict=True)]
    classes = ('person', 'bicycle', 'car')
    save_detection_grid(out / 'before_after.png', rows, classes, min_score=MIN_SCORE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=Path('work_dirs/demo'))
    out = parser.parse_args().out
    # Threads that wait without spinning: else other work on the machine slows it down.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    print('mmir demo: SYNTHETIC images, at most 6 minutes on two cores')
    try:
        results = {BEFORE: evaluate(out)}
        for name in STAGES:
            results[name] = run_stage(name, out, results[BEFORE])
    except StageError as error:
        print(error, file=sys.stderr)
        return 1
    pictures(results, out)
    rows = table(results)
    introduction = INTRODUCTION.format(train=IMAGES['ir'], val=VAL_IMAGES)
    (out / 'report.md').write_text(
        f'{introduction}\n{rows}\n\n'
        '![before, after, ground truth](before_after.png)\n\n'
        f'The picture shows detections with a score of at least {MIN_SCORE}.\n\n'
        '![learning curves](curves.png)\n'
    )
    print(f'{rows}\n\nreport: {out / "report.md"}')
    return 0


if __name__ == '__main__':
    sys.exit(cli.run(main))
