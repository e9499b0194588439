"""Hooks and optimizer helpers that need no host."""

from mmir.engine.adapter_checkpoint import AdapterCheckpointHook
from mmir.engine.autocast import AutocastOptimWrapper
from mmir.engine.channels_last import ChannelsLastHook
from mmir.engine.checkpoint import AtomicCheckpointHook
from mmir.engine.collapse_monitor import CollapseMonitorHook, feature_spread
from mmir.engine.dataset_check import check_dataset
from mmir.engine.exchange_ratio import ExchangeRatioHook, exchange_ratios
from mmir.engine.gradient_reversal import GradientReversalHook
from mmir.engine.non_finite import NonFiniteLossError, NonFiniteLossHook
from mmir.engine.norm_recalibration import NormRecalibrationHook, recalibrate_norms
from mmir.engine.optim import CompleteOptimWrapperConstructor
from mmir.engine.random_state import RandomStateHook
from mmir.engine.schedule_ema import ScheduleEMAHook
from mmir.engine.subset_record import SubsetRecordHook
from mmir.engine.training_split import TrainingSplitHook
from mmir.engine.validate_data import ValidateDataHook

__all__ = [
    'AdapterCheckpointHook',
    'AtomicCheckpointHook',
    'AutocastOptimWrapper',
    'ChannelsLastHook',
    'CollapseMonitorHook',
    'CompleteOptimWrapperConstructor',
    'ExchangeRatioHook',
    'GradientReversalHook',
    'NonFiniteLossError',
    'NonFiniteLossHook',
    'NormRecalibrationHook',
    'RandomStateHook',
    'ScheduleEMAHook',
    'SubsetRecordHook',
    'TrainingSplitHook',
    'ValidateDataHook',
    'check_dataset',
    'exchange_ratios',
    'feature_spread',
    'recalibrate_norms',
]
