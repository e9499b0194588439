"""`mmir.ModalityShared`: one backbone for all modalities, with norms of their own."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmir.adapters import refuse_wrapped
from mmir.fusion.single_modality import layout_of
from mmir.fusion.stem import find_stem

from .exchange import ChannelExchange, SpatialExchange
from .modality_norm import ModalityNorm, PerModality, with_idle
from .presence import ModalityRoute, Presence, as_levels
from .stages import exchange_norms, find_stages

Separate = Literal['none', 'norms', 'stem', 'all']
NORMS = (
    torch.nn.modules.batchnorm._BatchNorm,  # nn.SyncBatchNorm is no nn.BatchNorm2d
    nn.GroupNorm,
    nn.LayerNorm,
    torch.nn.modules.instancenorm._InstanceNorm,
)


def share_(
    backbone: nn.Module,
    names: Sequence[str],
    separate: Separate = 'norms',
    channel_exchange: Mapping[str, Any] | None = None,
    spatial_exchange: Mapping[str, Any] | None = None,
) -> ModalityRoute:
    """Give the norms of a backbone one copy per modality, in place.

    Convolutions stay shared, and checkpoints of the plain backbone load: every copy
    gets the weights of its norm. The backbone then runs on stacked images, through the
    route that is returned.

    Args:
        backbone: Convolutional backbone of any host, not wrapped.
        names: Modalities, in channel order.
        separate: What each modality has of its own: 'none', 'norms', 'stem' (norms and
            the first convolution), or 'all' (norms and convolutions).
        channel_exchange: Arguments of :class:`mmir.layers.ChannelExchange`, and

            - `stages`: Indices of the stages with exchange. Default: all.
            - `norms`: Regular expression of the norms it follows. Default: the norm
              before the last convolution of each block.
        spatial_exchange: Arguments of :class:`mmir.layers.SpatialExchange`, and
            `stages`: Indices of the stages whose output is exchanged. Default: the last
            two.

    Returns:
        The route of all layers.

    Raises:
        ValueError: Fewer than two modalities, an unknown option, no such stage, nothing
            to separate, gradient checkpointing in the backbone, or it is wrapped. The
            backbone is unchanged then.
    """
    norms = _norms(backbone, names, separate)
    exchanges = _channel_exchanges(backbone, channel_exchange)
    if exchanges and separate == 'none':
        raise ValueError(
            "channel_exchange needs norms per modality, not separate='none'"
        )
    if unknown := exchanges.keys() - norms.keys():
        raise ValueError(f'channel_exchange: {sorted(unknown)} are not norms')
    spatial = _spatial_exchange(backbone, spatial_exchange)
    route = ModalityRoute(names)
    if separate != 'none':
        for name, norm in norms.items():
            layer = ModalityNorm(norm, route, exchanges.get(name))
            backbone.set_submodule(name, layer)
        for name, conv in _own_convs(backbone, separate).items():
            backbone.set_submodule(name, PerModality(conv, route))
    for stage in spatial[0]:
        stage.register_forward_hook(
            partial(_exchange, exchange=spatial[1], route=route)
        )
    return route


def _norms(
    backbone: nn.Module, names: Sequence[str], separate: Separate
) -> dict[str, nn.Module]:
    """Norms of a backbone by name; refuses what cannot be shared."""
    refuse_wrapped(backbone)
    if len(set(names)) != len(names) or len(names) < 2:
        raise ValueError(f'at least two modalities are needed, got {[*names]}')
    if separate not in get_args(Separate):
        raise ValueError(f'separate must be one of {get_args(Separate)}')
    if with_cp := [n for n, m in backbone.named_modules() if getattr(m, 'with_cp', 0)]:
        raise ValueError(
            f'set with_cp=False ({with_cp[0] or type(backbone).__name__}): in the '
            'backward pass, gradient checkpointing would compute with the modalities '
            'of another batch'
        )
    norms = {n: m for n, m in backbone.named_modules() if isinstance(m, NORMS)}
    if separate != 'none' and not norms:
        raise ValueError(f'{type(backbone).__name__} has no norms to separate')
    return norms


def _channel_exchanges(
    backbone: nn.Module, given: Mapping[str, Any] | None
) -> dict[str, ChannelExchange]:
    """Exchange after each norm, by the name of the norm."""
    if given is None:
        return {}
    options = dict(given)
    stages = find_stages(backbone)
    wanted = _indices(options.pop('stages', None), stages, range(len(stages)))
    found = exchange_norms(backbone, stages, options.pop('norms', None))
    exchange = ChannelExchange(**options)
    return {name: exchange for name, stage in found.items() if stage in wanted}


def _spatial_exchange(
    backbone: nn.Module, given: Mapping[str, Any] | None
) -> tuple[list[nn.Module], SpatialExchange | None]:
    """Stages whose output is exchanged, and the exchange."""
    if given is None:
        return [], None
    options = dict(given)
    stages = find_stages(backbone)
    last = range(max(0, len(stages) - 2), len(stages))
    wanted = _indices(options.pop('stages', None), stages, last)
    modules = [backbone.get_submodule(stages[k]) for k in wanted]
    return modules, SpatialExchange(**options)


def _indices(
    given: Sequence[int] | None, stages: list[str], default: range
) -> Sequence[int]:
    if given is None:
        return default
    if unknown := [k for k in given if k not in range(len(stages))]:
        raise ValueError(f'no stages {unknown}; there are {dict(enumerate(stages))}')
    return given


def _own_convs(backbone: nn.Module, separate: Separate) -> dict[str, nn.Module]:
    if separate == 'stem':
        return dict(find_stem(backbone))
    kinds = (nn.modules.conv._ConvNd, nn.Linear) if separate == 'all' else ()
    return {n: m for n, m in backbone.named_modules() if isinstance(m, kinds)}


def _exchange(
    module: nn.Module,
    args: tuple,
    out: Tensor | list[Tensor],
    exchange: SpatialExchange,
    route: ModalityRoute,
) -> Tensor | list[Tensor]:
    """Exchange columns of the output of a stage; of every branch in HRNet."""
    presence = route.presence
    if len(presence.active) == 1:
        return out
    if not isinstance(out, Tensor):
        return [_exchange(module, args, x, exchange, route) for x in out]
    parts = presence.together(presence.split(out), exchange)
    return torch.cat([*parts.values()])


def exchanging_norms(model: nn.Module) -> Iterator[tuple[str, ModalityNorm]]:
    """Yield the norms of a model after which channels are exchanged, with names."""
    for name, layer in model.named_modules():
        if isinstance(layer, ModalityNorm) and layer.exchange is not None:
            yield name, layer


def sparsity_penalty(model: nn.Module) -> Tensor | None:
    """L1 penalty on the scales by which channels are exchanged, times its factor.

    Returns:
        A scalar; None if no exchange has a factor.
    """
    terms = [
        norm.exchange.sparsity
        * norm.exchange.penalty([copy.weight for copy in norm.copies.values()])
        for _, norm in exchanging_norms(model)
        if norm.exchange.sparsity
    ]
    return torch.stack(terms).sum() if terms else None


def modalities_of(model: nn.Module) -> tuple[str, ...]:
    """Modalities of a model whose weights they share, in channel order.

    Raises:
        ValueError: No paired data preprocessor, or a modality without 3 channels.
    """
    layout = layout_of(model)
    if set(layout.values()) != {3}:
        raise ValueError(
            f'shared weights need 3 channels per modality, got {layout}: set '
            '`channels=3` in mmir.LoadPairedImages and in the data preprocessor'
        )
    return tuple(layout)


@MODELS.register_module()
def ModalityShared(
    target: str, shared: Mapping[str, Any] | None = None, **cfg: Any
) -> nn.Module:
    """Build a model whose backbone runs on each modality with norms of its own.

    The feature maps of the modalities that a sample has are averaged, so neck and head
    stay as they are, and a missing modality costs nothing::

        model=dict(
            type='mmir.ModalityShared', target='mmdet.RTMDet',
            data_preprocessor=dict(type='mmir.PairedDetDataPreprocessor', ...),
            backbone=..., neck=..., bbox_head=...)

    Checkpoints of the plain model load. Which modalities a sample has is read from
    `absent` in its metainfo. A modality that a whole training batch lacks gets
    gradients of zero, so ranks may see different modalities. Synchronized batch norms
    are the exception: there, all ranks must have the same ones.

    Args:
        target: Type of the model, as it would be written in `type`. It has a
            `backbone`.
        shared: Arguments of :func:`share_`.
        **cfg: All other keys, passed to `target`; `data_preprocessor` must be paired.

    Returns:
        The model built by `target`, modified in place.

    Raises:
        ValueError: No paired data preprocessor, a modality without 3 channels, or see
            :func:`share_`.
    """
    model = MODELS.build({'type': target, **cfg})
    route = share_(model.backbone, modalities_of(model), **(shared or {}))
    _Averaged(route, model)
    return model


class _Averaged:
    """Hooks that make a shared backbone look like a plain one: (N, C, H, W) to maps.

    Args:
        route: Route of the backbone.
        model: Model of a host; the hooks are registered here.
    """

    def __init__(self, route: ModalityRoute, model: nn.Module) -> None:
        self.route = route
        self.metas: list[Mapping] | None = None
        model.register_forward_pre_hook(self.note, with_kwargs=True)
        model.register_forward_hook(self.forget, always_call=True)
        model.backbone.register_forward_pre_hook(self.stack)
        model.backbone.register_forward_hook(self.average, always_call=True)

    def note(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Note the metainfo of the batch before the model runs."""
        samples = kwargs.get('data_samples', args[1] if len(args) > 1 else None)
        self.metas = samples and [sample.metainfo for sample in samples]

    def forget(self, *_: Any) -> None:
        """Forget the metainfo of the batch."""
        self.metas = None

    def stack(self, module: nn.Module, args: tuple) -> tuple[Tensor, ...]:
        """Stack the images that are present along the batch."""
        names = self.route.names
        parts = dict(zip(names, args[0].chunk(len(names), 1), strict=True))
        presence = Presence.of(names, len(args[0]), self.metas)
        self.route.enter(presence)
        return presence.stack(parts), *args[1:]

    def average(
        self, module: nn.Module, args: tuple, outs: Any
    ) -> Tensor | tuple[Tensor, ...] | None:
        """Average the maps of the modalities of each sample."""
        if outs is None:  # the backbone failed; the hook only cleans up
            self.route.leave()
            return None
        presence = self.route.presence
        self.route.leave()
        levels = tuple(mean_of_present(x, presence) for x in as_levels(outs))
        levels = with_idle(levels, module, presence)
        return levels[0] if isinstance(outs, Tensor) else levels


def mean_of_present(x: Tensor, presence: Presence) -> Tensor:
    """Mean over the modalities of each sample.

    Args:
        x: Stacked maps, see `Presence.stack`.
        presence: What is there.

    Returns:
        Shape (batch, ...).
    """
    parts = presence.split(x)
    if presence.complete:
        first, *rest = parts.values()
        return sum(rest, start=first) / len(parts) if rest else first
    total = x.new_zeros(presence.batch, *x.shape[1:])
    count = x.new_zeros(presence.batch, *[1] * (x.ndim - 1))
    for name, part in parts.items():
        rows = torch.tensor(presence.rows[name], device=x.device)
        total = total.index_add(0, rows, part)
        count[rows] += 1
    return total / count
