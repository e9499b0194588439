"""Networks of the IV-tuning benchmark, and the ways to train them on image pairs."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from mmir.adapters import Method, adapt_
from mmir.adapters.block import BlockLayer, plain_drop_rates_
from mmir.adapters.transformers import find_transformers
from mmir.ivtuning import IVTuning
from mmir.peft import LoRA

CLASSES = 20
TINY = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
VIT = dict(type='mmpretrain.VisionTransformer', patch_size=16, out_type='featmap')
EVA = dict(type='mmpretrain.ViTEVA02', patch_size=16, out_type='featmap', sub_ln=True)


@dataclass(frozen=True)
class Network:
    """A backbone to measure.

    Attributes:
        name: Name in the tables.
        backbone: Its config.
        size: Side of the square images in pixels.
        precisions: Precisions on a GPU; on a CPU only fp32 is measured.
    """

    name: str
    backbone: dict[str, Any]
    size: int
    precisions: tuple[str, ...] = ('fp32', 'bf16')


NETWORKS = {
    'vit-tiny': Network('tiny ViT', dict(VIT, arch=TINY, img_size=64), 64),
    'vit-s': Network('ViT-S/16', dict(VIT, arch='deit-small', img_size=224), 224),
    'vit-b': Network('ViT-B/16', dict(VIT, arch='base', img_size=512), 512),
    'eva02-l': Network(
        'EVA-02-L/16', dict(EVA, arch='l', img_size=512), 512, precisions=('bf16',)
    ),
}


def plain(backbone: dict[str, Any]) -> nn.Module:
    """The backbone of RGB alone."""
    return MODELS.build(backbone)


def frozen(backbone: dict[str, Any]) -> nn.Module:
    """The frozen backbone of RGB."""
    return plain(backbone).requires_grad_(False)


def early(backbone: dict[str, Any]) -> nn.Module:
    """The backbone of both images: a visible plus an infrared embedding."""
    fusion = dict(channels=(3, 3), init='zero')
    cfg = dict(backbone, type='mmir.EarlyFusion', target=backbone['type'])
    return MODELS.build(dict(cfg, fusion=fusion))


def dual(backbone: dict[str, Any]) -> nn.Module:
    """Two backbones, whose features are added."""
    # without `out_channels` a small image is run, which changes EVA-02's positions
    dims = plain(backbone).embed_dims
    cfg = dict(type='mmir.TwoStreamBackbone', backbone=backbone, out_channels=[dims])
    return MODELS.build(dict(cfg, fuse=dict(type='add', mean=False)))


def lora(backbone: dict[str, Any]) -> nn.Module:
    """LoRA of the backbone of both images, whose patch embedding trains along."""
    model = early(backbone)
    adapt_(model, LoRA(), trainable=['patch_embed'], norm='frozen')
    return model


def adapted(method: Callable[[], Method], backbone: dict[str, Any]) -> nn.Module:
    """The frozen backbone with the adapters of a method."""
    model = plain(backbone)
    adapt_(model, method(), trainable=[])
    return model


def checkpointed(
    build: Callable[[dict[str, Any]], nn.Module], backbone: dict[str, Any]
) -> nn.Module:
    """A model with gradient checkpointing of every block."""
    model = build(backbone)
    for name in (n for found in find_transformers(model) for n in found.blocks):
        block = model.get_submodule(name)
        if isinstance(block, BlockLayer):
            block.with_cp = True
        else:  # mmpretrain's ViTs have no `with_cp`
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    return model


def compiled(
    build: Callable[[dict[str, Any]], nn.Module], backbone: dict[str, Any]
) -> nn.Module:
    """A model compiled by torch; on a GPU it runs as CUDA graphs."""
    model = build(backbone)
    plain_drop_rates_(model)
    model.compile(mode='reduce-overhead')
    return model


FULL, FROZEN, DUAL, HYBRID = 'full', 'frozen', 'dual branch', 'IV-tuning hybrid'
hybrid = partial(adapted, IVTuning)
ROWS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    FULL: early,
    'full, RGB only': plain,
    FROZEN: frozen,
    'LoRA': lora,
    DUAL: dual,
    HYBRID: hybrid,
    'IV-tuning mp': partial(adapted, partial(IVTuning, 'mp')),
    f'{FULL}, checkpointing': partial(checkpointed, early),
    f'{HYBRID}, checkpointing': partial(checkpointed, hybrid),
}
"""Name -> function that builds the backbone from its config."""
COMPILED = {
    f'{name}, compiled': partial(compiled, ROWS[name])
    for name in (FULL, FROZEN, 'LoRA', HYBRID, 'IV-tuning mp')
}
"""More rows. Compiling takes a minute for each."""
RGB_ONLY = 'full, RGB only', FROZEN, f'{FROZEN}, compiled'
ADAPTER_FILES = 'LoRA', HYBRID, 'IV-tuning mp'
"""Rows whose stage is a small file."""


class Run:
    """A backbone with a head of one layer, an optimizer, and random data.

    The head is a 1x1 convolution to 20 classes on the last feature map, with cross
    entropy against random labels. The weights are random as well.

    Args:
        network: The network.
        row: Key of `ROWS` or `COMPILED`.
        batch: Number of images.
        device: Where everything is built.
        precision: `'fp32'`, or `'bf16'` for autocast.
    """

    def __init__(
        self, network: Network, row: str, batch: int, device: str, precision: str
    ) -> None:
        self.device, self.precision = device, precision
        with torch.device(device):
            backbone = (ROWS | COMPILED)[row](network.backbone)
            dims = next(m for m in backbone.modules() if hasattr(m, 'embed_dims'))
            head = nn.Conv2d(dims.embed_dims, CLASSES, 1)
            channels, grid = 3 if row in RGB_ONLY else 6, network.size // 16
            self.images = torch.randn(batch, channels, network.size, network.size)
            self.labels = torch.randint(CLASSES, (batch, grid, grid))
        self.model = nn.ModuleDict(dict(backbone=backbone, head=head)).train()
        self.trainable = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trainable, lr=1e-4, weight_decay=0.05)

    def loss(self) -> Tensor:
        """The loss of the batch."""
        with self._autocast():
            features = self.model['backbone'](self.images)[-1]
            return cross_entropy(self.model['head'](features).float(), self.labels)

    def step(self) -> None:
        """Train one step; gradients are dropped afterwards."""
        self.loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def infer(self) -> None:
        """Run the backbone on the first image."""
        with torch.no_grad(), self._autocast():
            self.model['backbone'](self.images[:1])

    def resident_bytes(self) -> int:
        """Bytes of weights, buffers, gradients of a step and optimizer state."""
        state = (t for s in self.optimizer.state.values() for t in s.values())
        held = (*self.model.parameters(), *self.model.buffers(), *self.trainable)
        return sum(t.nbytes for t in (*held, *state))

    def _autocast(self) -> AbstractContextManager:
        if self.precision == 'fp32':
            return nullcontext()
        return torch.autocast(self.device, torch.bfloat16)
