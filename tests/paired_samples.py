"""Paired samples of the hosts, and stock transforms of single modalities."""

import copy
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

import mmir  # noqa: F401  (before mmdet: it provides what an mmcv without ops lacks)

NAMES = ('rgb', 'ir', 'nir')
CHANNELS = dict(rgb=3, ir=1, nir=3)
HEIGHT, WIDTH = 48, 64
PAIRED = ('modalities', 'imgs', 'img_paths', 'absent')


def seed_all(seed: int) -> None:
    """Seed the generators the hosts draw from."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def paired(imgs: Mapping[str, np.ndarray], **labels: Any) -> dict:
    """A paired sample of these images."""
    shape = next(iter(imgs.values())).shape[:2]
    return dict(
        modalities=tuple(imgs),
        imgs=dict(imgs),
        img_paths={name: f'{name}/7.png' for name in imgs},
        absent=(),
        img_path='rgb/7.png',
        img_shape=shape,
        ori_shape=shape,
        **labels,
    )


def noise(seed: int, dtype: type = np.uint8) -> dict[str, np.ndarray]:
    """Images in which every pixel differs from its neighbors."""
    rng = np.random.default_rng(seed)
    top = 4000 if dtype == np.uint16 else 256
    return {
        name: rng.integers(0, top, (HEIGHT, WIDTH, channels)).astype(dtype)
        for name, channels in CHANNELS.items()
    }


def boxes_of(seed: int, count: int = 3) -> np.ndarray:
    """Boxes (N, 4) inside the image."""
    rng = np.random.default_rng(seed)
    low = rng.uniform((2, 2), (WIDTH / 2, HEIGHT / 2), (count, 2)).round()
    high = low + rng.uniform(10, (WIDTH / 2.5, HEIGHT / 2.5), (count, 2)).round()
    return np.concatenate([low, high], 1).astype(np.float32)


def labels_of(host: str, boxes: np.ndarray, masks: bool = True) -> dict:
    """Labels as the host's loading transforms give them."""
    filled = np.zeros((len(boxes), HEIGHT, WIDTH), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(filled, boxes.astype(int), strict=True):
        mask[y1:y2, x1:x2] = 1
    seg_map = filled.max(0)
    if host == 'mmpretrain':
        return dict(gt_label=3)
    if host == 'mmseg':
        return dict(gt_seg_map=seg_map, seg_fields=['gt_seg_map'])
    labels = dict(gt_bboxes_labels=np.arange(len(boxes)))
    if host == 'mmengine':
        return dict(labels, gt_bboxes=boxes.copy(), gt_seg_map=seg_map)
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    labels |= dict(
        gt_bboxes=HorizontalBoxes(boxes.copy()),
        gt_ignore_flags=np.zeros(len(boxes), bool),
    )
    if masks:
        labels |= dict(gt_masks=BitmapMasks(filled, HEIGHT, WIDTH), gt_seg_map=seg_map)
    return labels


def single(sample: dict, name: str) -> dict:
    """The sample of one modality as the hosts load it: three channels, `img`."""
    alone = copy.deepcopy({k: v for k, v in sample.items() if k not in PAIRED})
    img = sample['imgs'][name]
    alone['img'] = np.repeat(img, 3, 2) if img.shape[2] == 1 else img.copy()
    alone['img_path'] = sample['img_paths'][name]
    if 'mix_results' in sample:
        alone['mix_results'] = [single(s, name) for s in sample['mix_results']]
    return alone


def run(transforms: list[Callable], results: dict) -> dict | None:
    """Apply transforms one after another."""
    for transform in transforms:
        if results is not None:
            results = transform(results)
    return results


def same(one: Any, other: Any) -> bool:
    """Compare labels bit by bit."""
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    for field in ('tensor', 'masks'):  # boxes, masks
        if hasattr(one, field):
            return type(one) is type(other) and same(
                getattr(one, field), getattr(other, field)
            )
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    return one == other
