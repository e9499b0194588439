"""Shrink the convolutional backbone of a segmentor, and what is connected to it."""

from .small_transformer import HEAD_FACTOR, dicts, followed

_RESNETS = 'ResNet', 'ResNetV1c', 'ResNetV1d'
_RESNET_WIDTHS = 256, 512, 1024, 2048  # of the stages of a deep one

BASE = 8
"""Channels of the first stage of the small ResNet before its expansion by 4."""

_MOBILE_FACTOR = 0.25
_MOBILE_WIDTHS = {24: 8, 32: 8, 96: 24, 320: 80}


def shrink_convolutional_(model: dict) -> bool:
    """Make the deep ResNet or the MobileNetV2 of a segmentor narrow, in place.

    The number of blocks stays the same. Input channels of heads follow, and heads
    become narrower. Pretrained weights of the backbone are removed, of a light ResNet
    too: they do not fit, or would have to be downloaded.

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
    if kind == 'MobileNetV2' and backbone.get('widen_factor', 1.0) == 1:
        backbone['widen_factor'], widths = _MOBILE_FACTOR, _MOBILE_WIDTHS
    elif kind in _RESNETS and backbone['depth'] >= 50:
        backbone.update(base_channels=BASE, stem_channels=BASE)
        widths = {was: 4 * BASE * 2**k for k, was in enumerate(_RESNET_WIDTHS)}
    else:
        return False
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
