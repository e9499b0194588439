"""Models of the hosts' own configs behind a paired preprocessor."""

from dataclasses import replace
from typing import Any

import torch
from any_host import HOSTS, Host
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from torch import Tensor, nn

PREPROCESSORS = {
    'mmdet': 'mmir.PairedDetDataPreprocessor',
    'mmseg': 'mmir.PairedSegDataPreprocessor',
    'mmpretrain': 'mmir.PairedClsDataPreprocessor',
}

SMALL_DEEPLAB = replace(
    HOSTS['deeplabv3plus'],
    small={
        'backbone.depth': 18,
        'decode_head.in_channels': 512,
        'decode_head.c1_in_channels': 64,
        'decode_head.channels': 64,
        'auxiliary_head.in_channels': 256,
        'auxiliary_head.channels': 32,
    },
)
"""ResNet-18 with the deep stem, and its heads."""


def paired_config(host: Host, **channels: int) -> ConfigDict:
    """The config of a host's model for modalities of so many channels."""
    cfg = host.model_config()
    cfg.type = f'{host.scope}.{cfg.type}'
    cfg.data_preprocessor = dict(
        type=PREPROCESSORS[host.scope],
        modalities={name: dict(channels=count) for name, count in channels.items()},
    )
    return cfg


def built_by(builder: str, cfg: ConfigDict, **extra: Any) -> nn.Module:
    """Build a config through one of our builders, flat."""
    cfg = dict(cfg, type=f'mmir.{builder}', target=cfg.type)
    return MODELS.build(dict(cfg, **extra))


def lively(model: nn.Module) -> nn.Module:
    """Batch norms with statistics of their own, as after training; in float64."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.1)
    for name, parameter in model.named_parameters():
        if name.endswith('level_embed'):  # the host leaves it uninitialized
            nn.init.normal_(parameter)
    return model.double()


def backbone_maps(model: nn.Module, x: Tensor) -> list[Tensor]:
    """What the backbone makes of an input, in evaluation mode."""
    model.eval()
    with torch.no_grad():
        out = model.backbone(x)
    return list(out) if isinstance(out, (list, tuple)) else [out]


def assert_same(left: list[Tensor], right: list[Tensor], rtol: float = 1e-9) -> None:
    """Feature maps are equal up to rounding in float64."""
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=1e-9)
