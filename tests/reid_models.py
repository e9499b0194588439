"""Small models of re-identification."""

from typing import Any

import torch
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmir.registry import MODELS

RESNET = dict(
    type='mmir.NonLocalResNet',
    depth=18,
    stem_channels=8,
    base_channels=8,
    strides=(1, 2, 2, 1),
    non_local=(0, 1, 1, 0),
)
WIDTH = 64
IDS = 4
PLAIN = {k: v for k, v in RESNET.items() if k != 'non_local'}
PLAIN['type'] = 'mmpretrain.ResNet'
TRANSFER = dict(type='mmir.MFT', in_channels=WIDTH, channels=16)


def build(cfg: dict[str, Any], seed: int = 0) -> nn.Module:
    """Build and initialize a module, always with the same weights, in eval mode."""
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        module = MODELS.build(cfg)
        module.init_weights()
    module.eval()  # returns None for ResNet
    return module


def two_stem(**changes: Any) -> nn.Module:
    """A backbone with two stems whose weights differ."""
    backbone = dict(type='mmir.TwoStemBackbone', backbone=RESNET | changes)
    return build(backbone)


def vireid(**head: Any) -> nn.Module:
    """The AGW model, small."""
    return build(
        dict(
            type='mmir.VIReID',
            backbone=dict(type='mmir.TwoStemBackbone', backbone=RESNET),
            neck=dict(type='GeneralizedMeanPooling', p=3.0, p_trainable=False),
            head=dict(
                type='mmir.VIReIDHead',
                num_classes=IDS,
                in_channels=WIDTH,
                metric=dict(wrt=dict(type='mmir.WRTLoss')),
            )
            | head,
        )
    )


def tmpa(fusion: str = 'concat') -> nn.Module:
    """TMPA, small."""
    slots = 3 if fusion == 'concat' else 2
    head = dict(
        type='mmir.TMPAHead',
        num_classes=IDS,
        in_channels=slots * WIDTH,
        branch_channels=WIDTH,
        metric=dict(wrt=dict(type='mmir.WRTLoss')),
        mss=dict(type='mmir.MSSLoss', loss_weight=0.5),
        msi=dict(type='mmir.MSILoss', loss_weight=0.5),
    )
    return build(
        dict(
            type='mmir.VIReID',
            backbone=dict(type='mmir.TMPABackbone', backbone=PLAIN, transfer=TRANSFER),
            neck=dict(type='mmir.CompleteNeck', fusion=fusion),
            head=head,
        )
    )


def people(modalities: list[str], labels: list[int]) -> list[DataSample]:
    """Samples of people."""
    rows = zip(modalities, labels, strict=True)
    return [
        DataSample(metainfo=dict(modality=modality)).set_gt_label(label)
        for modality, label in rows
    ]


def two_ddp_steps(model: nn.Module, rank: int, size: tuple[int, int]) -> dict:
    """State dict after two steps of two processes; the second one never sees RGB."""
    modalities = (['rgb', 'rgb', 'ir', 'ir'], ['ir'] * 4)[rank]
    wrapped = DistributedDataParallel(model.train(), broadcast_buffers=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    images = torch.rand(4, 3, *size, generator=torch.Generator().manual_seed(rank))
    for _ in range(2):
        losses = wrapped(images, people(modalities, [0, 1, 0, 1]), 'loss')
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    return model.state_dict()
