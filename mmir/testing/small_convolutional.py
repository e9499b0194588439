"""Shrink the convolutional backbone of a segmentor, and what is connected to it."""

from .small_transformer import HEAD_FACTOR, dicts, followed

_RESNETS = 'ResNet', 'ResNetV1c', 'ResNetV1d'
_BASE = 64  # channels of the first stage of a ResNet before its expansion
_EXPANSION = 4

BASE = 8
"""The same of the small network."""


def shrink_convolutional_(model: dict) -> bool:
    """Make the deep ResNet of a segmentor narrow, in place.

    The number of blocks stays the same. Input channels of heads follow, and heads
    become narrower. Pretrained weights of the backbone are removed, those of a
    MobileNet too: they do not fit, or would have to be downloaded.

    Args:
        model (dict): Config of a model of any host.

    Returns:
        bool: Whether there was a backbone to shrink.
    """
    backbone = model.get('backbone') or {}
    if 'decode_head' not in model or 'type' not in backbone:
        return False
    kind = backbone['type'].rpartition('.')[2]
    if kind not in (*_RESNETS, 'MobileNetV2'):
        return False
    if 'init_cfg' in backbone:
        backbone['init_cfg'] = None
    if kind == 'MobileNetV2' or backbone['depth'] < 50:
        return False
    backbone.update(base_channels=BASE, stem_channels=BASE)
    widths = {_BASE * _EXPANSION * 2**k: BASE * _EXPANSION * 2**k for k in range(4)}
    for node in dicts(model):
        for key in ('in_channels', 'c1_in_channels'):
            if key in node:
                node[key] = followed(node[key], widths)
    for name in ('decode_head', 'auxiliary_head'):
        for head in dicts(model.get(name)):
            if 'channels' in head:
                head['channels'] = max(8, head['channels'] // HEAD_FACTOR)
    if model.get('contrast'):  # of CSK-Net: widths of the stages it projects
        contrast = model['contrast']
        contrast['channels'] = followed(contrast['channels'], widths)
    return True
