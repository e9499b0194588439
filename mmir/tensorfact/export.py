"""Factorized convolutions as pairs of plain ones, which any exporter understands."""

import torch
from mmcv.cnn import ConvModule
from torch import nn
from torch.nn.utils import skip_init

from mmir.adapters import converted, replace_

from .layer import TensorFactConv
from .split import along, get_split


def to_factored_modules_(model: nn.Module) -> nn.Module:
    """Replace every `TensorFactConv` by two `nn.Conv2d` in a row, in place.

    What `two_conv` computes, with the factors written out as kernels beforehand: the
    exported graph consists of convolutions only and keeps the compression. Deltas
    that are switched on are a part of it, the others are gone. The bias is in the
    second convolution. `merge_` gives one dense convolution instead.

    Args:
        model: Any model; without such layers nothing changes.

    Returns:
        The model, or the new pair if the model is a `TensorFactConv` itself.

    Raises:
        ValueError: For NaN or infinite weights, naming the layer. The model is
            unchanged then.
    """
    new = converted(
        model, lambda m: factored_module(m) if isinstance(m, TensorFactConv) else None
    )
    for block in model.modules():
        # That shortcut asks for one kernel; the norm after the pair works as ever.
        if isinstance(block, ConvModule) and block.conv in new:
            block.turn_on_efficient_conv_bn_eval(False)
    replace_(model, new)
    return new.get(model, model)


def factored_module(layer: TensorFactConv) -> nn.Sequential:
    """Write one layer as two plain convolutions; the layer stays as it is.

    With S input channels a group, r atoms and G groups, `ts_dd` becomes a depthwise
    convolution to S*G*r channels and a 1x1; `td_sd` one along the rows and one along
    the columns, `t_sdd` a full one and a 1x1, `tdd_s` a 1x1 and a full one, all three
    with G*r channels between. Padding goes with the window.

    Args:
        layer: Factorized convolution.

    Returns:
        Two `nn.Conv2d` with the device, dtype and training flag of the layer.

    Raises:
        ValueError: For NaN or infinite weights.
    """
    pairs, bias = layer.factors(), layer.bias
    a = torch.cat([a.detach() for a, _ in pairs], dim=-1)
    b = torch.cat([b.detach() for _, b in pairs])
    tensors = [a, b] if bias is None else [a, b, bias]
    if not all(t.isfinite().all() for t in tensors):
        raise ValueError('NaN or infinite weights, refusing to write them as kernels')
    trains = any(t.requires_grad for pair in pairs for t in pair)
    split, convs = get_split(layer.split), []
    for axes, kernel, groups in split.stages(a, b, layer.in_channels):
        biased = bias is not None and axes is split.rows
        conv = skip_init(
            nn.Conv2d,
            kernel.shape[1] * groups,
            kernel.shape[0],
            tuple(kernel.shape[2:]),
            **along(axes, layer.stride, layer.padding, layer.dilation),
            groups=groups,
            bias=biased,
            padding_mode=layer.padding_mode if {2, 3} & set(axes) else 'zeros',
            device=a.device,
            dtype=a.dtype,
        )
        with torch.no_grad():
            conv.weight.copy_(kernel).requires_grad_(trains)
            if biased:
                conv.bias.copy_(bias).requires_grad_(bias.requires_grad)
        convs.append(conv)
    return nn.Sequential(*convs).train(layer.training)
