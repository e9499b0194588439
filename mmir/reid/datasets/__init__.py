"""Datasets of visible-infrared person re-identification."""

from .person import PersonListDataset
from .vireid import LLCM, SYSUMM01, RegDB

__all__ = ['LLCM', 'SYSUMM01', 'PersonListDataset', 'RegDB']
