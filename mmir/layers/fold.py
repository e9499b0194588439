"""Batch norms and RepConv branches folded into factors, without leaving the factors."""

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from mmcv.cnn import ConvModule
from mmcv.cnn.bricks.wrappers import Conv2d as MMCVConv2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .freeze import FrozenBatchNorm, forget_stage
from .rank import describe_kernel, full_rank
from .split import get_split
from .svd import truncated_factors
from .tensorfact import TensorFactConv
from .walk import replace_

Conv = nn.Conv2d | TensorFactConv
Norm = _BatchNorm | FrozenBatchNorm
_CONVS = (nn.Conv2d, MMCVConv2d, TensorFactConv)


@dataclass(frozen=True)
class FoldReport:
    """What `fold_bn_` did.

    Attributes:
        folded: Name of the batch norm folded into each convolution, by its name.
        kept: Why a norm next to a convolution was left, by the name of the norm.
    """

    folded: dict[str, str]
    kept: dict[str, str]

    def __str__(self) -> str:
        text = f'{len(self.folded)} batch norms folded, {len(self.kept)} norms kept'
        return text + ''.join(f'\n  {name}: {why}' for name, why in self.kept.items())


def fold_bn_(model: nn.Module, pairs: Sequence[tuple[str, str]] = ()) -> FoldReport:
    """Fold batch norms into the convolutions before them, in place.

    The model then computes in any mode what it computed in evaluation. Factorised
    convolutions stay factorised and keep their deltas: the batch norm scales the rows
    of A, and of dA of every delta, switched on or off, by gamma / sqrt(var + eps);
    a bias is created where there was none. The batch norm becomes `nn.Identity`.

    Found by themselves are the pairs of `mmcv.cnn.ConvModule` whose norm comes
    directly after the convolution; those that cannot be folded are left and
    reported, such as a convolution that several batch norms share.

    Args:
        model: Any model with `nn.Conv2d` or `TensorFactConv`.
        pairs: Names of a convolution and the batch norm that alone reads its output,
            for models that hold them otherwise: `[('layer1.conv1', 'layer1.bn1')]`.

    Returns:
        Which batch norms were folded, and which were not.

    Raises:
        ValueError: If a named pair does not exist or cannot be folded, or for NaN or
            infinite values, with the name. The model is unchanged then.
    """
    names = {module: name for name, module in model.named_modules()}
    slots = Counter(
        child for parent in model.modules() for child in parent._modules.values()
    )
    found = _named_pairs(model, pairs, slots)
    kept = {}
    for block in _normed_blocks(model):
        if block.norm not in found.values():
            reason = _disorder(block) or _obstacle(block.conv, block.norm, slots)
            if reason or block.conv in found:
                kept[names[block.norm]] = reason or 'the pair given is another'
            else:
                found[block.conv] = block.norm
    for norm in found.values():
        if not all(t.isfinite().all() for t in bn_affine(norm)):
            raise ValueError(f'{names[norm]} holds NaN or infinite values')
    for block in _normed_blocks(model):
        if block.conv in found:
            block.with_bias = True
            block.turn_on_efficient_conv_bn_eval(False)
    for conv, norm in found.items():
        fold_bn_pair_(conv, norm)
    replace_(model, {norm: nn.Identity() for norm in found.values()})
    if found:
        forget_stage(model)
    return FoldReport({names[c]: names[n] for c, n in found.items()}, kept)


def _normed_blocks(model: nn.Module) -> list[ConvModule]:
    """The `ConvModule` of a model that still have a norm."""
    return [
        block
        for block in model.modules()
        if isinstance(block, ConvModule)
        and block.norm is not None
        and not isinstance(block.norm, nn.Identity)
    ]


def _named_pairs(
    model: nn.Module, pairs: Sequence[tuple[str, str]], slots: Counter[nn.Module]
) -> dict[nn.Module, nn.Module]:
    """Batch norm of each convolution, for pairs given by name."""
    found = {}
    for names in pairs:
        try:
            conv, norm = map(model.get_submodule, names)
        except AttributeError as error:
            raise ValueError(f'no pair {names[0]}, {names[1]}: {error}') from error
        reason = _obstacle(conv, norm, slots)
        if conv in found or norm in found.values():
            reason = 'it is given twice'
        if reason:
            raise ValueError(f'cannot fold {names[1]} into {names[0]}: {reason}')
        found[conv] = norm
    return found


def _disorder(block: ConvModule) -> str | None:
    """Why the order within a `ConvModule` forbids folding, None if it does not."""
    if type(block).forward is not ConvModule.forward:
        return f'{type(block).__name__} has a forward of its own'
    place = block.order.index('conv')
    if block.order[place + 1 : place + 2] != ('norm',):
        return f'order {block.order}: the norm does not follow the convolution'
    return None


