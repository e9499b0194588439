"""Layers, and the surgery that puts them into models of any host."""

from mmir.fusion import (
    AddFusion,
    ConcatFusion,
    CrossAttentionFusion,
    EarlyFusion,
    SingleModality,
    TwoStreamBackbone,
    widen_stem_,
)

from .complementarity import Complementarity, complementarity_loss
from .complementarity_hook import attach_complementarity_, detach_complementarity_
from .compression import CompressionPlan, compression_plan
from .exportable import to_factored_modules_
from .factorize import FactorizeReport, augment_, factorize_
from .method import TensorFact
from .split import SPLITS
from .tensorfact import TensorFactConv

__all__ = [
    'SPLITS',
    'AddFusion',
    'Complementarity',
    'CompressionPlan',
    'ConcatFusion',
    'CrossAttentionFusion',
    'EarlyFusion',
    'FactorizeReport',
    'SingleModality',
    'TensorFact',
    'TensorFactConv',
    'TwoStreamBackbone',
    'attach_complementarity_',
    'augment_',
    'complementarity_loss',
    'compression_plan',
    'detach_complementarity_',
    'factorize_',
    'to_factored_modules_',
    'widen_stem_',
]
