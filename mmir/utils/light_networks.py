"""Light networks of torchvision and timm under the names of mmpretrain.

MobileNetV2, MobileNetV3 and ShuffleNetV2. The libraries build the same layers and name
them differently. So a checkpoint is read as a list of blocks, each a list of
convolutions with their norms, and is written under the other names.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

from .files import few

Weights = dict[str, Tensor]

EXPAND = ('expand_conv', 'depthwise_conv', 'linear_conv')
"""Convolutions of a block of MobileNetV3; some have no first one."""

V2_BLOCKS = (1, 2, 3, 4, 3, 3, 1)
"""Blocks of each layer of MobileNetV2."""

_TIMM_ORDER = ('conv_pw', 'conv_dw', 'conv_pwl')
_TIMM_BLOCK = re.compile(r'blocks\.(\d+)\.(\d+)\.')
_TORCHVISION_BLOCK = re.compile(r'features\.(\d+)\.')


class Block(NamedTuple):
    """Names of the layers of a block.

    Attributes:
        units: Convolution and norm of each layer, in order.
        squeeze: Both convolutions of squeeze and excitation, if there is one.
    """

    units: list[tuple[str, str]]
    squeeze: tuple[str, ...]


def convert_mobilenet_v3(state: Mapping[str, Tensor]) -> Weights:
    """Convert a MobileNetV3, with the layer of 1280 or 1024 channels.

    Args:
        state: State dict of torchvision's `MobileNetV3` or timm's `mobilenetv3_*`. The
            latter has norms of eps=1e-5, mmpretrain's default is that of torchvision.

    Returns:
        State dict of mmpretrain's `MobileNetV3`. The first layer of the classifier,
        which mmpretrain has in its head, is the next layer, as a 1x1 convolution.

    Raises:
        ValueError: It holds no MobileNetV3.
    """
    blocks, head = _blocks(state), _first(state, 'classifier.0', 'conv_head')
    if len(blocks) < 3 or head is None or not any(b.squeeze for b in blocks):
        raise ValueError(f'no MobileNetV3; it has {few(state, 4)}')
    names: dict[str, str] = {}
    for k, block in enumerate(blocks):
        last = f'layer{k}'
        if len(block.units) == 1:
            _name_unit(names, block.units[0], last)
            continue
        for unit, name in zip(block.units[::-1], EXPAND[::-1], strict=False):
            _name_unit(names, unit, f'{last}.{name}')
        for j, squeeze in enumerate(block.squeeze):
            names[squeeze] = f'{last}.se.conv{j + 1}.conv'
    names[head] = f'layer{len(blocks)}.conv'
    found = _renamed(state, names)
    weight = found[f'layer{len(blocks)}.conv.weight']
    shape = (*weight.shape[:2], 1, 1)  # a linear layer in torchvision
    return found | {f'layer{len(blocks)}.conv.weight': weight.reshape(shape)}


def convert_mobilenet_v2(state: Mapping[str, Tensor]) -> Weights:
    """Convert a MobileNetV2.

    Args:
        state: State dict of torchvision's `MobileNetV2` or timm's `mobilenetv2_*`.

    Returns:
        State dict of mmpretrain's `MobileNetV2`.

    Raises:
        ValueError: It holds no MobileNetV2.
    """
    blocks = _blocks(state)
    if 'conv_head.weight' in state:
        blocks.append(Block([('conv_head', 'bn2')], ()))
    if len(blocks) != sum(V2_BLOCKS) + 2 or any(b.squeeze for b in blocks):
        raise ValueError(f'no MobileNetV2; it has {few(state, 4)}')
    places = [(s, b) for s, count in enumerate(V2_BLOCKS) for b in range(count)]
    names: dict[str, str] = {}
    _name_unit(names, blocks[0].units[0], 'conv1')
    for (stage, number), block in zip(places, blocks[1:-1], strict=True):
        for k, unit in enumerate(block.units):
            _name_unit(names, unit, f'layer{stage + 1}.{number}.conv.{k}')
    _name_unit(names, blocks[-1].units[0], 'conv2')
    return _renamed(state, names)


def convert_shufflenet_v2(state: Mapping[str, Tensor]) -> Weights:
    """Convert a ShuffleNetV2.

    Args:
        state: State dict of torchvision's `ShuffleNetV2`.

    Returns:
        State dict of mmpretrain's `ShuffleNetV2`.

    Raises:
        ValueError: It holds no ShuffleNetV2.
    """
    if 'stage2.0.branch1.0.weight' not in state:
        raise ValueError(f'no ShuffleNetV2; it has {few(state, 4)}')
    names: dict[str, str] = {}
    for their, ours in (('conv1.', 'conv1'), ('conv5.', 'layers.3')):
        _name_unit(names, _block(state, their).units[0], ours)
    branch = re.compile(r'stage(\d)\.(\d+)\.(branch\d)\.')
    for their in {m[0]: m for m in map(branch.match, state) if m}.values():
        stage, number, name = their.groups()
        for k, unit in enumerate(_block(state, their[0]).units):
            ours = f'layers.{int(stage) - 2}.{number}.{name}.{k}'
            _name_unit(names, unit, ours)
    return _renamed(state, names)


def _blocks(state: Mapping[str, Tensor]) -> list[Block]:
    """Blocks of a MobileNet in order, the first convolution included."""
    timm = 'conv_stem.weight' in state
    pattern = _TIMM_BLOCK if timm else _TORCHVISION_BLOCK
    starts = {m[0]: tuple(map(int, m.groups())) for m in map(pattern.match, state) if m}
    ordered = sorted(starts, key=starts.__getitem__)
    stem = [Block([('conv_stem', 'bn1')], ())] if timm else []
    return stem + [_block(state, start) for start in ordered]


def _block(state: Mapping[str, Tensor], start: str) -> Block:
    """The block whose names begin with `start`."""
    layers = {k.rpartition('.')[0] for k in state if k.startswith(start)}
    norms = {name for name in layers if f'{name}.running_mean' in state}
    squeeze = {n for n in layers if '.se.' in n or n.endswith(('.fc1', '.fc2'))}
    convs = _in_order(layers - norms - squeeze)
    if f'{start}conv_pw' in convs and f'{start}conv_pwl' not in convs:
        convs.reverse()  # without expansion, the depthwise convolution is first
    units = list(zip(convs, _in_order(norms), strict=True))
    # 'conv_reduce' comes before 'conv_expand'
    both = sorted(squeeze, key=lambda name: (name.endswith('expand'), name))
    return Block(units, tuple(both))


def _in_order(names: Iterable[str]) -> list[str]:
    """Names of layers in the order in which they run."""

    def key(name: str) -> tuple:
        """Order of timm's names, and numbers by value."""
        last = name.rpartition('.')[2]
        place = _TIMM_ORDER.index(last) if last in _TIMM_ORDER else 0
        return place, [int(n) for n in re.findall(r'\d+', name)]

    return sorted(names, key=key)


def _first(state: Mapping[str, Tensor], *names: str) -> str | None:
    """The first of some layers that there is."""
    return next((name for name in names if f'{name}.weight' in state), None)


def _name_unit(names: dict[str, str], unit: tuple[str, str], ours: str) -> None:
    """Name a convolution and its norm."""
    names.update(zip(unit, (f'{ours}.conv', f'{ours}.bn'), strict=True))


def _renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> Weights:
    """The named layers of a state dict, under their new names."""
    found = {}
    for key, value in state.items():
        layer, _, last = key.rpartition('.')
        if layer in names:
            found[f'{names[layer]}.{last}'] = value
    return found
