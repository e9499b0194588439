"""Small detectors of mmdet and ours that read a pair, plain and shared; batches."""

import copy
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from any_host import HOSTS, MMDET, Host
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

IR, RGB = ('rgb',), ('ir',)  # what is absent
SIZE = 64
NARROW = {  # ResNet-50 of an eighth of the width
    'backbone.base_channels': 8,
    'backbone.stem_channels': 8,
    'neck.in_channels': [32, 64, 128, 256],
}
DETECTORS = dict(
    rtmdet=Host(
        **MMDET,
        config=HOSTS['rtmdet'].config,
        small={
            'backbone.widen_factor': 0.125,
            'neck.in_channels': [32, 64, 128],
            'neck.out_channels': 16,
            'bbox_head.in_channels': 16,
            'bbox_head.feat_channels': 16,
            'test_cfg.score_thr': 0.0,
            'test_cfg.nms_pre': 20,
        },
    ),
    faster_rcnn=Host(
        **MMDET,
        config=HOSTS['faster_rcnn'].config,
        small={
            **NARROW,
            'neck.out_channels': 16,
            'rpn_head.in_channels': 16,
            'rpn_head.feat_channels': 16,
            'roi_head.bbox_roi_extractor.out_channels': 16,
            'roi_head.bbox_head.in_channels': 16,
            'roi_head.bbox_head.fc_out_channels': 32,
            'test_cfg.rpn.max_per_img': 20,
            'train_cfg.rpn_proposal.max_per_img': 20,
            'test_cfg.rcnn.score_thr': 0.0,
        },
    ),
    retinanet=Host(  # its neck skips the first map
        **MMDET,
        config='retinanet/retinanet_r50_fpn_1x_coco.py',
        small={
            **NARROW,
            'neck.out_channels': 16,
            'bbox_head.in_channels': 16,
            'bbox_head.feat_channels': 16,
            'test_cfg.score_thr': 0.0,
            'test_cfg.nms_pre': 20,
        },
    ),
    yolox=Host(
        **MMDET,
        config='yolox/yolox_tiny_8xb8-300e_coco.py',
        small={
            'backbone.widen_factor': 0.125,
            'neck.in_channels': [32, 64, 128],
            'neck.out_channels': 16,
            'bbox_head.in_channels': 16,
            'bbox_head.feat_channels': 16,
            'test_cfg.score_thr': 0.0,
        },
    ),
    yolov7=None,
)


def config(name: str) -> ConfigDict:
    """The config of a detector that reads a pair, for 64 px."""
    host = DETECTORS[name]
    if host is None:
        head = dict(
            type='mmir.YOLOHeadModule', num_classes=80, in_channels=(128, 256, 512)
        )
        cfg = ConfigDict(
            type='mmir.YOLOv7',
            backbone=dict(type='mmir.YOLOv7Backbone', arch='tiny'),
            neck=dict(type='mmir.YOLOv7Neck', arch='tiny'),
            bbox_head=dict(type='mmir.YOLOHead', head_module=head),
            test_cfg=dict(score_thr=0.0, nms_pre=20, max_per_img=20)
            | dict(nms=dict(type='nms', iou_threshold=0.65)),
        )
    else:
        cfg = host.model_config()
        cfg.type = f'mmdet.{cfg.type}'
    cfg.data_preprocessor = dict(
        type='mmir.PairedDetDataPreprocessor',
        modalities={
            name: dict(mean=[mean] * 3, std=[50.0] * 3)
            for name, mean in (('rgb', 110.0), ('ir', 90.0))
        },
        pad_size_divisor=32,
    )
    return cfg


def lively(model: nn.Module) -> nn.Module:
    """Give norms the statistics of some images, and boxes a positive size."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
        nn.init.normal_(norm.running_mean, std=0.1)
        norm.momentum = 1.0
    for conv in getattr(getattr(model, 'bbox_head', None), 'rtm_reg', ()):
        nn.init.constant_(conv.bias, 1.0)
    with torch.no_grad():
        model.train()(images(2)[:, :3], [sample(k) for k in range(2)], mode='tensor')
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model


def built(name: str) -> tuple[nn.Module, nn.Module]:
    """The plain detector, and the shared one with its checkpoint loaded."""
    return copy.deepcopy(_built(name))


@lru_cache
def _built(name: str) -> tuple[nn.Module, nn.Module]:
    cfg = config(name)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        plain = MODELS.build(cfg)
        exchange = dict(mode='quantile', quantile=0.5)
        shared = MODELS.build(
            dict(
                config(name),
                type='mmir.ModalityShared',
                target=cfg.type,
                shared=dict(channel_exchange=exchange, spatial_exchange={}),
            )
        )
    plain.init_weights()
    shared.load_state_dict(lively(plain).state_dict())
    return plain.eval(), shared.eval()


def sample(index: int, absent: Sequence[str] = ()) -> Any:
    found = MMDET['sample'](index)
    layout = dict(modalities=('rgb', 'ir'), channels=(3, 3), absent=tuple(absent))
    layout |= dict(pad_shape=(SIZE, SIZE), flip=False, flip_direction=None)
    found.set_metainfo(dict(layout, img_id=index))
    return found


def images(count: int) -> Tensor:
    return torch.randn(count, 6, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def predict(model: nn.Module, x: Tensor, *absent: Sequence[str]) -> list[Any]:
    samples = [sample(k, gone) for k, gone in enumerate(absent)]
    with torch.no_grad():
        outs = model(x, samples, mode='predict')
    return [out.pred_instances for out in outs]


def loss(model: nn.Module, x: Tensor, *absent: Sequence[str]) -> Tensor:
    samples = [sample(k, gone) for k, gone in enumerate(absent)]
    return model.parse_losses(model(x, samples, mode='loss'))[0]


def batch(count: int) -> dict[str, list]:
    """As a data loader yields it."""
    pixels = (images(count) * 50 + 128).clamp(0, 255).to(torch.uint8)
    return dict(inputs=[*pixels], data_samples=[sample(k) for k in range(count)])
