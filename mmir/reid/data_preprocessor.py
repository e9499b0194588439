"""Prepare batches of paired samples for mmpretrain."""

from mmpretrain.models import ClsDataPreprocessor

from mmir.registry import MODELS
from mmir.structures import ModalityNormalizer


@MODELS.register_module()
class PairedClsDataPreprocessor(ModalityNormalizer, ClsDataPreprocessor):
    """mmpretrain's `ClsDataPreprocessor` for paired samples.

    Takes `modalities` in the place of `mean`, `std` and the color order, see
    :class:`mmir.structures.ModalityNormalizer`; all else as in the host.
    """
