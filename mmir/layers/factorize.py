"""Whole-model surgery: factorise, widen and merge the convolutions of a model."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmcv.cnn.bricks.wrappers import Conv2d as MMCVConv2d
from torch import nn

from .freeze import FrozenBatchNorm, forget_stage
from .rank import DeltaRank, Rank, factor_count, full_rank, wanted_rank
from .split import get_split
from .tensorfact import TensorFactConv
from .walk import NameFilter, count_parameters, names_of, replace_

# Subclasses of nn.Conv2d have a forward of their own; this one's is that of Conv2d.
_PLAIN = (nn.Conv2d, MMCVConv2d)


@dataclass(frozen=True)
class FactorizeReport:
    """What `factorize_` did.

    Attributes:
        ranks: Rank of each factorised layer by its name.
        skipped: Why a 2D convolution was left dense, by its name.
        params_before: Number of parameters of the model before.
        params_after: Number of parameters of the model afterwards.
    """

    ranks: dict[str, int]
    skipped: dict[str, str]
    params_before: int
    params_after: int

    @property
    def layers(self) -> list[str]:
        """Names of the factorised layers, in the order of the model."""
        return list(self.ranks)

    def __str__(self) -> str:
        return (
            f'{len(self.ranks)} convolutions factorised, {len(self.skipped)} left '
            f'dense, {self.params_before:,} -> {self.params_after:,} parameters'
        )


def factorize_(
    model: nn.Module,
    rank: Rank,
    split: str = 'ts_dd',
    *,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    skip_growing: bool = True,
    factorise_stem: bool = True,
    **options: Any,
) -> FactorizeReport:
    """Replace the convolutions of a model by `TensorFactConv`, in place.

    A plain `nn.Conv2d` with a kernel larger than 1x1 is replaced if its factors are
    smaller than its kernel, r(TS + DD) < TSDD, and it is not depthwise.
    A convolution used at several places stays one.

    Args:
        model: Any model; its weights are factorised as they are.
        rank: Rule of `TensorFactConv`, applied layer by layer.
        split: See `TensorFactConv`.
        include: Regular expressions searched in the names; None for all names.
        exclude: Likewise, none may be found; None excludes heads, see `walk.HEADS`.
        skip_growing: Leave layers dense that would not get smaller, or are depthwise.
        factorise_stem: Whether the first convolution of the model may be replaced.
        **options: `mode`, `sigma`, `two_conv_max_rank` and `reconstruct_fp32` of
            `TensorFactConv`.

    Returns:
        Which layers were replaced, with sizes before and after.

    Raises:
        ValueError: If no layer can be replaced (with the reasons), or for a wrong
            option or weights that are not finite (with the layer). The model is
            unchanged then.
    """
    names, before = NameFilter(include, exclude), count_parameters(model)
    uses = Counter(id(m.weight) for m in model.modules() if type(m) in _PLAIN)
    new, ranks, skipped = {}, {}, {}
    found = names_of(model, nn.Conv2d)
    for index, (conv, aliases) in enumerate(found):
        reason = names.reason(aliases) or _why_dense(conv, rank, split, skip_growing)
        if not aliases[0]:
            reason = 'it is the model itself, use TensorFactConv.from_conv'
        elif uses[id(conv.weight)] > 1:
            reason = 'shares its weight with another convolution'
        elif index == 0 and not factorise_stem:
            reason = 'stem'
        if reason:
            skipped[aliases[0]] = reason
            continue
        try:
            new[conv] = TensorFactConv.from_conv(conv, rank, split=split, **options)
        except ValueError as error:
            raise ValueError(f'{aliases[0]}: {error}') from error
        ranks[aliases[0]] = new[conv].rank
    if not new:
        raise ValueError(f'nothing to factorise at rank {rank!r}: {_tally(skipped)}')
    replace_(model, new)
    return FactorizeReport(ranks, skipped, before, count_parameters(model))


def _why_dense(
    conv: nn.Conv2d, rule: Rank, split: str, skip_growing: bool
) -> str | None:
    """Why the geometry of `conv` speaks against factors, None if it does not."""
    shape, cut = tuple(conv.weight.shape), get_split(split)
    rank = wanted_rank(rule, shape, cut)
    if type(conv) not in _PLAIN:
        return f'{type(conv).__name__} is no plain nn.Conv2d'
    if full_rank(shape, cut) == 1:
        return 'kernel too small to factorise (full rank 1)'
    if skip_growing and shape[1] == 1 < conv.groups:
        return 'depthwise, there is little to save (skip_growing)'
    if skip_growing and factor_count(rank, shape, cut) >= conv.weight.numel():
        return f'would grow at rank {rank} (skip_growing)'
    return None


def _tally(reasons: dict[str, str]) -> str:
    """Reasons with their number and one layer each, for an error message."""
    if not reasons:
        return 'the model has no nn.Conv2d'
    examples = {reason: name for name, reason in reversed(reasons.items())}
    return '; '.join(
        f'{count} x {reason}, such as {examples[reason]!r}'
        for reason, count in Counter(reasons.values()).items()
    )


def augment_(
    model: nn.Module,
    name: str,
    rank: DeltaRank = 1,
    init: str = 'zero_A',
    *,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = (),
) -> dict[str, int]:
    """Add the delta `name` to every factorised convolution of a model, in place.

    Layers whose kernel has full rank 1 (1x1) are left: a delta would be as large as
    the kernel. Deltas start as trainable; `freeze_base_` freezes what is below.

    Args:
        model: Model with `TensorFactConv` layers.
        name: Name of the delta, such as `ir`.
        rank: An integer (0 adds nothing) or `dict(ratio=...)` of the layer's rank.
        init: See `TensorFactConv.augment`.
        include: Regular expressions searched in the names; None for all names.
        exclude: Likewise, none may be found.

    Returns:
        Rank of the delta of each widened layer, by the layer's name.

    Raises:
        ValueError: If there is no layer to widen, or for a wrong argument (with the
            name of the layer).
    """
    names, ranks = NameFilter(include, exclude), {}
    layers = [
        (layer, aliases)
        for layer, aliases in names_of(model, TensorFactConv)
        if full_rank(layer.kernel_shape, get_split(layer.split)) > 1
        and names.reason(aliases) is None
    ]
    if not layers:
        raise ValueError(
            f'no TensorFactConv for a delta {name!r}: factorize_ the model first, '
            'and check include and exclude'
        )
    for layer, aliases in layers:
        try:
            layer.augment(name, rank, init)
        except ValueError as error:
            raise ValueError(f'{aliases[0] or "the layer"}: {error}') from error
        if name in layer.deltas:
            ranks[aliases[0]] = layer.deltas[name].rank
    return ranks


def merge_(model: nn.Module) -> nn.Module:
    """Turn a factorised model into the plain one it computes, in place.

    `TensorFactConv` becomes `nn.Conv2d` and `FrozenBatchNorm` the batch norm it was,
    so the state dict has the keys of the model that was never factorised.

    Args:
        model: Any model; without such layers nothing changes.

    Returns:
        The model, or the new convolution if the model is a `TensorFactConv` itself.

    Raises:
        ValueError: For NaN or infinite weights, naming the layer. The model is
            unchanged then.
    """
    new: dict[nn.Module, nn.Module] = {}
    for name, module in model.named_modules():
        try:
            if isinstance(module, TensorFactConv):
                new[module] = module.merge()
            elif isinstance(module, FrozenBatchNorm):
                new[module] = module.thaw()
        except ValueError as error:
            raise ValueError(f'{name or "the layer"}: {error}') from error
    replace_(model, new)
    forget_stage(model)
    return new.get(model, model)
