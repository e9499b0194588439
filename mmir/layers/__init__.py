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

from .taps import TransformerTaps

__all__ = [
    'VPT',
    'AdaptFormer',
    'Adapted',
    'AddFusion',
    'BitFit',
    'ConcatFusion',
    'ConvLoRA',
    'CrossAttentionFusion',
    'EarlyFusion',
    'Frozen',
    'Full',
    'IVTuning',
    'LoRA',
    'LoRAConv2d',
    'LoRALinear',
    'Mona',
    'SingleModality',
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
    'switch_adapter_',
    'trainable_report',
    'widen_stem_',
]
