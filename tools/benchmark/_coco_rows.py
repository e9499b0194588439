"""Detectors and rows of `coco_transfer.py`: what trains, at which rate, how long."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from mmir.det.class_rows import keep_classes_in_file


@dataclass(frozen=True)
class Row:
    """A way to adapt a detector.

    Attributes:
        adapt: Value of `model.adapt`.
        rate, steps: Learning rate and number of steps, chosen on held-out images.
        paramwise_cfg: Rates and weight decays of single layers, as in mmengine.
    """

    adapt: dict
    rate: float = 1e-3
    steps: int = 100
    paramwise_cfg: dict | None = None


@dataclass(frozen=True)
class Detector:
    """A COCO detector.

    Attributes:
        config: Its config, below `configs/tensorfact`.
        start: Writes the starting checkpoint of a task and returns its path.
        rows: The rows of its table.
    """

    config: str
    start: Callable[[Path, Path, Config], Path]
    rows: dict[str, Row]


def start_yolox(weights: Path, out: Path, cfg: Config) -> Path:
    """Reduce the COCO checkpoint to the classes of a config."""
    target = out.parent / f'yolox-nano_{"_".join(cfg.classes)}.pth'
    if not target.is_file():
        source = weights / 'yolox_nano_coco_mmdet_bn.safetensors'
        keep_classes_in_file(cfg.model, source, target, cfg.classes)
    return target


YOLOX_LAST = 'multi_level_conv_'  # the prediction layers
YOLOX_NANO = {
    'full': Row(dict(type='Full'), rate=3e-4),
    'frozen backbone': Row(
        dict(type='Frozen', trainable=['^neck', '^bbox_head'], norm='frozen'), rate=3e-4
    ),
    'head': Row(dict(type='Frozen', trainable=['^bbox_head'], norm='frozen')),
    'norm': Row(dict(type='Frozen', trainable=[YOLOX_LAST], norm='all')),
    'lora4': Row(dict(type='ConvLoRA', rank=4, trainable=[YOLOX_LAST], norm='all')),
}

DETECTORS = {
    'yolox-nano': Detector(
        'yolox-nano_coco_flir_1pct.py', start_yolox, YOLOX_NANO
    ),
}
