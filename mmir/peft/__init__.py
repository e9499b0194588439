"""The known ways of adapting a model with few parameters, and their baselines."""

from .baselines import BitFit, Frozen, Full
from .conv_lora import ConvLoRA, LoRAConv2d

__all__ = ['BitFit', 'ConvLoRA', 'Frozen', 'Full', 'LoRAConv2d']
