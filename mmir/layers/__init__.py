"""Layers, and the surgery that puts them into models of any host."""

from .builder import factorized
from .delta import (
    LoadedDelta,
    delta_state_dict,
    load_delta,
    load_delta_state_dict,
    save_delta,
    switch_delta_,
    unload_delta,
)
from .factorize import FactorizeReport, augment_, factorize_, merge_
from .freeze import FrozenBatchNorm, Stage, freeze_base_
from .low_rank import Delta
from .merge_checkpoint import merge_checkpoint, merge_state_dict
from .split import SPLITS
from .tensorfact import TensorFactConv

__all__ = [
    'SPLITS',
    'Delta',
    'FactorizeReport',
    'FrozenBatchNorm',
    'LoadedDelta',
    'Stage',
    'TensorFactConv',
    'augment_',
    'delta_state_dict',
    'factorize_',
    'factorized',
    'freeze_base_',
    'load_delta',
    'load_delta_state_dict',
    'merge_',
    'merge_checkpoint',
    'merge_state_dict',
    'save_delta',
    'switch_delta_',
    'unload_delta',
]
