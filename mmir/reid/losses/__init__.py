"""Metric losses of re-identification."""

from .center import CenterLoss
from .hard_triplet import HardTripletLoss
from .wrt import WRTLoss

__all__ = ['CenterLoss', 'HardTripletLoss', 'WRTLoss']
