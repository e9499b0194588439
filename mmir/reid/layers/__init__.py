"""Layers of re-identification."""

from .non_local import add_non_local_, reset_non_local_

__all__ = ['add_non_local_', 'reset_non_local_']
