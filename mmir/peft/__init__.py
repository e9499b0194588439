"""Known parameter-efficient fine-tuning methods, and their baselines."""

from .baselines import BitFit, Frozen, Full
from .conv_lora import ConvLoRA, LoRAConv2d

__all__ = ['BitFit', 'ConvLoRA', 'Frozen', 'Full', 'LoRAConv2d']
