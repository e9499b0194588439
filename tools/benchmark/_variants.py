"""Variants to compare: a dense model and the factorized ones made from it."""

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
    """Variant to measure.

    Attributes:
        name: Row of the tables.
        kind: Form of computation: the name without the rank.
        build: Builds the variant from a copy of the dense model, in place or not.
        rank: Rank of the factors; None if there are none.
        phases: Phases to measure; in others it equals another variant.
    """

    name: str
    kind: str
    build: Callable[[nn.Module], nn.Module]
    rank: int | None = None
    phases: tuple[str, ...] = ('forward', 'train')


@dataclass
class Case:
    """Model and its input.

    Attributes:
        name: Title of the table.
        scope: `'layer'` or `'net'`.
        model: The dense model.
        x: Input; requires a gradient for single layers, as inside a network.
        skipped: Reason why a variant is not measured, by name.
    """

    name: str
    scope: str
    model: nn.Module
    x: Tensor
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, order=True)
class Geometry:
    """Geometry of a 3x3 convolution: channels, input height and width, stride."""

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
        """Case of one layer of this geometry on random input."""
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
    """List all variants of TensorFact.

    Args:
        ranks: Ranks for modes whose cost depends on the rank.
        middle: Rank for the other modes.
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
            continue  # without deltas the same as `reconstruct`
        for rank in (middle,) if mode == 'reconstruct' else ranks:
            found.append(Variant(f'{mode} r={rank}', mode, in_mode(mode, rank), rank))
    # the infrared stage: factors frozen, a delta of rank 1 and batch norms train
    for mode in modes:
        if mode in ('auto', 'branch'):
            name = f'delta, {mode} r={middle}+1'
            found.append(Variant(name, 'delta', stage(mode), middle))
    return found


def rivals(ranks: Sequence[int]) -> tuple[list[Variant], str]:
    """Factorized convolutions of tensorly-torch (optional), for single layers.

    CP and Tucker factors with random values and as many parameters as ours have at each
    rank. They are executed factor by factor (`factorized`) and, at the largest rank,
    also as one convolution (`reconstructed`).

    Returns:
        The variants, and the version of tensorly-torch or why it cannot be used.
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
    """Wrap a tensorly-torch layer in a sequence if its output matches its own kernel.

    Raises:
        ValueError: The geometry is known to be computed wrongly, or the output differs.
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
    """Network of a detector: maps images to raw outputs, without loss and decoding."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.backbone, self.neck = detector.backbone, detector.neck
        self.bbox_head = detector.bbox_head

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images (N, 3, H, W) to one map (N, A * (5 + C), H_i, W_i) per level."""
        return self.bbox_head(self.neck(self.backbone(x)))[0]


def yolov7(arch: str, size: tuple[int, int], batch: int) -> Case:
    """Case of a YOLOv7 on random images of (height, width) pixels."""
    from mmir.det.yolov7.arch import get_arch

    cfg = Config.fromfile(ROOT / 'configs/_base_/models/yolov7_l.py')
    cfg.model.backbone.arch = cfg.model.neck.arch = arch
    cfg.model.bbox_head.head_module.in_channels = get_arch(arch).out
    init_default_scope('mmdet')
    model = RawMaps(MODELS.build(cfg.model))
    images = torch.rand(batch, 3, *size)
    return Case(f'YOLOv7-{arch} {size[0]}x{size[1]}', 'net', model, images)


def geometries(net: Case) -> list[Geometry]:
    """All distinct convolutions of a network that would be factorized."""
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
