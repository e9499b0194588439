"""`mmir.factorized`: a model of any host, factorised while it is built."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import nn

from .factorize import augment_, factorize_
from .freeze import freeze_base_


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
        factorize: Arguments of `factorize_`; for a stage of adaptation also `delta`
            (arguments of `augment_`: `name`, `rank`, ...), `trainable` and `bn`
            (see `freeze_base_`). Without `delta` everything trains. None builds the
            dense model, so that a baseline differs from its config in this key only.
        **cfg: All other keys, handed to `target`.

    Returns:
        The model that `target` builds, changed in place.

    Raises:
        TypeError: For an unknown key in `factorize`.
        ValueError: For a wrong value, or `trainable` or `bn` without `delta`.
    """
    model = MODELS.build({'type': target, **cfg})
    return model if factorize is None else _apply(model, **factorize)


def _apply(
    model: nn.Module,
    delta: Mapping[str, Any] | None = None,
    trainable: Sequence[str] | None = None,
    bn: str | None = None,
    **options: Any,
) -> nn.Module:
    if delta is None and (trainable is not None or bn is not None):
        raise ValueError('factorize: trainable and bn belong to a stage with a delta')
    factorize_(model, **options)
    if delta is not None:
        augment_(model, **delta)
        freeze_base_(model, delta['name'], trainable=trainable, bn=bn or 'all')
    return model
