"""Datasets of visible-infrared person re-identification."""

from .face import NIRVISFace
from .image_folder import ImageFolder
from .person import PersonListDataset
from .vireid import LLCM, SYSUMM01, RegDB

__all__ = [
    'LLCM',
    'SYSUMM01',
    'ImageFolder',
    'NIRVISFace',
    'PersonListDataset',
    'RegDB',
]
