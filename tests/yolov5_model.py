"""Small YOLOv5 detectors, with random weights as after training."""

from pathlib import Path

import torch
import yolov7_reference as ref
from mmdet.registry import MODELS
from mmengine.config import Config

from mmir.det import YOLOv5

ROOT = Path(__file__).parents[1]


def build(arch: str = 'n', classes: int = 3) -> YOLOv5:
    """Build the shipped config of a size."""
    torch.manual_seed(0)
    cfg = Config.fromfile(ROOT / f'configs/_base_/models/yolov5_{arch}.py').model
    cfg.data_preprocessor.type = 'mmdet.DetDataPreprocessor'
    cfg.bbox_head.head_module.num_classes = classes
    return MODELS.build(cfg)


def trained(arch: str = 'n', classes: int = 3) -> YOLOv5:
    """Build it with random weights and statistics, in evaluation mode."""
    model = build(arch, classes)
    ref.randomize(model)
    return model.eval()
