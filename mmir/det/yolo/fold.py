"""Folding of batch norms into the preceding convolutions."""

from collections import Counter

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmir.adapters import (
    FrozenBatchNorm,
    replace_,
    why_hooked,
    why_not_plain,
    why_not_plain_norm,
)
from mmir.adapters.record import forget

Norm = _BatchNorm | FrozenBatchNorm


def fold_bn_(model: nn.Module) -> dict[str, str]:
    """Fold the batch norms of `mmcv.cnn.ConvModule` into their convolutions, in place.

    The model then computes in either mode what it computed in evaluation mode. A bias
    is created if there was none, and the batch norm becomes `nn.Identity`. Norms that
    cannot be folded are kept, such as those of a shared convolution. Factorized
    convolutions are kept too: call `merge_` first.

    Args:
        model: Any model.

    Returns:
        Reasons why norms were kept, by the name of the norm.

    Raises:
        ValueError: A batch norm has NaN or infinite values; the message names it. The
            model is then unchanged.
    """
    names = {module: name for name, module in model.named_modules()}
    slots = Counter(
        child for parent in model.modules() for child in parent._modules.values()
    )
    blocks, kept = [], {}
    for block in _normed_blocks(model):
        reason = _disorder(block) or _obstacle(block.conv, block.norm, slots)
        if reason:
            kept[names[block.norm]] = reason
        elif all(t.isfinite().all() for t in bn_affine(block.norm)):
            blocks.append(block)
        else:
            raise ValueError(f'{names[block.norm]} holds NaN or infinite values')
    for block in blocks:
        block.with_bias = True
        block.turn_on_efficient_conv_bn_eval(False)
        fold_bn_pair_(block.conv, block.norm)
    replace_(model, {block.norm: nn.Identity() for block in blocks})
    if blocks:
        forget(model)
    return kept


def _normed_blocks(model: nn.Module) -> list[ConvModule]:
    """Return the `ConvModule`s of a model that still have a norm."""
    return [
        block
        for block in model.modules()
        if isinstance(block, ConvModule)
        and block.norm is not None
        and not isinstance(block.norm, nn.Identity)
    ]


def _disorder(block: ConvModule) -> str | None:
    """Return why the order in a `ConvModule` prevents folding, None if it does not."""
    if type(block).forward is not ConvModule.forward or 'forward' in vars(block):
        return f'{type(block).__name__} overrides forward'
    place = block.order.index('conv')
    if block.order[place + 1 : place + 2] != ('norm',):
        return f'order {block.order}: the norm does not follow the convolution'
    return None


def _obstacle(
    conv: nn.Module, norm: nn.Module, slots: Counter[nn.Module]
) -> str | None:
    """Return why `norm` cannot be folded into `conv`, None if it can."""
    if reason := why_not_plain(conv) or why_no_affine(norm):
        return reason
    if norm.num_features != conv.out_channels:
        return (
            f'the batch norm has {norm.num_features} features, the convolution '
            f'{conv.out_channels} channels'
        )
    if slots[conv] > 1:
        return 'the convolution is shared, so other layers read its output too'
    if slots[norm] > 1:
        return 'the batch norm is shared'
    if conv._forward_hooks:
        return 'a forward hook reads the output of the convolution'
    return None


def why_no_affine(norm: nn.Module) -> str | None:
    """Reason why a norm is more than the scale and shift of `bn_affine`."""
    if not isinstance(norm, Norm):
        return f'{type(norm).__name__} is not a batch norm'
    if norm.running_mean is None:
        return 'the batch norm keeps no running statistics'
    plain = isinstance(norm, FrozenBatchNorm)
    reason = (None if plain else why_not_plain_norm(norm)) or why_hooked(norm)
    return reason and f'the batch norm: {reason}'


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def bn_affine(norm: Norm) -> tuple[Tensor, Tensor]:
    """Return scale and shift of a batch norm in evaluation: y = scale * x + shift.

    Args:
        norm: Batch norm with running statistics.

    Returns:
        scale = gamma / sqrt(var + eps) and shift = beta - mean * scale, shape (C,), at
        least float32, detached.
    """
    wide = _wide(norm.running_var.dtype)
    scale = (norm.running_var.to(wide) + norm.eps).sqrt().reciprocal()
    if norm.weight is not None:
        scale = norm.weight.detach().to(wide) * scale
    shift = -norm.running_mean.to(wide) * scale
    if norm.bias is not None:
        shift = norm.bias.detach().to(wide) + shift
    return scale, shift


@torch.no_grad()
def fold_bn_pair_(conv: nn.Conv2d, norm: Norm) -> None:
    """Fold one batch norm into one convolution, in place; `norm` is not modified.

    Parameters are replaced, not overwritten, so modules that share them are unaffected.

    Args:
        conv: Convolution with T output channels.
        norm: Batch norm of T features, the only reader of its output.
    """
    scale, shift = bn_affine(norm)
    old = conv.weight
    kernel = (old.to(_wide(old.dtype)) * scale[:, None, None, None]).to(old.dtype)
    conv.weight = nn.Parameter(kernel, old.requires_grad)
    if conv.bias is None:
        learns = norm.bias is not None and norm.bias.requires_grad
    else:
        shift, learns = conv.bias * scale + shift, conv.bias.requires_grad
    conv.bias = nn.Parameter(shift.to(old.dtype), learns)
