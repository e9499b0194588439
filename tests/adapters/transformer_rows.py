"""Rows of the contract suite: methods for transformers x tiny backbones."""

import copy
from functools import lru_cache, partial
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from mmir.ivtuning import IVTuning
from mmir.ivtuning.layer import PromptLayer
from mmir.peft import VPT, AdaptFormer, LoRA, Mona
from mmir.testing.contract import Case

VIT = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
PLAIN = dict(img_size=64, patch_size=16, out_type='featmap')
NETWORKS = {
    'vit': dict(type='VisionTransformer', arch=VIT, **PLAIN),
    'eva02': dict(type='ViTEVA02', arch=VIT, **PLAIN),
    'beit': dict(type='BEiTViT', arch=VIT, **PLAIN),
    'swin': dict(
        type='SwinTransformer',
        arch=dict(embed_dims=16, depths=[2, 2], num_heads=[2, 2]),
        img_size=64,
        window_size=4,
        out_indices=(1,),
    ),
}
METHODS: dict[str, tuple[type, dict[str, Any]]] = {
    'LoRA': (LoRA, dict(rank=3)),
    'AdaptFormer': (AdaptFormer, dict(rank=4)),
    'VPT-deep': (VPT, dict(number=3)),
    'VPT-shallow': (VPT, dict(number=3, deep=False)),
    'Mona': (Mona, dict(rank=4, zero_init=True)),
    'Mona-published': (Mona, dict(rank=4)),
    'IVTuning': (IVTuning, dict(rank=4, prompt_rank=4, zero_init=True)),
    'IVTuning-published': (IVTuning, dict(rank=4, prompt_rank=4)),
    'IVTuning-mp': (IVTuning, dict(variant='mp', rank=4, prompt_rank=4)),
}
"""Name of a row -> method and its options."""
FIELDS: dict[str, dict[str, Any]] = {
    'AdaptFormer': dict(merges=False),
    'VPT-deep': dict(merges=False, neutral=False),
    'VPT-shallow': dict(merges=False, neutral=False),
    'Mona': dict(merges=False),
    'Mona-published': dict(merges=False, neutral=False),
    'IVTuning': dict(merges=False),
    'IVTuning-published': dict(merges=False, neutral=False),
    'IVTuning-mp': dict(merges=False, neutral=False),
}
"""Name of a row -> fields of its `Case`."""


class Classifier(BaseModule):
    """A backbone, the mean of its last map, and a head."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            self.backbone = MODELS.build(dict(config))
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, 4) of images (N, 3, H, W)."""
        return self.head(self.backbone(x)[-1].mean((2, 3)))


@lru_cache(maxsize=1)
def _network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return Classifier(NETWORKS[name])


def network(name: str) -> nn.Module:
    """Return a copy of a network, always with the same weights."""
    return copy.deepcopy(_network(name))


def images(model: nn.Module) -> Tensor:
    """Two images; with the infrared ones for a model that reads them."""
    x = torch.randn(2, 6, 64, 64, generator=torch.Generator().manual_seed(3))
    paired = any(isinstance(module, PromptLayer) for module in model.modules())
    return x if paired else x[:, :3]


def loss(model: nn.Module) -> Tensor:
    """Return the cross-entropy of two images."""
    return nn.functional.cross_entropy(model(images(model)), torch.tensor([1, 3]))


@torch.no_grad()
def outputs(model: nn.Module) -> list[Tensor]:
    """Return scores and features."""
    return [model(images(model)), *model.backbone(images(model))]


def case(method: str, name: str) -> Case:
    """Return the case of a method and a network."""
    cls, options = METHODS[method]
    return Case(
        network=partial(network, name),
        method=partial(cls, **options),
        loss=loss,
        outputs=outputs,
        part=lambda model: (model.backbone, images(model)),
        **FIELDS.get(method, {}),
    )