def _obstacle(
    conv: nn.Module, norm: nn.Module, slots: Counter[nn.Module]
) -> str | None:
    """Why `norm` cannot be folded into `conv`, None if it can."""
    if type(conv) not in _CONVS:
        return f'{type(conv).__name__} is no plain 2D convolution'
    if not isinstance(norm, Norm):
        return f'{type(norm).__name__} is no batch norm'
    if norm.running_mean is None:
        return 'the batch norm keeps no running statistics'
    if norm.num_features != conv.out_channels:
        return (
            f'{norm.num_features} features of the batch norm, {conv.out_channels} '
            'channels of the convolution'
        )
    if slots[conv] > 1:
        return 'the convolution is shared, so not only this norm reads its output'
    if slots[norm] > 1:
        return 'the batch norm is shared'
    if conv._forward_hooks:
        return 'a forward hook reads the output of the convolution'
    if any(name not in part._parameters for part, name in _scaled(conv)):
        return 'the kernel is the result of a parametrisation'
    return None


def _scaled(conv: Conv) -> Iterator[tuple[nn.Module, str]]:
    """Modules and names of the parameters that are linear in the output channels."""
    if not isinstance(conv, TensorFactConv):
        yield conv, 'weight'
        return
    for part in (conv, *conv.deltas.values()):
        yield part, 'A'


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def bn_affine(norm: Norm) -> tuple[Tensor, Tensor]:
    """What a batch norm does in evaluation: y = scale * x + shift.

    Args:
        norm: Batch norm with running statistics.

    Returns:
        scale = gamma / sqrt(var + eps) and shift = beta - mean * scale, shape (C,),
        float32 at least, without a graph.
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
def fold_bn_pair_(conv: Conv, norm: Norm) -> None:
    """Fold one batch norm into one convolution, in place; `norm` stays as it is.

    Parameters are replaced and not written to: whoever shares one keeps the old.

    Args:
        conv: Convolution with T output channels, factorised or not.
        norm: Batch norm of T features that alone reads its output.
    """
    scale, shift = bn_affine(norm)
    for part, name in _scaled(conv):
        old = getattr(part, name)
        column = scale.view(-1, *[1] * (old.ndim - 1))
        new = (old.to(_wide(old.dtype)) * column).to(old.dtype)
        setattr(part, name, nn.Parameter(new, old.requires_grad))
    dtype = new.dtype
    if conv.bias is None:
        learns = norm.bias is not None and norm.bias.requires_grad
    else:
        shift, learns = conv.bias * scale + shift, conv.bias.requires_grad
    conv.bias = nn.Parameter(shift.to(dtype), learns)
    conv.train(conv.training)  # a TensorFactConv forgets the kernel it kept


@torch.no_grad()
def fold_repconv_factors(
    dense: TensorFactConv,
    dense_norm: nn.Module | None,
    pointwise: Conv,
    pointwise_norm: nn.Module | None,
    identity_norm: nn.Module | None = None,
) -> TensorFactConv:
    """Fold the branches of a RepConv into one convolution that stays factorised.

    The k x k branch, the 1x1 branch and, where there is one, the identity are summed
    and each has a batch norm of its own (RepVGG, arXiv 2101.03697). Under `ts_dd` the
    1x1 kernel is the centre atom times its weights, so the result has rank
    r + dr + 1, dr being the rank of the deltas that are switched on; they become a
    part of the base. The other splits need min(T, S) for the 1x1 branch in the place
    of 1, often more than the kernel has. No rank exceeds the full rank.

    Args:
        dense: Factorised branch; odd window, padded so as to keep the positions.
        dense_norm: Its batch norm; None or `nn.Identity` for none.
        pointwise: 1x1 branch with the stride and groups of `dense`.
        pointwise_norm: Its batch norm, likewise.
        identity_norm: Batch norm of the identity branch (`nn.Identity` for a bare
            one); None if there is no such branch.

    Returns:
        A new layer with the options and training flag of `dense` and a bias. The
        arguments are left as they are.

    Raises:
        TypeError: If `dense` is no `TensorFactConv` or a norm is no batch norm.
        ValueError: If the branches do not see the same positions and channels.
    """
    _check_branches(dense, pointwise, identity_norm)
    wide, shape = _wide(dense.A.dtype), dense.kernel_shape
    bias = dense.A.new_zeros(shape[0], dtype=wide)
    scale, shift = _branch_affine(dense, dense_norm)
    bias += shift
    pairs = [
        (a.to(wide) * scale.view(-1, *[1] * (a.ndim - 1)), b.to(wide))
        for a, b in dense.factors()
    ]
    scale, shift = _branch_affine(pointwise, pointwise_norm)
    bias += shift
    centre = pointwise.weight[..., 0, 0].to(wide) * scale[:, None]
    if identity_norm is not None:
        scale, shift = _branch_affine(None, identity_norm, like=bias)
        bias += shift
        rows = torch.arange(shape[0], device=centre.device)
        centre[rows, rows % shape[1]] += scale
    pairs.append(centre_factors(centre, dense))
    a, b = _one_pair(pairs, dense)
    layer = copy.deepcopy(dense)
    layer.deltas = nn.ModuleDict()
    for name, value in (('A', a), ('B', b), ('bias', bias)):
        value = value.to(dense.A.device, dense.A.dtype).contiguous()
        setattr(layer, name, nn.Parameter(value, dense.A.requires_grad))
    return layer.train(dense.training)


def _one_pair(
    pairs: list[tuple[Tensor, Tensor]], like: TensorFactConv
) -> tuple[Tensor, Tensor]:
    """One pair with the sum of the products of all, at most of full rank."""
    shape, split = like.kernel_shape, get_split(like.split)
    a = torch.cat([a for a, _ in pairs], dim=-1)
    b = torch.cat([b for _, b in pairs])
    limit = full_rank(shape, split)
    if b.shape[0] <= limit:
        return a, b
    matrix = split.unfold(split.fold([(a, b)]))
    factors = truncated_factors(matrix, limit, like.sigma)
    sizes = split.factor_shapes(shape, limit)
    a, b = (f.reshape(size) for f, size in zip(factors, sizes, strict=True))
    return a, b


def centre_factors(weight: Tensor, layer: TensorFactConv) -> tuple[Tensor, Tensor]:
    """Factors of a 1x1 kernel put into the centre of the window of a layer, exactly.

    Args:
        weight: 1x1 kernel, shape (T, S).
        layer: Layer whose split and window the factors are for.

    Returns:
        A and B with the shapes of the split: rank 1 under `ts_dd`, else min(T, S).
    """
    split, shape = get_split(layer.split), layer.kernel_shape
    small, shared = min(shape[:2]), 1 in split.rows
    rank = 1 if shared else small
    a, b = (weight.new_zeros(size) for size in split.factor_shapes(shape, rank))
    if shared:
        a[..., 0] = weight
        b[0, shape[2] // 2, shape[3] // 2] = 1
        return a, b
    # W = W I or I W; the axes of the window stand between T and r in A, last in B.
    unit = torch.eye(small, device=weight.device, dtype=weight.dtype)
    left, right = (weight, unit) if shape[1] == small else (unit, weight)
    a[(slice(None), *(n // 2 for n in a.shape[1:-1]), slice(None))] = left
    b[(slice(None), slice(None), *(n // 2 for n in b.shape[2:]))] = right
    return a, b


def _branch_affine(
    conv: Conv | None, norm: nn.Module | None, like: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scale of the kernel of a branch, and its bias: its own and that of the norm."""
    bias = None if conv is None else conv.bias
    if norm is None or isinstance(norm, nn.Identity):
        like = conv.weight.new_zeros(len(conv.weight)) if like is None else like
        scale, shift = torch.ones_like(like), torch.zeros_like(like)
    elif isinstance(norm, Norm) and norm.running_mean is not None:
        scale, shift = bn_affine(norm)
    else:
        raise TypeError(f'{type(norm).__name__} is no batch norm with statistics')
    return scale, shift if bias is None else bias * scale + shift


