"""`mmir.SingleModality`: a model of any host on one modality of a paired sample.

The baseline for every fusion: same data, same augmentation, same network.
"""

from functools import partial
from typing import Any

from mmengine.registry import MODELS
from torch import nn

from mmir.structures import ModalityNormalizer

from .stem import COLORS, widen_stem_


@MODELS.register_module()
def SingleModality(target: str, modality: str, **cfg: Any) -> nn.Module:
    """Build a model whose backbone gets the channels of one modality only.

    Its checkpoints are those of the plain model, so they also load into the plain
    model, `mmir.LateFusionDetector` and `mmir.LateFusionSegmentor`. Where the modality
    is missing, the input is filled with the `absent_value` of the data preprocessor.

    Args:
        target: Type of the model, as it would be written in `type`; it must have a
            `backbone`.
        modality: Name of the modality.
        **cfg: All other keys, passed to `target`; `data_preprocessor` must be paired.

    Returns:
        The model built by `target`. Its stem is adapted if the modality does not have 3
        channels, see :func:`mmir.fusion.stem.widen_stem_`.

    Raises:
        ValueError: No paired data preprocessor, or it has no such modality.
    """
    model = MODELS.build({'type': target, **cfg})
    layout = layout_of(model)
    if modality not in layout:
        raise ValueError(
            f'SingleModality: there is no modality {modality!r}, the data preprocessor '
            f'has {[*layout]}'
        )
    count = layout[modality]
    adapt_stem_(model, count)
    names = list(layout)
    start = sum(layout[name] for name in names[: names.index(modality)])
    select = partial(_select, start=start, stop=start + count)
    model.backbone.register_forward_pre_hook(select)
    return model


def layout_of(model: nn.Module) -> dict[str, int]:
    """Channel layout of the input of a model.

    Args:
        model: Model of a host with a paired data preprocessor.

    Returns:
        Number of channels per modality, in order. From now on, the data preprocessor
        rejects samples with another layout.

    Raises:
        ValueError: The data preprocessor is not a paired one.
    """
    source = getattr(model, 'data_preprocessor', None)
    if not isinstance(source, ModalityNormalizer):
        raise ValueError(
            f'{type(model).__name__} has the data preprocessor '
            f'{type(source).__name__}, but paired samples need one such as '
            'mmir.PairedDetDataPreprocessor or mmir.PairedSegDataPreprocessor'
        )
    return source.fix_channels()


def adapt_stem_(model: nn.Module, count: int) -> None:
    """Make a network for RGB images read one modality of `count` channels, in place."""
    if count != COLORS:
        widen_stem_(model, (count,), 'copy')


def _select(module: nn.Module, args: tuple, start: int, stop: int) -> tuple:
    """Select the channels of the modality from the first argument."""
    return args[0][:, start:stop], *args[1:]
