"""`mmir.Adapted` and `adapt_`: adapt a model of any host."""

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

    Next to `target` and `adapt`, the model config stays as it is, so it merges over any
    base config::

        model=dict(
            type='mmir.Adapted', target='mmdet.RTMDet',
            adapt=dict(type='ConvLoRA', rank=12, trainable=['bbox_head'], norm='all'),
            backbone=..., neck=..., bbox_head=...)

    Works for whole models and single backbones. Plain checkpoints load into the result.
    The trainable parameters are counted in the log.

    Args:
        target: Type of the model, as it would be written in `type`.
        adapt: None builds the plain model. Otherwise a dict of `type`, a method such as
            `ConvLoRA` or one of your own (see `Method`); `name`, `trainable` and `norm`
            of `adapt_`; and the arguments of the method.
        **cfg: All other keys, passed to `target`.

    Returns:
        The model built by `target`.

    Raises:
        KeyError: Unknown method.
        TypeError: Unknown or missing key in `adapt`.
        ValueError: Invalid value, or the method does not fit the model.
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
            f'adapt.type {adapt["type"]!r} is not a method of adaptation such as '
            'ConvLoRA'
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
    """Adapt a model in place: insert the adapters of a method, freeze the rest.

    Call it before building the optimizer and before wrapping the model.

    Args:
        model: Any model.
        method: Method of adaptation, such as `ConvLoRA(rank=12)`.
        name: Name of the adapters, in the model and in their file.
        trainable: Regular expressions; parameters whose names match one train as well.
            Default: the heads.
        norm: Policy for normalization layers, see `freeze_`. Default: the method's.

    Returns:
        Count of trainable parameters, see `trainable_report`.

    Raises:
        ValueError: Invalid value, the method does not fit the model, or `trainable` or
            `norm` given for a method that freezes nothing.
    """
    refuse_wrapped(model)
    kind = type(method).__name__
    if not method.freezes and (trainable is not None or norm is not None):
        raise ValueError(f'{kind} freezes nothing here: leave out trainable and norm')
    norm = method.norm if norm is None else norm
    check_stage(model, trainable, norm)  # before anything is changed
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
