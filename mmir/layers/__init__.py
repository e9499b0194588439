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

from .at_rest import (
    AtRestReport,
    dense_state_dict,
    factor_checkpoint,
    factor_state_dict,
)
from .builder import factorized
from .complementarity import Complementarity, complementarity_loss
from .complementarity_hook import attach_complementarity_, detach_complementarity_
from .compression import CompressionPlan, compression_plan
from .conv_cost import Stopwatch
from .delta import (
    LoadedDelta,
    delta_state_dict,
    load_delta,
    load_delta_state_dict,
    save_delta,
    switch_delta_,
    unload_delta,
)
from .exportable import to_factored_modules_
from .factorize import FactorizeReport, augment_, factorize_, merge_
from .fold import FoldReport, fold_bn_, fold_repconv_factors
from .freeze import FrozenBatchNorm, Stage, freeze_base_
from .low_rank import Delta
from .merge_checkpoint import merge_checkpoint, merge_state_dict
from .split import SPLITS
from .tensorfact import TensorFactConv

__all__ = [
    'SPLITS',
    'AddFusion',
    'AtRestReport',
    'Complementarity',
    'CompressionPlan',
    'ConcatFusion',
    'CrossAttentionFusion',
    'Delta',
    'EarlyFusion',
    'FactorizeReport',
    'FoldReport',
    'FrozenBatchNorm',
    'LoadedDelta',
    'SingleModality',
    'Stage',
    'Stopwatch',
    'TensorFactConv',
    'TwoStreamBackbone',
    'attach_complementarity_',
    'augment_',
    'complementarity_loss',
    'compression_plan',
    'delta_state_dict',
    'dense_state_dict',
    'detach_complementarity_',
    'factor_checkpoint',
    'factor_state_dict',
    'factorize_',
    'factorized',
    'fold_bn_',
    'fold_repconv_factors',
    'freeze_base_',
    'load_delta',
    'load_delta_state_dict',
    'merge_',
    'merge_checkpoint',
    'merge_state_dict',
    'save_delta',
    'switch_delta_',
    'to_factored_modules_',
    'unload_delta',
    'widen_stem_',
]
