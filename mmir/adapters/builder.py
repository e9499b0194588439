"""`mmir.Adapted` and `adapt_`: a model of any host becomes one that is adapted."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.registry import MODELS
from torch import nn

from .freeze import check_stage, freeze_
from .method import Method
from .record import Stage, record_of
from .report import TrainableReport, trainable_report
from .walk import refuse_wrapped

_STAGE = ('name', 'trainable', 'norm')


@MODELS.register_module('Adapted')
def Adapted(target: str, adapt: Mapping[str, Any] | None, **cfg: Any) -> nn.Module:
    """Build a model of any host and adapt it, in place.

    The config of the model stays as it is beside `target` and `adapt`, so it merges
    over any base config::

        model=dict(
            type='mmir.Adapted', target='mmdet.RTMDet',
            adapt=dict(type='ConvLoRA', rank=12, trainable=['bbox_head'], norm='all'),
            backbone=..., neck=..., bbox_head=...)

    It serves whole models and single backbones. Plain checkpoints load into the result.
    What trains is counted in the log.

    Args:
        target: Type of the model, as it would stand in `type`.
        adapt: `type`, a method such as `ConvLoRA`, or one of your own, see `Method`;
            `name`, `trainable` and `norm` of `adapt_`; the other keys are the method's.
            None builds the plain model.
        **cfg: All other keys, handed to `target`.

    Returns:
        The model that `target` builds.

    Raises:
        KeyError: For an unknown method.
        TypeError: For an unknown or missing key in `adapt`.
        ValueError: For a wrong value, or a model the method does not fit.
    """
    model = MODELS.build({'type': target, **cfg})
    if adapt is None:
        return model
    options = dict(adapt)
    stage = {key: options.pop(key) for key in _STAGE if key in options}
    kind = options.get('type')
    if isinstance(kind, str) and '.' not in kind:
        options['type'] = f'mmir.{kind}'
    method = MODELS.build(options)
    if not isinstance(method, Method):
        raise TypeError(
            f'adapt.type {adapt["type"]!r} is no method of adaptation, such as ConvLoRA'
        )
    print_log(str(adapt_(model, method, **stage)), 'current')
    return model


def adapt_(
    model: nn.Module,
    method: Method,
    name: str = 'ir',
    *,
    trainable: Sequence[str] | None = None,
    norm: str | None = None,
) -> TrainableReport:
    """Adapt a model by a method, in place: insert its adapters, freeze the rest.

    Call it before the optimizer is built and before the model is wrapped.

    Args:
        model: Any model.
        method: A method, such as `ConvLoRA(rank=12)`.
        name: Name of the adapters and of their file's content.
        trainable: Regular expressions searched in the names of parameters that train
            as well; None for heads.
        norm: Policy for normalization layers, see `freeze_`; None for the method's.

    Returns:
        What trains, see `trainable_report`.

    Raises:
        ValueError: For a wrong value, a model the method does not fit, or `trainable`
            or `norm` for a method that freezes nothing.
    """
    refuse_wrapped(model)
    kind = type(method).__name__
    if not method.freezes and (trainable is not None or norm is not None):
        raise ValueError(f'{kind} freezes nothing here: leave out trainable and norm')
    norm = method.norm if norm is None else norm
    check_stage(model, trainable, norm)  # while the model is still as it was
    notes = method.insert_(model, name)
    if method.freezes:
        freeze_(
            model,
            name,
            method=kind,
            trains=method.trains,
            trainable=trainable,
            norm=norm,
        )
    elif method.stage:
        record_of(model).stage = Stage(name, kind, tuple(model.state_dict()))
    method.finish_(model)
    return trainable_report(model, notes)
