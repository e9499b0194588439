"""Datasets of visible-infrared person re-identification."""

from .image_folder import ImageFolder
from .person import PersonListDataset
from .vireid import LLCM, SYSUMM01, RegDB

__all__ = ['LLCM', 'SYSUMM01', 'ImageFolder', 'PersonListDataset', 'RegDB']
