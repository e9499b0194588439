"""The first layer of a network, made to read other channels than red, green, blue."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmir.adapters import refuse_wrapped

StemInit = Literal['average', 'copy', 'zero']

COLORS = 3
_FOCUS = 4  # a stem that first moves 2x2 pixels into the channels: YOLOX


def find_stem(
    model: nn.Module, names: str | Sequence[str] | None = None
) -> dict[str, nn.Conv2d]:
    """Find the convolutions that read the image.

    It is the only one in the backbone (or in the model, without one) with 3 input
    channels, such as the patch embedding of a transformer; if there is none, the first
    one, with 12, as of YOLOX, whose stem moves 2x2 pixels into the channels.

    Args:
        model: A model of any host, or a backbone.
        names: Their names, for networks that read the image in several places.

    Returns:
        The layers by their names in the model.

    Raises:
        ValueError: None, or several, were found; what was named is no convolution.
    """
    convs = {k: m for k, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    if names is not None:
        names = [names] if isinstance(names, str) else list(names)
        if unknown := [name for name in names if name not in convs]:
            raise ValueError(
                f'stem: {unknown} are no convolutions of {type(model).__name__}; its '
                f'first ones are {[*convs][:4]}'
            )
        return {name: convs[name] for name in names}
    if hasattr(model, 'backbone'):
        convs = {k: m for k, m in convs.items() if k.startswith('backbone.')}
    found = {k: m for k, m in convs.items() if m.in_channels == COLORS}
    first = next(iter(convs), None)
    if not found and first and convs[first].in_channels == COLORS * _FOCUS:
        found = {first: convs[first]}
    if len(found) != 1:
        what = f'several may be: {[*found]}' if found else 'none reads 3 channels'
        raise ValueError(
            f'which convolution of {type(model).__name__} reads the image? {what}. '
            "Name it, or all that do: stem='backbone.conv1' or a list"
        )
    return found


def widen_stem_(
    model: nn.Module,
    channels: Sequence[int],
    init: StemInit = 'average',
    stem: str | Sequence[str] | None = None,
) -> list[str]:
    """Make the stem read images of several modalities stacked, in place.

    A checkpoint of the network on 3 channels still loads: its kernel is widened as it
    is read, whoever loads it (`load_from`, `init_cfg` of type Pretrained). One of the
    widened network loads as it is.

    Args:
        model: A model of any host, or a backbone, not wrapped.
        channels: How many channels each modality has, in the order they are packed.
        init: What a kernel for 3 colors becomes, see :func:`widened`.
        stem: Name of the layer or layers, see :func:`find_stem`.

    Returns:
        The names of the layers.

    Raises:
        ValueError: The stem is not found or cannot be widened; an option is wrong; the
            model is wrapped already.
    """
    channels = tuple(channels)
    if init not in get_args(StemInit):
        raise ValueError(f'init must be one of {get_args(StemInit)}, got {init!r}')
    if not channels or min(channels) < 1 or sum(channels) == COLORS:
        raise ValueError(
            f'channels={channels}: every modality has at least one, and a network on 3 '
            'in all needs no other stem'
        )
    refuse_wrapped(model)
    layers = find_stem(model, stem)
    for name, conv in layers.items():
        _widen(name, conv, channels, init)
    return list(layers)


def widened(weight: Tensor, channels: Sequence[int], init: StemInit) -> Tensor:
    """Widen a kernel for 3 colors.

    A modality of 3 channels takes the kernel as it is; another number of channels c
    takes the sum over the colors divided by c in each, so that the answer to a gray
    image stays the same.

    Args:
        weight: Shape (out, 3, h, w), or (out, 3 n, h, w) for n pixels in the channels.
        channels: How many channels each modality has.
        init: 'average' divides by the number of modalities: if all show the same,
            the answer is that of the network on 3 channels. 'copy' does not divide.
            'zero' leaves the first modality alone and gives zeros to the others: the
            answer is that of the network on 3 channels, whatever the others show.

    Returns:
        Shape (out, sum(channels), h, w), or that times n.
    """
    kernel = weight.unflatten(1, (-1, COLORS))
    gray = kernel.sum(2, keepdim=True)
    parts = [
        kernel if c == COLORS else (gray / c).expand(-1, -1, c, -1, -1)
        for c in channels
    ]
    if init == 'zero':
        parts[1:] = [torch.zeros_like(part) for part in parts[1:]]
    wide = torch.cat(parts, 2).flatten(1, 2)
    return wide / len(channels) if init == 'average' else wide


def _widen(
    name: str, conv: nn.Conv2d, channels: tuple[int, ...], init: StemInit
) -> None:
    """Widen one layer, and what it will load."""
    if conv.groups != 1 or conv.in_channels % COLORS:
        raise ValueError(
            f'{name} has {conv.in_channels} input channels in {conv.groups} groups: '
            'not a stem that reads 3 colors'
        )
    frozen = not conv.weight.requires_grad
    if frozen:
        print_log(
            f'{name} is frozen (frozen_stages of the backbone?): what is widened will '
            'not be trained',
            logger='current',
            level=30,  # logging.WARNING
        )
    colors = conv.in_channels
    wide = widened(conv.weight.detach(), channels, init)
    conv.weight = nn.Parameter(wide, requires_grad=not frozen)
    conv.in_channels = wide.shape[1]
    hook = partial(_translate, colors=colors, channels=channels, init=init)
    # the public name of this method does not exist in torch 2.4
    conv._register_load_state_dict_pre_hook(hook)


def _translate(
    state_dict: dict[str, Any],
    prefix: str,
    metadata: Mapping[str, Any],
    *report: Any,
    colors: int,
    channels: tuple[int, ...],
    init: StemInit,
) -> None:
    """Widen the kernel of a checkpoint on 3 channels, before it is loaded."""
    weight = state_dict.get(f'{prefix}weight')
    if weight is not None and weight.ndim == 4 and weight.shape[1] == colors:
        state_dict[f'{prefix}weight'] = widened(weight, channels, init)
