"""Public layers, blocks and functions of all methods, in one place."""

from mmir.adapters import (
    Adapted,
    adapt_,
    load_adapter,
    merge_,
    merge_checkpoint,
    save_adapter,
    switch_adapter_,
    trainable_report,
)
from mmir.fusion import (
    AddFusion,
    ConcatFusion,
    CrossAttentionFusion,
    EarlyFusion,
    SingleModality,
    TwoStreamBackbone,
    widen_stem_,
)
from mmir.ivtuning import IVTuning, SplitFuseEnhancer
from mmir.peft import (
    VPT,
    AdaptFormer,
    BitFit,
    ConvLoRA,
    Frozen,
    Full,
    LoRA,
    LoRAConv2d,
    LoRALinear,
    Mona,
)
from mmir.tensorfact import (
    TensorFact,
    TensorFactConv,
    complementarity_loss,
    compression_plan,
    factorize_,
)

from .cbam import CBAM
from .exchange import ChannelExchange, SpatialExchange
from .gated_spectral import GatedSpectralUnit
from .gradient_reversal import GradientReversal
from .modality_norm import ModalityNorm
from .modality_shared import ModalityShared, share_
from .shuffle_attention import ShuffleAttention
from .solo_statistics import SoloStatistics
from .taps import TransformerTaps

__all__ = [
    'CBAM',
    'VPT',
    'AdaptFormer',
    'Adapted',
    'AddFusion',
    'BitFit',
    'ChannelExchange',
    'ConcatFusion',
    'ConvLoRA',
    'CrossAttentionFusion',
    'EarlyFusion',
    'Frozen',
    'Full',
    'GatedSpectralUnit',
    'GradientReversal',
    'IVTuning',
    'LoRA',
    'LoRAConv2d',
    'LoRALinear',
    'ModalityNorm',
    'ModalityShared',
    'Mona',
    'ShuffleAttention',
    'SingleModality',
    'SoloStatistics',
    'SpatialExchange',
    'SplitFuseEnhancer',
    'TensorFact',
    'TensorFactConv',
    'TransformerTaps',
    'TwoStreamBackbone',
    'adapt_',
    'complementarity_loss',
    'compression_plan',
    'factorize_',
    'load_adapter',
    'merge_',
    'merge_checkpoint',
    'save_adapter',
    'share_',
    'switch_adapter_',
    'trainable_report',
    'widen_stem_',
]
