"""A small CSK-Net, its plain network, and batches for them."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

PAIR = 'rgb', 'ir'
SIZE = 32
CLASSES = 3
NORM = dict(type='BN')
CHANNELS = 16, 32, 64, 128
BACKBONE = dict(
    type='mmseg.ResNetV1c',
    depth=50,
    base_channels=4,
    stem_channels=4,
    strides=(1, 2, 1, 1),
    dilations=(1, 1, 2, 4),
    norm_cfg=NORM,
)
DECODER = dict(
    type='mmseg.DepthwiseSeparableASPPHead',
    in_channels=CHANNELS[-1],
    in_index=3,
    channels=8,
    dilations=(1, 2),
    c1_in_channels=CHANNELS[0],
    c1_channels=4,
    dropout_ratio=0.0,
    num_classes=CLASSES,
    norm_cfg=NORM,
    align_corners=False,
    loss_decode=dict(type='mmseg.CrossEntropyLoss'),
)
EXCHANGE = dict(
    channel_exchange=dict(mode='quantile', quantile=0.5), spatial_exchange={}
)


def plain_net(decoder: dict | None = None, **backbone: Any) -> nn.Module:
    """The plain segmentor of one modality, with statistics as after training."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        net = MODELS.build(
            dict(
                type='mmseg.EncoderDecoder',
                backbone=dict(BACKBONE, **backbone),
                decode_head=decoder or DECODER,
                test_cfg=dict(mode='whole'),
            )
        )
    return lively(net)


def csk_net(
    names: Sequence[str] = PAIR, decoder: dict | None = None, **options: Any
) -> nn.Module:
    """CSK-Net around the same network; options are keys of the model."""
    torch.manual_seed(1)
    modalities = {name: dict(channels=3) for name in names}
    head = dict(type='mmir.CSKHead', decoder=decoder or DECODER)
    head |= options.pop('head', {})
    with DefaultScope.overwrite_default_scope('mmseg'):
        net = MODELS.build(
            dict(
                dict(
                    type='mmir.CSKNet',
                    backbone=BACKBONE,
                    decode_head=head,
                    data_preprocessor=dict(
                        type='mmir.PairedSegDataPreprocessor', modalities=modalities
                    ),
                    test_cfg=dict(mode='whole'),
                ),
                **options,
            )
        )
    return lively(net)


def lively(net: nn.Module) -> nn.Module:
    """Give norms statistics and scales as after training; evaluation, float64."""
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return net.double().eval()


def copy_plain(net: nn.Module, plain: nn.Module, *names: str) -> nn.Module:
    """Give the branches of some modalities the weights of a plain network."""
    net.backbone.load_state_dict(plain.backbone.state_dict())
    for name in names:
        net.decode_head.decoders[name].load_state_dict(plain.decode_head.state_dict())
    return net


def batch(
    *absent: Sequence[str], names: Sequence[str] = PAIR, labels: int | None = None
) -> tuple[Tensor, list[SegDataSample]]:
    """Random images, one for each tuple of absent modalities, and their samples.

    Args:
        absent: What each sample lacks.
        names: All modalities.
        labels: Class of all pixels; random by default, with a strip of 255.
    """
    rng = torch.Generator().manual_seed(2)
    count = len(absent)
    x = torch.randn(count, 3 * len(names), SIZE, SIZE, generator=rng).double()
    samples = []
    for gone in absent:
        y = torch.randint(CLASSES, (1, SIZE, SIZE), generator=rng)
        y[:, :4] = 255
        if labels is not None:
            y.fill_(labels)
        size = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape'), (SIZE, SIZE))
        meta = dict(size, modalities=tuple(names), channels=(3,) * len(names))
        sample = SegDataSample(metainfo=dict(meta, absent=tuple(gone)))
        sample.gt_sem_seg = PixelData(data=y)
        samples.append(sample)
    return x, samples


def logits(net: nn.Module, x: Tensor, samples: list[SegDataSample]) -> Tensor:
    """Logits of all samples at the size of the decoder."""
    with torch.no_grad():
        return net(x, samples)
