"""Hooks and optimizer helpers, free of any host."""

from mmir.engine.delta_checkpoint import DeltaCheckpointHook
from mmir.engine.optim import CompleteOptimWrapperConstructor
from mmir.engine.subset_record import SubsetRecordHook

__all__ = [
    'CompleteOptimWrapperConstructor',
    'DeltaCheckpointHook',
    'SubsetRecordHook',
]
