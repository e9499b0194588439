"""`mmir.factorized`: a model of any host, factorised while it is built."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import nn

from .complementarity_hook import attach_complementarity_
from .factorize import augment_, factorize_
from .freeze import freeze_base_
from .rank import Rank


@MODELS.register_module()
def factorized(
    target: str, factorize: Mapping[str, Any] | None, **cfg: Any
) -> nn.Module:
    """Build a model, factorise its convolutions and, for a stage, freeze the rest.

    The config of the model stays as it is beside `target` and `factorize`, so it
    merges over any base config::

        model=dict(
            type='mmir.factorized', target='mmdet.RTMDet',
            factorize=dict(rank=4, delta=dict(name='ir', rank=1)),
            backbone=..., neck=..., bbox_head=...)

    Dense and factorised checkpoints load into the result, see `TensorFactConv`.

    Args:
        target: Type of the model, as it would stand in `type`.
        factorize: Arguments of `factorize_`, above all `rank`; rank None leaves the
            convolutions dense. For a stage of adaptation also `delta` (arguments of
            `augment_`: `name`, `rank`, ...) or, without deltas, `stage` (its name),
            `trainable` and `bn` (see `freeze_base_`) and, with a delta, `comp_loss`
            (arguments of `attach_complementarity_`): `rank=None` with a stage is
            how baselines such as a frozen backbone or batch norms only are written.
            Without a stage everything trains. None builds the dense model.
        **cfg: All other keys, handed to `target`.

    Returns:
        The model that `target` builds, changed in place.

    Raises:
        TypeError: For an unknown or missing key in `factorize`.
        ValueError: For a wrong value, a key that needs another, or a rank rule that
            reads weights without `checkpoint`.
    """
    model = MODELS.build({'type': target, **cfg})
    return model if factorize is None else _apply(model, **factorize)


def _apply(
    model: nn.Module,
    *,
    rank: Rank | None,
    delta: Mapping[str, Any] | None = None,
    stage: str | None = None,
    trainable: Sequence[str] | None = None,
    bn: str | None = None,
    comp_loss: Mapping[str, Any] | None = None,
    **options: Any,
) -> nn.Module:
    if comp_loss is not None and delta is None:
        raise ValueError('factorize: comp_loss belongs to a delta')
    if delta is not None and stage is not None:
        raise ValueError('factorize: the stage is named by its delta, leave out stage')
    stage = stage if delta is None else delta.get('name')
    if stage is None and (trainable is not None or bn is not None):
        raise ValueError(
            'factorize: trainable and bn belong to a stage with a delta or a name'
        )
    if rank is None and (delta is not None or options):
        extra = ', '.join(['delta'] * (delta is not None) + list(options))
        raise ValueError(f'factorize: {extra} without factors: give a rank')
    reads_weights = isinstance(rank, Mapping) and {'energy', 'budget'} & set(rank)
    if reads_weights and options.get('checkpoint') is None:
        raise ValueError(
            f'factorize: rank {dict(rank)} is read from trained weights, and the '
            'model is not trained yet: give checkpoint=PATH of dense ones'
        )
    if rank is not None:
        factorize_(model, rank, **options)
    if delta is not None:
        augment_(model, **delta)
    if stage is not None:
        freeze_base_(model, stage, trainable=trainable, bn=bn or 'all')
    if comp_loss is not None:
        attach_complementarity_(model, **comp_loss)
    return model