def _check_branches(
    dense: TensorFactConv, pointwise: Conv, identity_norm: nn.Module | None
) -> None:
    """Raise unless the branches of a RepConv can be summed into one kernel."""
    if not isinstance(dense, TensorFactConv):
        raise TypeError(f'only a TensorFactConv stays factorised, not {type(dense)}')
    kept = tuple(
        d * (k // 2) for d, k in zip(dense.dilation, dense.kernel_size, strict=True)
    )
    where = f'RepConv of {describe_kernel(dense.kernel_shape)}'
    if any(k % 2 == 0 for k in dense.kernel_size) or dense.padding not in (
        kept,
        'same',
    ):
        raise ValueError(
            f'{where}: the window is not centred, padding {kept} is needed'
        )
    for name in ('in_channels', 'out_channels', 'stride', 'groups'):
        first, second = getattr(dense, name), getattr(pointwise, name)
        if first != second:
            raise ValueError(f'{where}: {name} {first}, but {second} in the 1x1 branch')
    if pointwise.kernel_size != (1, 1) or pointwise.padding not in ((0, 0), 'valid'):
        raise ValueError(f'{where}: the second branch is no unpadded 1x1 convolution')
    stays = dense.in_channels == dense.out_channels and dense.stride == (1, 1)
    if identity_norm is not None and not stays:
        raise ValueError(f'{where}: no identity where the channels or sizes change')
