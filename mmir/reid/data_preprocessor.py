"""Data preprocessor of paired samples for mmpretrain."""

from mmpretrain.models import ClsDataPreprocessor

from mmir.registry import MODELS
from mmir.structures import ModalityNormalizer


@MODELS.register_module()
class PairedClsDataPreprocessor(ModalityNormalizer, ClsDataPreprocessor):
    """mmpretrain's `ClsDataPreprocessor` for paired samples.

    Takes `modalities` in place of `mean`, `std` and the color order, see
    :class:`mmir.structures.ModalityNormalizer`; everything else is as in the host.
    """
