"""`mmir.EarlyFusion`: feed all modalities, stacked along the channels, to one model."""

from collections.abc import Mapping
from typing import Any

from mmengine.registry import MODELS
from torch import nn

from mmir.structures import ModalityNormalizer

from .stem import widen_stem_


@MODELS.register_module()
def EarlyFusion(
    target: str, fusion: Mapping[str, Any] | None = None, **cfg: Any
) -> nn.Module:
    """Build a model whose first layer reads all modalities of a paired sample.

    Next to `target` and `fusion`, the model config stays as it is, except that the data
    preprocessor is a paired one::

        model=dict(
            type='mmir.EarlyFusion', target='mmdet.RTMDet',
            fusion=dict(init='average'),
            data_preprocessor=dict(type='mmir.PairedDetDataPreprocessor', ...),
            backbone=..., neck=..., bbox_head=...)

    Checkpoints of the 3-channel model load: their first layer is widened on load.

    Args:
        target: Type of the model, as it would be written in `type`.
        fusion: Arguments of :func:`mmir.fusion.stem.widen_stem_`: `init`, `stem` and
            `channels`. Default `channels`: those of the paired data preprocessor.
        **cfg: All other keys, passed to `target`.

    Returns:
        The model built by `target`, modified in place.

    Raises:
        TypeError: Unknown key in `fusion`, or neither `channels` nor a paired data
            preprocessor.
        ValueError: The stem is not found, an option is invalid, or the data
            preprocessor is set up for other channels.
    """
    model = MODELS.build({'type': target, **cfg})
    options = dict(fusion or {})
    source = getattr(model, 'data_preprocessor', None)
    if isinstance(source, ModalityNormalizer):
        layout = source.fix_channels(options.get('channels'))
        options['channels'] = tuple(layout.values())
    widen_stem_(model, **options)
    return model
