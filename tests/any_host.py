"""Models of the hosts' shipped configs, with small images and batches for them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from importlib import import_module
from operator import getitem
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

SIZE = 64
"""Side of the images in pixels."""


def detection_sample(index: int) -> Any:
    """A detection sample with two boxes."""
    from mmdet.structures import DetDataSample

    size = dict(img_shape=(SIZE, SIZE), batch_input_shape=(SIZE, SIZE))
    sample = DetDataSample(
        metainfo=dict(**size, ori_shape=(SIZE, SIZE), scale_factor=(1.0, 1.0))
    )
    boxes = torch.tensor([[4.0, 6.0, 40.0, 44.0], [20.0, 30.0, 60.0, 62.0]]) - index
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([1, 3]))
    return sample


def segmentation_sample(index: int) -> Any:
    """A segmentation sample: a rectangle of one class on another."""
    from mmseg.structures import SegDataSample

    labels = torch.zeros(1, SIZE, SIZE, dtype=torch.long)
    labels[:, 10 + index : 40] = 3
    size = dict(img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE))
    return SegDataSample(metainfo=size, gt_sem_seg=PixelData(data=labels))


def classification_sample(index: int) -> Any:
    """A classification sample."""
    from mmpretrain.structures import DataSample

    return DataSample().set_gt_label(index)


@dataclass
class Host:
    """A shipped config and overrides that make its model fast to run.

    Attributes:
        scope: Package of the host.
        config: Path below its configs.
        sample: Makes the sample of the n-th image.
        small: Keys of the model to override.
        split: Split its kernels are factorized by.
    """

    scope: str
    config: str
    sample: Callable[[int], Any]
    small: dict[str, Any] = field(default_factory=dict)
    split: str = 'ts_dd'

    def model_config(self) -> ConfigDict:
        """Return the config of the model, without downloads."""
        package = Path(import_module(self.scope).__file__).parent
        cfg = Config.fromfile(package / '.mim' / 'configs' / self.config)
        model = cfg.model
        model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
        model.data_preprocessor.setdefault('type', 'ClsDataPreprocessor')
        model.data_preprocessor.pop('size', None)
        model.pop('pretrained', None)
        model.backbone.pop('init_cfg', None)
        for key, value in self.small.items():
            *path, last = key.split('.')
            reduce(getitem, path, model)[last] = value
        if self.scope == 'mmseg':
            model.data_preprocessor.size = (SIZE, SIZE)
        return model

    def batch(self) -> dict[str, Any]:
        """Return two images and their samples, as from the host's dataloader."""
        generator = torch.Generator().manual_seed(0)
        shape = (3, SIZE, SIZE)
        images = [
            torch.randint(256, shape, generator=generator).to(torch.uint8)
            for _ in range(2)
        ]
        if self.scope == 'mmpretrain':
            images = torch.stack(images)
        return dict(inputs=images, data_samples=[self.sample(i) for i in range(2)])


MMDET = dict(scope='mmdet', sample=detection_sample)
MMSEG = dict(scope='mmseg', sample=segmentation_sample)
MMPRETRAIN = dict(scope='mmpretrain', sample=classification_sample)

HOSTS = {
    'rtmdet': Host(**MMDET, config='rtmdet/rtmdet_tiny_8xb32-300e_coco.py'),
    'faster_rcnn': Host(
        **MMDET,
        config='faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
        small={
            'backbone.frozen_stages': -1,  # else the host freezes its deltas too
            'roi_head.bbox_head.fc_out_channels': 64,
            'test_cfg.rpn.max_per_img': 20,
            'train_cfg.rpn_proposal.max_per_img': 20,
        },
    ),
    'dino': Host(
        **MMDET,
        config='dino/dino-4scale_r50_8xb2-12e_coco.py',
        small={
            'backbone.frozen_stages': -1,
            'num_queries': 20,
            'encoder.num_layers': 1,
            'decoder.num_layers': 2,
            'dn_cfg.group_cfg.num_dn_queries': 4,
        },
    ),
    'deeplabv3plus': Host(
        **MMSEG,
        config='deeplabv3plus/deeplabv3plus_r50-d8_4xb2-40k_cityscapes-512x1024.py',
        small={'decode_head.channels': 64, 'auxiliary_head.channels': 32},
    ),
    'segformer': Host(
        **MMSEG, config='segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'
    ),
    'resnet50': Host(**MMPRETRAIN, config='resnet/resnet50_8xb32_in1k.py'),
    'mobilenet_v3': Host(
        **MMPRETRAIN,
        config='mobilenet_v3/mobilenet-v3-small_8xb128_in1k.py',
        split='t_sdd',
    ),
    'convnext': Host(
        **MMPRETRAIN,
        config='convnext/convnext-tiny_32xb128_in1k.py',
        small={
            'backbone.arch': dict(depths=[1, 1, 2, 1], channels=[96, 192, 384, 768])
        },
    ),
}


def features(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the features of normalized images, through all layers to factorize."""
    model.eval()
    with torch.no_grad():
        out = model.extract_feat(x)
    return list(out) if isinstance(out, (list, tuple)) else [out]


def outputs(model: nn.Module, batch: dict[str, Any]) -> list[Tensor]:
    """Return all tensors of the raw output of a model, in order."""
    model.eval()
    with torch.no_grad():
        data = model.data_preprocessor(batch)
        return _tensors(model(**data, mode='tensor'))


def _tensors(value: Any) -> list[Tensor]:
    """Yield tensors in nested tuples, lists, dictionaries and instances, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, InstanceData):
        value = dict(value.items())
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, (str, int, float)) or value is None:
        return []
    return [tensor for item in value for tensor in _tensors(item)]
