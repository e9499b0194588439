"""Detectors and rows of `coco_transfer.py`: what trains, at which rate, how long."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mmengine.config import Config

from mmir.cli.stages import ROOT
from mmir.det.class_rows import keep_classes_in_file


@dataclass(frozen=True)
class Row:
    """A way to adapt a detector.

    Attributes:
        adapt: Value of `model.adapt`; None for the plain detector.
        rate, steps: Learning rate and number of steps, chosen on held-out images.
        factor: Learning rate of the adapters, relative to `rate`.
    """

    adapt: dict | None
    rate: float = 1e-3
    steps: int = 200
    factor: float = 1.0


@dataclass(frozen=True)
class Detector:
    """A COCO detector.

    Attributes:
        config: Its config, below `configs/tensorfact`.
        start: Writes the starting checkpoint of a task and returns its path.
        rows: The rows of its table.
    """

    config: str
    start: Callable[[Config, Path, Path, Path], Path]
    rows: dict[str, Row]


def start_yolox(cfg: Config, data: Path, weights: Path, out: Path) -> Path:
    """Reduce the COCO checkpoint of YOLOX-nano to the classes of a config."""
    target = out / f'yolox-nano_{"_".join(cfg.classes)}.pth'
    if not target.is_file():
        source = weights / 'yolox_nano_coco_mmdet_bn.safetensors'
        keep_classes_in_file(cfg.model, source, target, cfg.classes)
    return target


def start_yolov5(cfg: Config, data: Path, weights: Path, out: Path) -> Path:
    """Convert YOLOv5n, measure its norms on RGB images, reduce it to some classes."""
    from mmdet.evaluation.functional import coco_classes

    dense = out / 'yolov5n.pth'
    if not dense.is_file():
        photos = sorted((data / 'street_pairs/train/RGB').iterdir())[::3][:60]
        tool = ROOT / 'tools/model_converters/yolov5.py'
        source = weights / 'yolov5n_coco_fp16.safetensors'
        options = ['--size', '416', '--images', *map(str, photos)]
        subprocess.run(
            [sys.executable, str(tool), str(source), str(dense), *options], check=True
        )
    if not set(cfg.classes) <= set(coco_classes()):
        return dense  # other classes get a new output layer
    target = out / f'yolov5n_{"_".join(cfg.classes)}.pth'
    if not target.is_file():
        keep_classes_in_file(cfg.model, dense, target, cfg.classes)
    return target


def stage(kind: str, last: str, norm: str = 'all', **options: object) -> dict:
    """Method that trains the prediction layers `last` and the norms beside it."""
    return dict(type=kind, trainable=[last], norm=norm, **options)


def fine_tuning(last: str) -> dict[str, Row]:
    """Rows without adapters."""
    parts = ['^neck', '^bbox_head']
    return {
        'full': Row(dict(type='Full'), rate=3e-4),
        'frozen': Row(dict(type='Frozen', trainable=parts, norm='frozen')),
        'head': Row(stage('Frozen', '^bbox_head', norm='frozen'), rate=3e-3),
        'norm': Row(stage('Frozen', last), rate=3e-3),
    }


def fixed_statistics(rows: dict[str, Row], last: str) -> dict[str, Row]:
    """The same rows with the running statistics of the COCO detector."""
    rows = {k: replace(r, adapt=dict(r.adapt, norm='affine')) for k, r in rows.items()}
    parts = [r'\.conv\.weight$', last]
    everything = dict(type='Frozen', trainable=parts, norm='affine')
    rows['full'] = replace(rows['full'], adapt=everything)
    return {f'{name}_affine': row for name, row in rows.items()}


YOLOX_LAST, YOLOV5_LAST = 'multi_level_conv_', '^bbox_head'  # the prediction layers
FULL_RANK = dict(rank='full', split='ts_dd', skip_growing=False)
YOLOX_NANO = (
    fine_tuning(YOLOX_LAST)
    | {
        f'lora{rank}': Row(stage('ConvLoRA', YOLOX_LAST, rank=rank))
        for rank in (1, 4, 12)
    }
    | {
        # also the convolutions before the prediction layers, which the others keep
        f'lora{rank}_head': Row(
            stage('ConvLoRA', YOLOX_LAST, rank=rank, exclude=[YOLOX_LAST])
        )
        for rank in (4, 12)
    }
)
YOLOV5_N = fine_tuning(YOLOV5_LAST) | {
    'tensorfact1': Row(stage('TensorFact', YOLOV5_LAST, delta=1, **FULL_RANK)),
    'tensorfact4': Row(stage('TensorFact', YOLOV5_LAST, delta=4, **FULL_RANK)),
    **{
        f'tensorfact4_{name}': Row(
            stage('TensorFact', YOLOV5_LAST, delta=4, comp_loss=loss, **FULL_RANK)
        )
        for name, loss in {
            'cos2': dict(type='cos2', weight=0.1),
            'paper_l1': dict(type='paper', p=1, weight=0.1),
            'paper_l2': dict(type='paper', p=2, weight=0.1),
        }.items()
    },
    'lora4': Row(stage('ConvLoRA', YOLOV5_LAST, rank=4)),
    'lora12': Row(stage('ConvLoRA', YOLOV5_LAST, rank=12)),
}

YOLOX_NANO |= fixed_statistics(
    {name: YOLOX_NANO[name] for name in ('full', 'norm', 'lora4')}, YOLOX_LAST
)
YOLOV5_N |= fixed_statistics(
    {name: YOLOV5_N[name] for name in ('full', 'norm', 'lora4', 'tensorfact4')},
    YOLOV5_LAST,
)

YOLOX_NANO = {name: replace(row, steps=400) for name, row in YOLOX_NANO.items()}

DETECTORS = {
    'yolox-nano': Detector('yolox-nano_coco_flir_1pct.py', start_yolox, YOLOX_NANO),
    'yolov5n': Detector('yolov5-n_coco_flir_1pct.py', start_yolov5, YOLOV5_N),
}
