"""Layers, and the surgery that puts them into models of any host."""

from mmir.adapters import (
    FrozenBatchNorm,
    merge_,
    merge_checkpoint,
    merge_state_dict,
)

from .complementarity import Complementarity, complementarity_loss
from .complementarity_hook import attach_complementarity_, detach_complementarity_
from .compression import CompressionPlan, compression_plan
from .early_fusion import early_fused
from .exportable import to_factored_modules_
from .factorize import FactorizeReport, augment_, factorize_
from .fuse import AddFusion, ConcatFusion, CrossAttentionFusion
from .method import TensorFact
from .single_modality import one_modality
from .split import SPLITS
from .stem import widen_stem_
from .tensorfact import TensorFactConv
from .two_stream import TwoStreamBackbone

__all__ = [
    'SPLITS',
    'AddFusion',
    'Complementarity',
    'CompressionPlan',
    'ConcatFusion',
    'CrossAttentionFusion',
    'FactorizeReport',
    'FrozenBatchNorm',
    'TensorFact',
    'TensorFactConv',
    'TwoStreamBackbone',
    'attach_complementarity_',
    'augment_',
    'complementarity_loss',
    'compression_plan',
    'detach_complementarity_',
    'early_fused',
    'factorize_',
    'merge_',
    'merge_checkpoint',
    'merge_state_dict',
    'one_modality',
    'to_factored_modules_',
    'widen_stem_',
]
