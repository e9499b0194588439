"""Known parameter-efficient fine-tuning methods, and their baselines."""

from .adaptformer import AdaptFormer, AdaptFormerBlock
from .baselines import BitFit, Frozen, Full
from .conv_lora import ConvLoRA, LoRAConv2d
from .lora import LoRA, LoRALinear
from .mona import Mona, MonaAdapter, MonaBlock
from .vpt import VPT, VPTBlock

__all__ = [
    'VPT',
    'AdaptFormer',
    'AdaptFormerBlock',
    'BitFit',
    'ConvLoRA',
    'Frozen',
    'Full',
    'LoRA',
    'LoRAConv2d',
    'LoRALinear',
    'Mona',
    'MonaAdapter',
    'MonaBlock',
    'VPTBlock',
]
