"""Prepare batches of paired samples for mmdet."""

from mmdet.models import DetDataPreprocessor

from mmir.registry import MODELS
from mmir.structures import ModalityNormalizer


@MODELS.register_module()
class PairedDetDataPreprocessor(ModalityNormalizer, DetDataPreprocessor):
    """mmdet's `DetDataPreprocessor` for paired samples.

    Takes `modalities` in the place of `mean`, `std` and the color order, see
    :class:`mmir.structures.ModalityNormalizer`; all else as in the host.
    """
