"""Datasets of visible-infrared re-identification of people and faces."""

from .face import NIRVISFace
from .person import PersonListDataset
from .vireid import LLCM, SYSUMM01, RegDB

__all__ = ['LLCM', 'SYSUMM01', 'NIRVISFace', 'PersonListDataset', 'RegDB']
