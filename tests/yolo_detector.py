"""A small YOLOv7, and batches for it."""

import torch
import yolov7_reference as ref
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict

from mmir.det import YOLOv7

TEST = dict(
    score_thr=1e-4,
    nms_pre=100,
    nms=dict(type='nms', iou_threshold=0.65),
    max_per_img=20,
)


def build(classes: int = 3, **head: object) -> YOLOv7:
    torch.manual_seed(0)
    cfg = dict(
        type='mmir.YOLOv7',
        data_preprocessor=dict(
            type='mmdet.DetDataPreprocessor',
            mean=[0.0, 0.0, 0.0],
            std=[255.0, 255.0, 255.0],
            bgr_to_rgb=True,
            pad_size_divisor=32,
            pad_value=114 / 255,
        ),
        backbone=dict(type='mmir.YOLOv7Backbone', arch='tiny'),
        neck=dict(type='mmir.YOLOv7Neck', arch='tiny'),
        bbox_head=ref.head_cfg(classes, **head),
        train_cfg=dict(),
        test_cfg=TEST,
    )
    return MODELS.build(ConfigDict(cfg))


def sample(size: tuple[int, int], boxes: list = (), scale: tuple = (1.0, 1.0)):
    meta = dict(img_shape=size, ori_shape=size, scale_factor=scale)
    data = DetDataSample(metainfo=meta)
    data.gt_instances = ref.instances(boxes)
    return data


def batch(*sizes: tuple[int, int]) -> dict:
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.randint(0, 256, (3, *s), generator=generator, dtype=torch.uint8)
        for s in sizes
    ]
    samples = []
    for i, size in enumerate(sizes):
        boxes = [b._replace(label=b.label % 3) for b in ref.random_boxes(3, size, i)]
        samples.append(sample(size, boxes, (0.5, 2.0)))
    return dict(inputs=images, data_samples=samples)
