"""Whole-model surgery: factorize the convolutions of a model and add deltas to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mmir.adapters import (
    NameFilter,
    count_parameters,
    names_of,
    refuse_wrapped,
    replace_,
    tally,
    why_not_plain,
    why_tied,
)

from .kernels import Checkpoint, dense_kernels
from .layer import TensorFactConv
from .rank import DeltaRank, Rank, factor_count, full_rank
from .rank_search import search_ranks
from .split import Split, get_split


@dataclass(frozen=True)
class FactorizeReport:
    """Report of `factorize_`.

    Attributes:
        ranks: Rank of each factorized layer, by name.
        skipped: Reason why a 2D convolution was left dense, by name.
        params_before: Number of parameters of the model before.
        params_after: Number of parameters of the model afterwards.
    """

    ranks: dict[str, int]
    skipped: dict[str, str]
    params_before: int
    params_after: int

    @property
    def layers(self) -> list[str]:
        """Names of the factorized layers, in the order of the model."""
        return list(self.ranks)

    def __str__(self) -> str:
        return (
            f'{len(self.ranks)} convolutions factorized, {len(self.skipped)} left '
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
    factorize_stem: bool = True,
    checkpoint: Checkpoint | None = None,
    **options: Any,
) -> FactorizeReport:
    """Replace the convolutions of a model by `TensorFactConv`, in place.

    A plain `nn.Conv2d` is replaced if its kernel has a full rank above 1 (under
    `ts_dd`, if it is larger than 1x1), its factors are smaller than its kernel and it
    is not depthwise. A convolution used in several places stays one module. What is not
    plain is left alone: a computed kernel (weight norm, pruning), hooks, a tied kernel,
    see `why_not_plain` and `why_tied`.

    Args:
        model: Any model; its current weights are factorized.
        rank: Rank rule of `TensorFactConv`, applied to each layer and capped at the
            full rank of its kernel; or a rule that reads the weights, `dict(energy=e)`
            or `dict(budget=P)`, see `search_ranks`.
        split: See `TensorFactConv`.
        include: Regular expressions for layer names. Default: all layers.
        exclude: Regular expressions for layers to skip. Default: heads, `walk.HEADS`.
        skip_growing: Skip layers that would not become smaller or are depthwise.
        factorize_stem: Whether the first convolution of the model may be replaced.
        checkpoint: File or state dict with the dense kernels to factorize instead of
            the model's. It still has to be loaded for all other weights.
        **options: Options of `TensorFactConv.from_conv`.

    Returns:
        The replaced layers, with sizes before and after.

    Raises:
        ValueError: No layer can be replaced (gives the reasons), or an invalid option,
            NaN weights or missing kernels (names the layer). Nothing is changed then.
    """
    refuse_wrapped(model)
    before = count_parameters(model)
    layers, skipped = choose_layers(
        model,
        rank,
        split,
        include=include,
        exclude=exclude,
        skip_growing=skip_growing,
        factorize_stem=factorize_stem,
        checkpoint=checkpoint,
    )
    new = {
        name: _factorized(name, each, split, options) for name, each in layers.items()
    }
    replace_(model, {layers[name].conv: layer for name, layer in new.items()})
    ranks = {name: layer.rank for name, layer in new.items()}
    return FactorizeReport(ranks, skipped, before, count_parameters(model))


@dataclass(frozen=True)
class ChosenLayer:
    """Convolution to factorize: the module, the kernel to decompose, and the rank."""

    conv: nn.Conv2d
    kernel: Tensor
    rank: int


def choose_layers(
    model: nn.Module,
    rank: Rank,
    split: str,
    *,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    skip_growing: bool = True,
    factorize_stem: bool = True,
    checkpoint: Checkpoint | None = None,
) -> tuple[dict[str, ChosenLayer], dict[str, str]]:
    """Choose the convolutions that `factorize_` replaces; the model is not modified.

    Args:
        model: See `factorize_`, as for all other arguments.

    Returns:
        The layers by name, and the reasons why the other convolutions stay dense.

    Raises:
        ValueError: See `factorize_`.
    """
    cut = get_split(split)
    convs, reasons = _candidates(
        model, NameFilter(include, exclude), cut, skip_growing, factorize_stem
    )
    kernels = _kernels(convs, checkpoint)
    ranks = _at_most_full(search_ranks(rank, kernels, cut), kernels, cut)
    for name, kernel in kernels.items():
        reasons[name] = _why_kept(ranks[name], kernel, cut, skip_growing)
    skipped = {name: reason for name, reason in reasons.items() if reason}
    layers = {
        name: ChosenLayer(convs[name], kernel, ranks[name])
        for name, kernel in kernels.items()
        if name not in skipped
    }
    if not layers:
        why = tally(skipped) or 'the model has no nn.Conv2d'
        raise ValueError(f'nothing to factorize at rank {rank!r}: {why}')
    return layers, skipped


def _at_most_full(
    ranks: Mapping[str, int | None], kernels: Mapping[str, Tensor], cut: Split
) -> dict[str, int | None]:
    """Cap ranks at the full rank of the kernels."""
    limits = {
        name: full_rank(tuple(kernel.shape), cut) for name, kernel in kernels.items()
    }
    return {name: rank and min(rank, limits[name]) for name, rank in ranks.items()}


def _kernels(
    convs: dict[str, nn.Conv2d], checkpoint: Checkpoint | None
) -> dict[str, Tensor]:
    """Kernels to factorize, by layer name."""
    kernels = {name: conv.weight for name, conv in convs.items()}
    if checkpoint is None:
        return kernels
    shapes = {name: tuple(kernel.shape) for name, kernel in kernels.items()}
    return dense_kernels(checkpoint, shapes)


def _factorized(
    name: str, layer: ChosenLayer, split: str, options: dict[str, Any]
) -> TensorFactConv:
    """Call `TensorFactConv.from_conv`; puts the layer name into its errors."""
    try:
        return TensorFactConv.from_conv(
            layer.conv, layer.rank, kernel=layer.kernel, split=split, **options
        )
    except ValueError as error:
        raise ValueError(f'{name}: {error}') from error


def _candidates(
    model: nn.Module,
    names: NameFilter,
    cut: Split,
    skip_growing: bool,
    factorize_stem: bool,
) -> tuple[dict[str, nn.Conv2d], dict[str, str | None]]:
    """Convolutions that may be replaced, and for all of them why not, or None."""
    convs, reasons, tied = {}, {}, why_tied(model)
    for index, (conv, aliases) in enumerate(names_of(model, nn.Conv2d)):
        name = aliases[0]
        if not name:
            reason = 'it is the model itself, use TensorFactConv.from_conv'
        elif index == 0 and not factorize_stem:
            reason = 'stem'
        else:
            reason = (
                names.reason(aliases)
                or why_not_plain(conv, rebuilt=True)
                or tied.get(conv)
                or _why_dense(conv, cut, skip_growing)
            )
        reasons[name] = reason
        if reason is None:
            convs[name] = conv
    return convs, reasons


def _why_dense(conv: nn.Conv2d, cut: Split, skip_growing: bool) -> str | None:
    """Reason why the geometry of `conv` rules factors out; None if it does not."""
    if full_rank(tuple(conv.weight.shape), cut) == 1:
        return 'kernel too small to factorize (full rank 1)'
    if skip_growing and conv.weight.shape[1] == 1 < conv.groups:
        return 'depthwise, there is little to save (skip_growing)'
    return None


def _why_kept(
    rank: int | None, kernel: Tensor, cut: Split, skip_growing: bool
) -> str | None:
    """Reason why a layer stays dense at its rank; None if it does not."""
    if rank is None:
        return 'dense by the budget'
    size = factor_count(rank, tuple(kernel.shape), cut)
    if skip_growing and size >= kernel.numel():
        return f'would grow at rank {rank} (skip_growing)'
    return None


def augment_(
    model: nn.Module,
    name: str,
    rank: DeltaRank = 1,
    *,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = (),
) -> dict[str, int]:
    """Add the delta `name` to every factorized convolution of a model, in place.

    Layers whose kernel has full rank 1 (under `ts_dd`: 1x1) are skipped. Deltas are
    trainable; `adapt_` freezes the rest.

    Args:
        model: Model with `TensorFactConv` layers.
        name: Name of the delta, such as `ir`.
        rank: Integer (0 adds nothing), capped at the full rank of the kernel, or
            `dict(ratio=...)` relative to the rank of the layer.
        include: Regular expressions for layer names. Default: all layers.
        exclude: Regular expressions for layers to skip.

    Returns:
        Rank of the new deltas, by layer name.

    Raises:
        ValueError: No layer can get a delta, or an invalid argument (names the layer).
            The model is unchanged then.
    """
    refuse_wrapped(model)
    names, ranks = NameFilter(include, exclude), {}
    layers = {
        aliases[0]: layer
        for layer, aliases in names_of(model, TensorFactConv)
        if _full_rank(layer) > 1 and names.reason(aliases) is None
    }
    if not layers:
        raise ValueError(
            f'no TensorFactConv for a delta {name!r}: factorize_ the model first, '
            'and check include and exclude'
        )
    for key, layer in layers.items():
        try:
            layer.augment(name, _at_most(rank, layer))
        except ValueError as error:
            for done in ranks:
                del layers[done].deltas[name]
            raise ValueError(f'{key or "the layer"}: {error}') from error
        if name in layer.deltas:
            ranks[key] = layer.deltas[name].rank
    return ranks


def _at_most(rank: DeltaRank, layer: TensorFactConv) -> DeltaRank:
    """Cap an integer rank at the full rank of the kernel; other rules are unchanged."""
    return min(rank, _full_rank(layer)) if isinstance(rank, int) else rank


def _full_rank(layer: TensorFactConv) -> int:
    return full_rank(layer.kernel_shape, get_split(layer.split))
