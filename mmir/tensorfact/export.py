"""Export of factorized convolutions as pairs of plain ones, for any exporter."""

import torch
from mmcv.cnn import ConvModule
from torch import nn
from torch.nn.utils import skip_init

from mmir.adapters import carry_hooks, converted, replace_

from .layer import TensorFactConv
from .split import along, get_split


def to_factored_modules_(model: nn.Module) -> nn.Module:
    """Replace every `TensorFactConv` by two `nn.Conv2d` in a row, in place.

    They compute what `two_conv` does, with the factors written out as kernels. The
    exported graph consists of convolutions only and keeps the compression. Active
    deltas are included, the others are dropped. The second convolution has the bias.
    For a single dense convolution per layer, use `merge_` instead.

    Args:
        model: Any model; without such layers nothing changes.

    Returns:
        The model, or the new pair if the model is itself a `TensorFactConv`.

    Raises:
        ValueError: NaN or infinite weights; names the layer. The model is unchanged
            then.
    """
    new = converted(
        model, lambda m: factored_module(m) if isinstance(m, TensorFactConv) else None
    )
    for block in model.modules():
        # That shortcut needs a single kernel; the norm after the pair works as before.
        if isinstance(block, ConvModule) and block.conv in new:
            block.turn_on_efficient_conv_bn_eval(False)
    replace_(model, new)
    return new.get(model, model)


def factored_module(layer: TensorFactConv) -> nn.Sequential:
    """Convert one layer to two plain convolutions.

    With S input channels per group, rank r and G groups:

    - `ts_dd`: a depthwise convolution to S*G*r channels, then a 1x1;
    - `td_sd`: one along the rows, then one along the columns, with G*r channels between
      them;
    - `t_sdd`: a full one, then a 1x1, with G*r channels between them;
    - `tdd_s`: a 1x1, then a full one, with G*r channels between them.

    Each convolution pads the window axes it covers.

    Args:
        layer: Factorized convolution; not modified.

    Returns:
        Two `nn.Conv2d` with the device, dtype, training flag and hooks of the layer.

    Raises:
        ValueError: NaN or infinite weights.
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
    return carry_hooks(layer, nn.Sequential(*convs).train(layer.training))
