"""Small configs of paired datasets, for the tools that look at data."""

import sys
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmir.testing.scenes import write_flir

FOLDER = Path(__file__).parents[2] / 'tools' / 'analysis_tools'
SIZE = (160, 128)

DETECTION = """
default_scope = 'mmdet'
load = [
    dict(type='mmir.LoadPairedImages', modalities=dict(rgb={{}}, ir=dict(channels=1)),
         missing='absent'),
    dict(type='LoadAnnotations', with_bbox=True),
]
train_dataloader = dict(dataset=dict(
    type='mmir.PairedMixDataset',
    dataset=dict(type='mmir.FLIRDataset', modality='both', data_root='{root}',
                 pipeline=load),
    pipeline=[
        dict(type='mmir.PairedTransform',
             transforms=dict(type='Mosaic', img_scale=(160, 128))),
        dict(type='mmir.PairedTransform',
             transforms=dict(type='RandomFlip', prob=1.0)),
        dict(type='mmir.PackPairedInputs'),
    ]))
val_dataloader = dict(dataset=dict(
    type='mmir.FLIRDataset', modality='{modality}', data_root='{root}', split='val',
    test_mode=True, pipeline={pipeline}))
"""
PAIRED = "[*load, dict(type='mmir.PackPairedInputs')]"
SINGLE = """[dict(type='mmir.LoadThermalImage'),
    dict(type='Resize', scale=(80, 64)), dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs')]"""
SEGMENTATION = """
default_scope = 'mmseg'
train_dataloader = dict(dataset=dict(
    type='BaseSegDataset', data_root='{root}',
    data_prefix=dict(img_path='rgb', seg_map_path='mask'),
    img_suffix='.png', seg_map_suffix='.png',
    metainfo=dict(classes=('ground', 'leaf'), palette=[[0, 0, 0], [0, 200, 0]]),
    pipeline=[
        dict(type='mmir.LoadPairedImages', modalities=dict(
            rgb={{}}, ir=dict(channels=1, bit_depth=16, folder=('rgb', 'thermal')))),
        dict(type='LoadAnnotations'),
        dict(type='mmir.PackPairedInputs')]))
"""


def write_detection(
    folder: Path, modality: str = 'both', pipeline: str = PAIRED
) -> tuple[Path, Path]:
    """Write scenes and a config; returns the config and the folder of the scenes."""
    pytest.importorskip('mmdet')
    root = write_flir(
        folder / 'flir', train=3, val=2, size=SIZE, sixteen_bit=False, progress=False
    )
    config = folder / 'config.py'
    text = DETECTION.format(root=root.as_posix(), modality=modality, pipeline=pipeline)
    config.write_text(text)
    return config, root


def write_segmentation(folder: Path) -> Path:
    """Write two pairs with 16-bit thermal and a mask of the left half; a config."""
    pytest.importorskip('mmseg')
    rng = np.random.default_rng(0)
    for name in ('rgb', 'thermal', 'mask'):
        (folder / name).mkdir()
    for k in range(2):
        mask = np.zeros((60, 80), np.uint8)
        mask[:, :20] = 1
        heat = (29000 + rng.integers(0, 500, (60, 80))).astype(np.uint16)
        colour = rng.integers(90, 110, (60, 80, 3), np.uint8)
        for name, img in (('rgb', colour), ('thermal', heat), ('mask', mask)):
            cv2.imwrite(str(folder / name / f'{k}.png'), img)
    config = folder / 'config.py'
    config.write_text(SEGMENTATION.format(root=folder.as_posix()))
    return config


@contextmanager
def tool(name: str):
    """Import a script the way its own imports expect."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield import_module(name)
    finally:
        sys.path.remove(str(FOLDER))
