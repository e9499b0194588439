"""Folding of a trained YOLO detector into plain convolutions."""

from collections import OrderedDict

import torch
from torch import nn

from mmir.adapters import merge_, replace_, why_hooked, why_not_plain
from mmir.det.yolo.fold import bn_affine, fold_bn_, why_no_affine
from mmir.det.yolo.head_module import YOLOHeadModule
from mmir.det.yolo.layers import RepConv


@torch.no_grad()
def deploy_(model: nn.Module) -> None:
    """Fold all linear layers of a YOLO detector into its convolutions, in place.

    The steps, in order:

    1. Factors and adapters are merged.
    2. Batch norms are folded into the preceding convolution.
    3. Each `RepConv` becomes one 3x3 convolution.
    4. The two implicit layers are folded into the convolution between them.

    Layers that cannot be folded are kept: a norm without running statistics, a
    convolution that is not plain, and what has hooks. No parameter requires a gradient
    afterwards. A folded model is left unchanged.

    Args:
        model (nn.Module): Detector, or a part of one, in evaluation mode.

    Raises:
        ValueError: A layer has NaN or infinite weights; the message names it.
    """
    merge_(model)
    fold_bn_(model)
    new: dict[nn.Module, nn.Module] = {}
    for module in model.modules():
        if isinstance(module, RepConv):
            conv = _fold_branches(module)
            if conv is not None:
                new[module] = nn.Sequential(OrderedDict(conv=conv, activate=module.act))
        elif isinstance(module, YOLOHeadModule):
            layers = [m for m in module.convs_pred if isinstance(m, nn.Sequential)]
            folded = {each: _fold_implicit(each) for each in layers}
            new.update({each: conv for each, conv in folded.items() if conv})
    for module, folded in new.items():
        folded.train(module.training)
    replace_(model, new)
    model.requires_grad_(False)


def _fold_branches(rep: RepConv) -> nn.Module | None:
    """Fold the branches into one 3x3 convolution; None if that is impossible."""
    dense, point, identity = rep.rbr_dense, rep.rbr_1x1, rep.rbr_identity
    if not all(isinstance(unit.norm, nn.Identity) for unit in (dense, point)):
        return None
    if identity is not None and why_no_affine(identity):
        return None
    if any(map(why_hooked, (rep, *dense.modules(), *point.modules()))):
        return None
    conv, kernel = dense.conv, dense.conv.weight.clone()
    kernel[:, :, 1, 1] += point.conv.weight[:, :, 0, 0]
    bias = conv.bias + point.conv.bias
    if identity is not None:
        scale, shift = bn_affine(identity)
        kernel[:, :, 1, 1] += scale.diag()
        bias += shift
    conv.weight, conv.bias = nn.Parameter(kernel), nn.Parameter(bias)
    return conv


def _fold_implicit(layers: nn.Sequential) -> nn.Conv2d | None:
    """Fold `im (W (x + ia) + b)` into the convolution `(im W) x + im (W ia + b)`.

    None if the convolution is not plain or something has hooks.
    """
    add, conv, multiply = layers
    if why_not_plain(conv) or any(map(why_hooked, layers.modules())):
        return None
    factor = multiply.implicit.flatten()
    bias = conv.weight[:, :, 0, 0] @ add.implicit.flatten() + conv.bias
    conv.weight = nn.Parameter(conv.weight * factor[:, None, None, None])
    conv.bias = nn.Parameter(bias * factor)
    return conv
