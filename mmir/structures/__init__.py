"""The paired sample, before and after packing, and how models read it."""

from .paired import (
    ABSENT,
    CHANNELS,
    IMAGES,
    MODALITIES,
    PATHS,
    REFERENCE,
    PairError,
    drop_modalities,
    is_paired,
    modality_order,
    require_one_size,
    require_pair,
    split_modalities,
)
from .preprocessing import ModalityNormalizer
from .results import BitDepthError, DeepResults, PairedResults

__all__ = [
    'ABSENT',
    'CHANNELS',
    'IMAGES',
    'MODALITIES',
    'PATHS',
    'REFERENCE',
    'BitDepthError',
    'DeepResults',
    'ModalityNormalizer',
    'PairError',
    'PairedResults',
    'drop_modalities',
    'is_paired',
    'modality_order',
    'require_one_size',
    'require_pair',
    'split_modalities',
]
