"""Shrink a config to laptop scale, keeping its structure."""

import copy

from mmengine.config import Config

from mmir.testing.rescale import set_crop_size, set_image_scale
from mmir.testing.small_convolutional import shrink_convolutional_
from mmir.testing.small_light import shrink_light_
from mmir.testing.small_transformer import shrink_transformer_

TINY_HEAD = dict(obj_weight=1.0, cls_weight=0.5)
"""Loss weights of YOLOv7-tiny at 640 px."""

TINY_CHANNELS = (128, 256, 512)
"""Input channels of the head of YOLOv7-tiny."""

TINY_AUGMENTATION = dict(
    CenteredRandomAffine=dict(max_translate_ratio=0.1, scaling_ratio_range=(0.5, 1.6)),
    CachedMixUp=dict(prob=0.05),
)
"""Augmentation of YOLOv7-tiny, milder than that of L."""


def shrink(cfg: Config, image_scale: tuple[int, int] = (320, 320)) -> Config:
    """Return a small version of a config: small images, a small network.

    YOLOv7 becomes the tiny one; vision transformers, and deep ResNets and MobileNetV2
    of segmentors, become narrow; networks of TOPLight become a small MobileNetV3.
    Other networks stay as they are.

    Args:
        cfg (Config): Config of a detector, a segmentor or a classifier. It is not
            modified.
        image_scale (tuple[int, int]): Width and height of the images in pixels. Of a
            segmentor the width alone is used, and crops keep their shape; images of a
            classifier keep their size.

    Returns:
        Config: The same config with the small network and at most two data workers.
        The schedule is unchanged (see `mmir.testing.rescale.set_schedule`).
    """
    small = copy.deepcopy(cfg)
    model = small.model
    backbone = model.get('backbone', {})
    if 'YOLOv7' in backbone.get('type', '') and backbone.arch != 'tiny':
        model.backbone.arch = model.neck.arch = 'tiny'
        model.bbox_head.head_module.in_channels = TINY_CHANNELS
        model.bbox_head.update(TINY_HEAD)
        for transform in small.train_dataloader.dataset.get('pipeline', []):
            kind = transform.type.rpartition('.')[2]
            transform.update(TINY_AUGMENTATION.get(kind, {}))
    shrink_transformer_(model)
    shrink_convolutional_(model)
    shrink_light_(model)
    if model.get('data_preprocessor', {}).get('size') is not None:
        set_crop_size(small, image_scale[0])
    elif 'head' not in model:
        set_image_scale(small, image_scale)
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if small.get(key):
            small[key].num_workers = min(2, small[key].get('num_workers', 0))
            small[key].persistent_workers = small[key].num_workers > 0
    return small
