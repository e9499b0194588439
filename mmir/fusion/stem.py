"""Widening the stem, the first layer of a network, to channels other than RGB."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from mmcv.cnn.bricks.conv2d_adaptive_padding import Conv2dAdaptivePadding
from mmengine.logging import print_log
from torch import Tensor, nn

from mmir.adapters import PLAIN_CONVS, refuse_wrapped, why_not_plain, why_tied

StemInit = Literal['average', 'copy', 'zero']

COLORS = 3
_STEMS = (*PLAIN_CONVS, Conv2dAdaptivePadding)  # the last pads otherwise
_FOCUS = 4  # the stem of YOLOX (Focus) first moves 2x2 pixels into the channels


def find_stem(
    model: nn.Module, names: str | Sequence[str] | None = None
) -> dict[str, nn.Conv2d]:
    """Find the convolutions that read the image.

    This is the only convolution with 3 input channels in the backbone (or in the model,
    if it has no backbone), such as the patch embedding of a transformer. If there is
    none, it is the first convolution if that has 12 input channels, as in YOLOX, whose
    stem moves 2x2 pixels into the channels.

    Args:
        model: A model of any host, or a backbone.
        names: Names of the layers, for networks that read the image in several places.

    Returns:
        The layers by name.

    Raises:
        ValueError: None or several were found, or a name is not that of a convolution.
    """
    convs = {k: m for k, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    if names is not None:
        names = [names] if isinstance(names, str) else list(names)
        if unknown := [name for name in names if name not in convs]:
            raise ValueError(
                f'stem: {unknown} are not convolutions of {type(model).__name__}; its '
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
    """Make the stem read the stacked images of several modalities, in place.

    Checkpoints of the 3-channel network still load, by any route (`load_from`,
    `init_cfg` of type Pretrained): their kernel is widened on load. Checkpoints of the
    widened network load as usual.

    Args:
        model: A model of any host, or a backbone, not wrapped.
        channels: Number of channels per modality, in the order they are packed.
        init: How to widen a kernel for RGB, see :func:`widened`.
        stem: Name of the layer or layers, see :func:`find_stem`.

    Returns:
        Names of the widened layers.

    Raises:
        ValueError: The stem is not found or cannot be widened (such as one with weight
            norm), an option is invalid, or the model is wrapped. The model is unchanged
            then.
    """
    channels = tuple(channels)
    if init not in get_args(StemInit):
        raise ValueError(f'init must be one of {get_args(StemInit)}, got {init!r}')
    if not channels or min(channels) < 1 or sum(channels) == COLORS:
        raise ValueError(
            f'channels={channels}: every modality needs at least one, and for 3 in '
            'total the stem needs no change'
        )
    refuse_wrapped(model)
    layers, tied = find_stem(model, stem), why_tied(model)
    for name, conv in layers.items():
        if reason := why_not_plain(conv, _STEMS) or tied.get(conv):
            raise ValueError(f'the stem {name} cannot be widened: {reason}')
        if conv.groups != 1 or conv.in_channels % COLORS:
            raise ValueError(
                f'{name} has {conv.in_channels} input channels in {conv.groups} '
                'groups: not a stem for RGB images'
            )
    for name, conv in layers.items():
        _widen(name, conv, channels, init)
    return list(layers)


def widened(weight: Tensor, channels: Sequence[int], init: StemInit) -> Tensor:
    """Widen a kernel for RGB to several modalities.

    A modality of 3 channels gets a copy of the kernel. With c other channels, each gets
    the sum over RGB divided by c, so the response to a gray image stays the same.

    Args:
        weight: Shape (out, 3, h, w), or (out, 3 n, h, w) with n pixels moved into the
            channels.
        channels: Number of channels per modality.
        init: Scale of the copies:

            - 'average': divided by the number of modalities. If all modalities are
              equal, the response is that of the 3-channel network.
            - 'copy': not divided.
            - 'zero': zero for all but the first modality. The response is that of the
              3-channel network, whatever the others contain.

    Returns:
        Shape (out, sum(channels), h, w), or (out, n sum(channels), h, w).
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
    """Widen one layer, and the kernels it will load."""
    frozen = not conv.weight.requires_grad
    if frozen:
        print_log(
            f'{name} is frozen (frozen_stages of the backbone?): its new channels will '
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
    """Widen the kernel of a 3-channel checkpoint before it is loaded."""
    weight = state_dict.get(f'{prefix}weight')
    if weight is not None and weight.ndim == 4 and weight.shape[1] == colors:
        state_dict[f'{prefix}weight'] = widened(weight, channels, init)
