"""Samplers that draw batches by identity."""

from .cross_modal import CrossModalIdentitySampler
from .identity import IdentitySampler

__all__ = ['CrossModalIdentitySampler', 'IdentitySampler']
