"""Shrink the networks of TOPLight, and others it is compared with."""

from mmir.testing.small_convolutional import BASE

ROW, CHANNELS = 'mobilenetv3_small_050', (16, 1024)
"""Row of the small network in `mmir.reid.toplight.PARTITIONS`, and its channels."""

FACE = 64
"""Side of the images of a small LightCNN in px."""

_STAGES = [2 * BASE * 2**k for k in range(4)]


def shrink_light_(model: dict) -> bool:
    """Make the network of a model of TOPLight small, in place.

    All light networks of people become a MobileNetV3-S of half the width. LightCNN,
    ConvNeXt and Swin become narrow. There are no pretrained weights. Heads and FDR
    follow.

    Args:
        model (dict): Config of a model of any host.

    Returns:
        bool: Whether there was such a network.
    """
    outer = model.get('backbone') or {}
    if outer.get('type') not in ('mmir.TwoStemBackbone', 'mmir.DualPathBackbone'):
        return False
    kind = outer['backbone']['type'].rpartition('.')[2]
    if kind == 'LightCNN':
        outer['backbone'].update(size=FACE, width=1 / 4, init_cfg=None)
        channels = 256 if outer['backbone'].get('feature', True) else 32
    elif kind.startswith('Light'):
        outer['backbone'] = dict(type='mmir.LightMobileNetV3', arch='small_050')
        key = 'network' if 'network' in outer else 'stem'
        outer[key] = ROW if key == 'network' else ('layer0',)
        channels = CHANNELS[1]
    elif kind in ('ConvNeXt', 'SwinTransformer'):
        flat = dict(depths=[1, 1, 1, 1])
        wide = dict(channels=_STAGES)
        if kind == 'SwinTransformer':
            wide = dict(embed_dims=_STAGES[0], num_heads=[1, 2, 4, 8])
        outer['backbone'].update(arch=flat | wide, init_cfg=None)
        channels = _STAGES[-1]
    else:
        return False
    outer['init_cfg'] = None
    if model.get('head', {}).get('domain'):
        inner = CHANNELS[0] if kind != 'LightCNN' else 48
        model['head']['domain']['channels'] = (inner, channels)
    fdr = (model.get('neck') or {}).get('fdr')
    before, model['head']['in_channels'] = model['head']['in_channels'], channels
    if fdr:
        factor = before * 4 // fdr['in_channels']  # quarters of the channels
        fdr['in_channels'] = channels
        fdr['groups'] = min(fdr['groups'], channels // 4)
        model['head']['in_channels'] = factor * channels // 4
    return True
