"""`mmir.EarlyFusion`: a model of any host on all modalities, stacked at its input."""

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

    The config of the model stays as it is beside `target` and `fusion`; the data
    preprocessor is a paired one::

        model=dict(
            type='mmir.EarlyFusion', target='mmdet.RTMDet',
            fusion=dict(init='average'),
            data_preprocessor=dict(type='mmir.PairedDetDataPreprocessor', ...),
            backbone=..., neck=..., bbox_head=...)

    Checkpoints of the model on 3 channels load: their first layer is widened as they
    are read.

    Args:
        target: Type of the model, as it would stand in `type`.
        fusion: Arguments of :func:`mmir.fusion.stem.widen_stem_`: `init`, `stem`, and
            `channels`, by default those of the paired data preprocessor.
        **cfg: All other keys, handed to `target`.

    Returns:
        The model that `target` builds, changed in place.

    Raises:
        TypeError: For an unknown key in `fusion`, or no `channels` without a paired
            data preprocessor.
        ValueError: The stem is not found, an option is wrong, or the data preprocessor
            is set up for other channels.
    """
    model = MODELS.build({'type': target, **cfg})
    options = dict(fusion or {})
    source = getattr(model, 'data_preprocessor', None)
    if isinstance(source, ModalityNormalizer):
        layout = source.fix_channels(options.get('channels'))
        options['channels'] = tuple(layout.values())
    widen_stem_(model, **options)
    return model
