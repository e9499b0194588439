"""Data preprocessor for paired samples on mmdet."""

from mmdet.models import DetDataPreprocessor

from mmir.registry import MODELS
from mmir.structures import ModalityNormalizer


@MODELS.register_module()
class PairedDetDataPreprocessor(ModalityNormalizer, DetDataPreprocessor):
    """mmdet's `DetDataPreprocessor` for paired samples.

    Takes `modalities` instead of `mean`, `std` and the color order, see
    :class:`mmir.structures.ModalityNormalizer`. All other arguments are those of mmdet.
    """
