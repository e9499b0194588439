"""`mmir.SingleModality`: a model of any host that sees one modality of a paired sample.

The row every fusion is compared with: same data, same augmentation, same network.
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

    Its checkpoints are those of the plain model, so they load into it, and into
    `mmir.LateFusionDetector` and `mmir.LateFusionSegmentor`. An image without the
    modality shows the `absent_value` of the data preprocessor.

    Args:
        target: Type of the model, as it would stand in `type`; it has a `backbone`.
        modality: Name of the modality.
        **cfg: All other keys, handed to `target`; `data_preprocessor` is a paired one.

    Returns:
        The model that `target` builds. With another number of channels than 3, its
        stem is changed, see :func:`mmir.fusion.stem.widen_stem_`.

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
    """Tell how the input of a model is made up.

    Args:
        model: A model of a host, with a paired data preprocessor.

    Returns:
        The number of channels of each modality, in their order. Samples with others are
        refused from now on.

    Raises:
        ValueError: It has another data preprocessor.
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
    """Make a network for color images read one modality of `count` channels."""
    if count != COLORS:
        widen_stem_(model, (count,), 'copy')


def _select(module: nn.Module, args: tuple, start: int, stop: int) -> tuple:
    """Cut the channels of the modality out of the first argument."""
    return args[0][:, start:stop], *args[1:]
