"""Tasks of the IV-tuning study: segmentation of a field, detection in streets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _clip_rows import COLORS
from _coco_tasks import hold_out
from _field import BRIGHTNESS, IMAGES, enet_weights, field_sets
from torch import Tensor, nn

CAMERAS = dict(rgb=dict(COLORS, bgr_to_rgb=True), ir=dict(COLORS, bgr_to_rgb=True))
TAPS = dict(type='mmir.TransformerTaps')


@dataclass(frozen=True)
class Parts:
    """What a task gives to the config of a run.

    Attributes:
        scope: Default scope of the host.
        metric: Name of the measured value.
        model: Config of the host's model; its backbone is completed by the row.
        heads: Names of the parts that train in all rows.
        train, test: Datasets.
        evaluator: The metric.
        steps, batch: Length of a run, and pairs per step.
    """

    scope: str
    metric: str
    model: dict[str, Any]
    heads: tuple[str, ...]
    train: dict[str, Any]
    test: dict[str, Any]
    evaluator: dict[str, Any]
    steps: int
    batch: int


FIELD_CROP = (192, 192)
PATCH = 16


def field(data: Path, out: Path, held: bool) -> Parts:
    """Segmentation of crop and weed (`cwfid`): a red and a near-infrared band."""
    train, test = field_sets(data, out, held, FIELD_CROP, 2 / 3, multiple=PATCH)
    channels, blocks = 768, (3, 5, 8, 11)
    model = dict(
        type='mmseg.EncoderDecoder',
        data_preprocessor=dict(
            type='mmir.PairedSegDataPreprocessor',
            modalities=CAMERAS,
            size=FIELD_CROP,
            pad_val=0,
            seg_pad_val=255,
        ),
        backbone=dict(TAPS, blocks=blocks, scales=(4, 2, 1, 0.5)),
        decode_head=dict(
            type='mmseg.SegformerHead',
            in_channels=[channels] * len(blocks),
            in_index=[*range(len(blocks))],
            channels=128,
            dropout_ratio=0.1,
            num_classes=3,
            norm_cfg=dict(type='BN'),
            align_corners=False,
            loss_decode=dict(
                type='mmseg.CrossEntropyLoss', class_weight=enet_weights()
            ),
        ),
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )
    return Parts(
        scope='mmseg',
        metric='mIoU',
        model=model,
        heads=('decode_head',),
        train=train,
        test=test,
        evaluator=dict(type='mmseg.IoUMetric', iou_metrics=['mIoU']),
        steps=150,
        batch=4,
    )


STREET = dict(classes=('person', 'bicycle', 'car'))
STREET_SIZE = (320, 256)
GRAY = (114.0, 114.0, 114.0)


def street(data: Path, out: Path, held: bool) -> Parts:
    """Detection on streets at day and night (`street_pairs`), labels of both images."""
    load = [IMAGES, dict(type='mmdet.LoadAnnotations', with_bbox=True)]
    zoom = [
        dict(
            type='RandomResize',
            scale=STREET_SIZE,
            ratio_range=(0.8, 1.5),
            keep_ratio=True,
            resize_type='mmdet.Resize',
        ),
        dict(
            type='mmdet.RandomCrop',
            crop_size=STREET_SIZE,
            allow_negative_crop=True,
        ),
        dict(type='mmdet.RandomFlip', prob=0.5),
        dict(type='mmdet.Pad', size=STREET_SIZE, pad_val=dict(img=114)),
    ]
    train_pipeline = [
        *load,
        dict(type='mmir.PairedTransform', transforms=zoom),
        *(
            dict(type='mmir.OnModality', modality=name, transforms=BRIGHTNESS)
            for name in CAMERAS
        ),
        dict(type='mmdet.FilterAnnotations', min_gt_bbox_wh=(2, 2), keep_empty=False),
        dict(type='mmir.PackPairedInputs'),
    ]
    test_pipeline = [
        IMAGES,
        dict(
            type='mmir.PairedTransform',
            transforms=[
                dict(type='mmdet.Resize', scale=STREET_SIZE, keep_ratio=True),
                dict(type='mmdet.Pad', size=STREET_SIZE, pad_val=dict(img=114)),
            ],
        ),
        load[1],
        dict(type='mmir.PackPairedInputs', meta_keys=('instances',)),
    ]
    sets = {}
    for split in ('train', 'val'):
        sets[split] = dict(
            type='mmir.FLIRDataset',
            modality='both',
            data_root=str(data / 'street_pairs'),
            ann_file=str(data / f'street_pairs/{split}/fused_annotations.json'),
            data_prefix=dict(img=f'{split}/'),
            metainfo=STREET,
            pipeline=train_pipeline if split == 'train' else test_pipeline,
            test_mode=split == 'val',
        )
    if held:
        files = hold_out(Path(sets['train']['ann_file']), out)
        sets['val'].update(data_prefix=dict(img='train/'), ann_file=str(files[1]))
        sets['train']['ann_file'] = str(files[0])
    return Parts(
        scope='mmdet',
        metric='coco/bbox_mAP_50',
        model=_detector(),
        heads=('^neck', '^bbox_head'),
        train=sets['train'],
        test=sets['val'],
        evaluator=dict(type='mmdet.CocoMetric', metric='bbox', classwise=True),
        steps=200,
        batch=4,
    )


def keep_boxes_precise_(model: nn.Module) -> None:
    """Run the box head of a detector in float32 under autocast, if there is one.

    bfloat16 has 8 significant bits, so it would move corners of boxes by a pixel, and
    numpy, in which hosts compute their metrics, has no such type.
    """
    for name, head in model.named_modules():
        if name.split('.')[-1] == 'bbox_head':
            head.forward = partial(_in_float32, head.forward)


def _in_float32(forward: Callable, maps: Sequence[Tensor]) -> Any:
    with torch.autocast(maps[0].device.type, enabled=False):
        return forward([features.float() for features in maps])


def _detector() -> dict:
    """RTMDet's head and training on three maps of the backbone."""
    norm, strides = dict(type='BN'), (8, 16, 32)
    return dict(
        type='mmdet.RTMDet',
        data_preprocessor=dict(
            type='mmir.PairedDetDataPreprocessor',
            modalities=CAMERAS,
            pad_size_divisor=32,
        ),
        backbone=dict(TAPS, blocks=(5, 8, 11), scales=(2, 1, 0.5)),
        neck=dict(
            type='mmdet.ChannelMapper',
            in_channels=[768] * 3,
            out_channels=128,
            kernel_size=1,
            norm_cfg=norm,
            act_cfg=dict(type='SiLU'),
        ),
        bbox_head=dict(
            type='mmdet.RTMDetSepBNHead',
            num_classes=3,
            in_channels=128,
            feat_channels=128,
            stacked_convs=2,
            anchor_generator=dict(
                type='mmdet.MlvlPointGenerator', offset=0, strides=strides
            ),
            bbox_coder=dict(type='mmdet.DistancePointBBoxCoder'),
            loss_cls=dict(type='mmdet.QualityFocalLoss', use_sigmoid=True, beta=2.0),
            loss_bbox=dict(type='mmdet.GIoULoss', loss_weight=2.0),
            with_objectness=False,
            exp_on_reg=False,
            share_conv=True,
            pred_kernel_size=1,
            norm_cfg=norm,
            act_cfg=dict(type='SiLU'),
        ),
        train_cfg=dict(
            assigner=dict(type='mmdet.DynamicSoftLabelAssigner', topk=13),
            allowed_border=-1,
            pos_weight=-1,
        ),
        test_cfg=dict(
            nms_pre=1000,
            min_bbox_size=0,
            score_thr=0.001,
            nms=dict(type='nms', iou_threshold=0.65),
            max_per_img=300,
        ),
    )
