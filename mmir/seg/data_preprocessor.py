"""Data preprocessor of paired samples for mmseg."""

from mmseg.models import SegDataPreProcessor

from mmir.registry import MODELS
from mmir.structures import ModalityNormalizer


@MODELS.register_module()
class PairedSegDataPreprocessor(ModalityNormalizer, SegDataPreProcessor):
    """mmseg's `SegDataPreProcessor` for paired samples.

    Takes `modalities` in place of `mean`, `std` and the color order, see
    :class:`mmir.structures.ModalityNormalizer`; everything else is as in the host.
    """
