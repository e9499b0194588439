"""Tensor names of YOLOv7 in this project, in official files and in MMYOLO files.

Official files number their layers, so names follow from the order of the layers:
parallel convolutions come one after the other, and pooling, upsampling and
concatenation are numbered too.
"""

from dataclasses import dataclass, replace
from functools import cache

from mmir.det.yolov7.arch import Arch, get_arch

SOURCES = ('official', 'mmyolo')
_BN = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')
_UNIT = ('conv.weight', *(f'bn.{name}' for name in _BN))


@dataclass(frozen=True)
class Names:
    """Names of one module or tensor.

    Attributes:
        project, official, mmyolo: Name in this project, official and MMYOLO files.
    """

    project: str
    official: str
    mmyolo: str

    def __add__(self, suffix: str) -> 'Names':
        return Names(*(f'{name}.{suffix}' for name in vars(self).values()))


@dataclass(frozen=True)
class Table:
    """Names of all tensors of a size.

    Attributes:
        rows: Names of all tensors except the anchors.
        head: Name of the official head, which holds the anchors.
    """

    rows: tuple[Names, ...]
    head: str


@cache
def name_table(arch: str) -> Table:
    """Return the names of all tensors of a size.

    Args:
        arch (str): Size, a key of `ARCHS`.

    Raises:
        ValueError: Unknown size.
    """
    return _Layers(get_arch(arch)).table()


class _Layers:
    """Iteration over the layers in the order of the official files.

    Args:
        spec (Arch): The size.
    """

    def __init__(self, spec: Arch) -> None:
        self.spec = spec
        self.tiny = spec.pool_only
        self.rows: list[Names] = []
        self.index = 0

    def table(self) -> Table:
        """Return the names of all tensors."""
        self._backbone()
        self._neck()
        head = f'model.{self.index}'
        for level in range(3):
            layers = f'bbox_head.head_module.convs_pred.{level}'
            for ours, theirs in (
                ('0.implicit', f'ia.{level}.implicit'),
                ('1.weight', f'm.{level}.weight'),
                ('1.bias', f'm.{level}.bias'),
                ('2.implicit', f'im.{level}.implicit'),
            ):
                name = f'{layers}.{ours}'
                self.rows.append(Names(name, f'{head}.{theirs}', name))
        return Table(tuple(self.rows), head)

    def _backbone(self) -> None:
        for i in range(len(self.spec.stem)):
            self._unit(f'backbone.stem.{i}')
        for i in range(1, 5):
            stage = f'backbone.stage{i}'
            if i == 1 and self.tiny:
                self._elan(f'{stage}.0', f'{stage}.0', self.spec.stage_block)
                continue
            if i == 1:
                self._unit(f'{stage}.0')
            elif self.tiny:
                self._skip()  # pool
            else:
                self._downsample(f'{stage}.0', f'{stage}.0')
            self._elan(f'{stage}.1', f'{stage}.1', self.spec.stage_block)

    def _neck(self) -> None:
        self._spp('neck.spp', 'neck.reduce_layers.2')
        block = self.spec.neck_block
        # numbered top-down in execution order there, by level here
        for theirs, ours in enumerate((1, 0)):
            up = f'neck.upsample_layers.{theirs}.0'
            self._unit(f'neck.reduce_layers.{ours}', up)
            self._skip()  # upsampling
            self._unit(f'neck.lateral_layers.{ours}', f'neck.reduce_layers.{ours}')
            self._skip()  # concatenation
            path = 'neck.top_down_layers'
            self._elan(f'{path}.{ours}', f'{path}.{theirs}', block)
        for i in (0, 1):
            down, path = f'neck.downsample_layers.{i}', f'neck.bottom_up_layers.{i}'
            if self.tiny:
                self._unit(down)
                self._skip()  # concatenation
            else:
                self._downsample(down, down)
            self._elan(path, path, block)
        for i in range(3):
            out = f'neck.out_layers.{i}'
            if self.spec.rep_out:
                self._rep(out)
            else:
                self._unit(out)

    def _skip(self, count: int = 1) -> None:
        """Skip layers without tensors."""
        self.index += count

    def _unit(self, project: str, mmyolo: str | None = None) -> None:
        """Add a convolution with batch norm."""
        names = Names(project, f'model.{self.index}', mmyolo or project)
        self.rows += [names + suffix for suffix in _UNIT]
        self._skip()

    def _elan(self, project: str, mmyolo: str, block: dict) -> None:
        tap, main = block['tap'], 'main_convs.0' if self.tiny else 'main_conv'
        self._unit(f'{project}.short_conv', f'{mmyolo}.short_conv')
        self._unit(f'{project}.main_conv', f'{mmyolo}.{main}')
        for i in range(block['depth']):
            theirs = f'blocks.{i}' if tap == 1 else f'blocks.{i // tap}.{i % tap}'
            theirs = f'main_convs.{i + 1}' if self.tiny else theirs
            self._unit(f'{project}.blocks.{i}', f'{mmyolo}.{theirs}')
        self._skip()  # concatenation
        self._unit(f'{project}.final_conv', f'{mmyolo}.final_conv')

    def _downsample(self, project: str, mmyolo: str) -> None:
        self._skip()  # pool
        self._unit(f'{project}.pool_conv', f'{mmyolo}.maxpool_branches.1')
        for i in (0, 1):
            theirs = f'{mmyolo}.stride_conv_branches.{i}'
            self._unit(f'{project}.stride_conv.{i}', theirs)
        self._skip()  # concatenation

    def _spp(self, project: str, mmyolo: str) -> None:
        if self.tiny:
            self._unit(f'{project}.short_layer', f'{mmyolo}.short_layer')
            self._unit(f'{project}.main_layers', f'{mmyolo}.main_layers')
            self._skip(4)  # three pools and their concatenation
            self._unit(f'{project}.fuse_layers', f'{mmyolo}.fuse_layers')
            self._skip()  # concatenation
            self._unit(f'{project}.final_conv', f'{mmyolo}.final_conv')
            return
        # a single layer in official files, with numbered convolutions
        order = ('main_layers.0', 'short_layer', 'main_layers.1', 'main_layers.2')
        order += ('fuse_layers.0', 'fuse_layers.1', 'final_conv')
        for number, layer in enumerate(order, 1):
            official = f'model.{self.index}.cv{number}'
            names = Names(f'{project}.{layer}', official, f'{mmyolo}.{layer}')
            self.rows += [names + suffix for suffix in _UNIT]
        self._skip()

    def _rep(self, name: str) -> None:
        for branch in ('rbr_dense', 'rbr_1x1'):
            names = Names(name, f'model.{self.index}', name) + branch
            for suffix in _UNIT:
                # in official files a plain sequence of convolution and batch norm
                number = suffix.replace('conv.', '0.').replace('bn.', '1.')
                official = f'{names.official}.{number}'
                self.rows.append(replace(names + suffix, official=official))
        self._skip()
