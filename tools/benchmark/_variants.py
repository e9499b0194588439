"""What is compared: a dense model and the factorised ones made of it."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mmir.adapters import adapt_, merge_
from mmir.cli.stages import ROOT
from mmir.tensorfact import TensorFact, TensorFactConv, factorize_

BASELINE, CONTROL = 'dense', 'dense, again'


@dataclass(frozen=True)
class Variant:
    """One of the things to measure.

    Attributes:
        name: Row of the tables.
        kind: How it computes, the name without the rank.
        build: Makes the model of a copy of the dense one, in place or not.
        rank: Rank of the factors, None if there are none.
        phases: Where it has something of its own to show.
    """

    name: str
    kind: str
    build: Callable[[nn.Module], nn.Module]
    rank: int | None = None
    phases: tuple[str, ...] = ('forward', 'train')


@dataclass
class Case:
    """A model and its input.

    Attributes:
        name: Column of the tables.
        scope: `'layer'` or `'net'`.
        model: The dense model.
        x: Input; with a gradient if the layer is one of many.
        skipped: Why a variant is not measured, by its name.
    """

    name: str
    scope: str
    model: nn.Module
    x: Tensor
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, order=True)
class Geometry:
    """A 3x3 convolution: channels, height and width of the input, stride."""

    out_channels: int
    in_channels: int
    height: int
    width: int
    stride: int = 1

    @property
    def name(self) -> str:
        """Short name, as in `64x128 40x40 /2`."""
        text = f'{self.out_channels}x{self.in_channels} {self.height}x{self.width}'
        return text if self.stride == 1 else f'{text} /{self.stride}'

    def case(self, batch: int) -> Case:
        """A layer of this geometry on random input."""
        channels = self.in_channels, self.out_channels
        conv = nn.Conv2d(*channels, 3, self.stride, padding=1, bias=False)
        x = torch.randn(batch, self.in_channels, self.height, self.width)
        return Case(self.name, 'layer', nn.Sequential(conv), x.requires_grad_())


TABLE = (
    Geometry(64, 64, 80, 80),
    Geometry(128, 128, 80, 80),
    Geometry(256, 256, 40, 40),
    Geometry(512, 512, 20, 20),
    Geometry(256, 256, 40, 40, 2),
)
"""Layers of YOLOv7-L at 640 px, from the first stages to the last."""


def variants(ranks: Sequence[int], middle: int, modes: Sequence[str]) -> list[Variant]:
    """All variants of TensorFact.

    Args:
        ranks: For the modes whose cost depends on the rank.
        middle: Rank for the others.
        modes: Modes of `TensorFactConv` to measure.
    """

    def in_mode(mode: str, rank: int) -> Callable[[nn.Module], nn.Module]:
        def build(model: nn.Module) -> nn.Module:
            factorize_(model, rank, mode=mode)
            return model

        return build

    def stage(mode: str) -> Callable[[nn.Module], nn.Module]:
        def build(model: nn.Module) -> nn.Module:
            adapt_(model, TensorFact(middle, mode=mode))
            return model

        return build

    def merged(model: nn.Module) -> nn.Module:
        factorize_(model, middle)
        return merge_(model)

    found = [Variant(name, 'dense', lambda m: m) for name in (BASELINE, CONTROL)]
    found.append(Variant('merged', 'merged', merged, middle, ('forward',)))
    for mode in modes:
        if mode == 'branch':
            continue  # without deltas it is `reconstruct`
        for rank in (middle,) if mode == 'reconstruct' else ranks:
            found.append(Variant(f'{mode} r={rank}', mode, in_mode(mode, rank), rank))
    # the infrared stage: factors frozen, a delta of rank 1 and batch norms train
    for mode in modes:
        if mode in ('auto', 'branch'):
            name = f'delta, {mode} r={middle}+1'
            found.append(Variant(name, 'delta', stage(mode), middle))
    return found


def rivals(ranks: Sequence[int]) -> tuple[list[Variant], str]:
    """Factorised convolutions of tensorly-torch (optional), for single layers.

    CP and Tucker factors with as many parameters as ours have at each rank, with
    random values, executed factor by factor (`factorized`) and, at the largest rank,
    as one convolution (`reconstructed`).

    Returns:
        The variants, and the version or why there are none.
    """
    try:
        from tltorch import FactorizedConv, __version__
    except ImportError as error:
        return [], f'tensorly-torch is not installed ({error})'

    def maker(kind: str, how: str, rank: int) -> Callable[[nn.Module], nn.Module]:
        def build(model: nn.Module) -> nn.Module:
            (conv,) = model
            ours = TensorFactConv.from_conv(conv, rank)
            theirs = FactorizedConv.from_conv(
                conv,
                rank=(ours.A.numel() + ours.B.numel()) / conv.weight.numel(),
                factorization=kind,
                implementation=how,
                decompose_weights=False,
            )
            return check_rival(theirs, conv)

        return build

    found = []
    for kind in ('cp', 'tucker'):
        for how in ('factorized', 'reconstructed'):
            for rank in ranks if how == 'factorized' else ranks[-1:]:
                name = f'tltorch {kind}, {how}, params of r={rank}'
                build = maker(kind, how, rank)
                found.append(Variant(name, f'tltorch {kind}, {how}', build, rank))
    return found, f'tensorly-torch {__version__}'


def check_rival(layer: nn.Module, conv: nn.Conv2d) -> nn.Module:
    """Return tensorly's layer in a sequence if it computes its own kernel's output.

    Raises:
        ValueError: For a geometry it has wrong, or another output.
    """
    plain = conv.groups == 1 and conv.padding_mode == 'zeros'
    if not plain or len(set(conv.stride)) > 1 or isinstance(conv.padding, str):
        raise ValueError('a geometry tensorly-torch computes wrongly')
    x = torch.randn(1, conv.in_channels, 9, 8)
    with torch.no_grad():
        kernel = layer.weight.to_tensor()
        expected = F.conv2d(x, kernel, layer.bias, conv.stride, conv.padding)
        error = (layer(x) - expected).norm() / expected.norm()
    if not error < 1e-5:
        raise ValueError(f'output differs from that of its own kernel by {error:.1e}')
    return nn.Sequential(layer)


class RawMaps(nn.Module):
    """The network of a detector: images to raw maps, without loss and boxes."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.backbone, self.neck = detector.backbone, detector.neck
        self.bbox_head = detector.bbox_head

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images (N, 3, H, W) to one map (N, A * (5 + C), H_i, W_i) a level."""
        return self.bbox_head(self.neck(self.backbone(x)))[0]


def yolov7(arch: str, size: tuple[int, int], batch: int) -> Case:
    """YOLOv7 of a size on random images of (height, width) pixels."""
    cfg = Config.fromfile(ROOT / 'configs/_base_/models/yolov7_l.py')
    cfg.model.backbone.arch = cfg.model.neck.arch = arch
    cfg.model.bbox_head.head_module.arch = arch
    init_default_scope('mmdet')
    model = RawMaps(MODELS.build(cfg.model))
    images = torch.rand(batch, 3, *size)
    return Case(f'YOLOv7-{arch} {size[0]}x{size[1]}', 'net', model, images)


def geometries(net: Case) -> list[Geometry]:
    """All distinct convolutions of a network that would be factorised."""
    model = copy.deepcopy(net.model).eval()
    factorize_(model, 1, mode='reconstruct')
    found: set[Geometry] = set()

    def note(layer: TensorFactConv, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        channels = layer.out_channels, layer.in_channels
        found.add(Geometry(*channels, *inputs[0].shape[2:], layer.stride[0]))

    for layer in model.modules():
        if isinstance(layer, TensorFactConv):
            layer.register_forward_hook(note)
    with torch.no_grad():
        model(net.x[:1])
    return sorted(found, key=lambda g: (-g.height, g.out_channels, g.in_channels))
