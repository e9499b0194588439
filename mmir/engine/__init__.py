"""Hooks and optimizer helpers, free of any host."""

from mmir.engine.optim import CompleteOptimWrapperConstructor

__all__ = ['CompleteOptimWrapperConstructor']
