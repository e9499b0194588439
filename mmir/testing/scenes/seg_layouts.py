"""Write scenes in the layouts of paired segmentation and salient-object datasets.

The dataset classes and checks read these folders like the real ones, quirks included:
file types and names, channels, holes, frames without labels, noisy masks. Classes that
a scene cannot show do not occur in the labels.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from tqdm import tqdm

from mmir.data.layouts.seg import SegLayout
from mmir.data.layouts.seg_sets import (
    FMB,
    MFNET,
    MSRS,
    MVSEG,
    PST900,
    SEG_SETS,
    SEMANTICRT,
)

from .disk import _write_image, _write_once
from .scene import SEMANTIC, Scene, render_scene

SIZES = {'PST900': (1280, 720), 'FMB': (800, 600), 'MVSeg': (480, 320)}  # else VGA
IGNORED = 255

_STREET = {
    'person': 'person', 'bicycle': 'bike', 'car': 'car', 'pavement': 'curve',
    'clutter': 'color_cone',
}  # fmt: skip
CLASS_OF = {
    'MSRS': _STREET,
    'MFNet': _STREET,
    'PST900': {
        'person': 'survivor', 'bicycle': 'hand_drill', 'clutter': 'backpack',
        'pole': 'fire_extinguisher',
    },
    'FMB': {
        name: name
        for name in ('road', 'building', 'vegetation', 'sky', 'person', 'car', 'pole')
    } | {'pavement': 'sidewalk', 'bicycle': 'bicycle'},
    'MVSeg': {
        'person': 'Pedestrian', 'bicycle': 'Bicycle', 'car': 'Car', 'sky': 'Sky',
        'building': 'Building', 'vegetation': 'Vegetation', 'road': 'Road',
        'pavement': 'Sidewalk', 'pole': 'Pole', 'clutter': 'Box',
    },
    'SemanticRT': {
        'person': 'person', 'bicycle': 'bike', 'car': 'car', 'pole': 'pole',
        'pavement': 'curve', 'clutter': 'box',
    },
}  # fmt: skip
"""Per dataset, the class for each entry of `SEMANTIC`; missing entries become 0."""


def label_map(scene: Scene, layout: SegLayout) -> np.ndarray:
    """Return the label map of a scene in the classes of a dataset.

    Args:
        scene (Scene): The scene.
        layout (SegLayout): Layout of a dataset in `CLASS_OF`.

    Returns:
        np.ndarray: (H, W) uint8, encoded as the dataset stores it. Pixels without a
        class are 0; in MVSeg, dogs and objects too small to be labeled are 255.
    """
    other = IGNORED if layout is MVSEG else 0
    table = np.full(256, other, np.uint8)
    table[: len(SEMANTIC)] = 0
    table[SEMANTIC.index('dog')] = other
    for name, label in CLASS_OF[layout.title].items():
        number = layout.classes.index(label) + layout.reduce_zero_label
        table[SEMANTIC.index(name)] = number
    return table[scene.semantic('rgb')]


def saliency_mask(scene: Scene) -> np.ndarray:
    """Return the mask of the salient objects: the nearest and the hottest.

    Args:
        scene (Scene): The scene.

    Returns:
        np.ndarray: (H, W) bool, all False if there are no objects.
    """
    masks = [scene.mask(thing, 'rgb') for thing in scene.objects]
    masks = [mask for mask in masks if mask.any()]
    if not masks:
        return np.zeros(scene.thermal8.shape, bool)
    hottest = max(masks, key=lambda mask: scene.thermal16[mask].mean())
    return masks[0] | hottest


def write_seg_set(
    name: str,
    root: str | os.PathLike[str],
    train: int = 20,
    test: int = 10,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    val: int = 0,
    progress: bool = True,
) -> Path:
    """Write street scenes in the layout of a dataset.

    The k-th scene of a split is `render_scene((seed, part, k), size, baseline=0.0)`,
    with `part` 0 for train, 1 for test and 2 for val. Both cameras share one viewpoint,
    as in registered pairs.

    Args:
        name: One of `mmir.data.layouts.seg_sets.SEG_SETS`.
        root: Folder to create. One that already holds the same scenes is kept.
        train: Number of pairs (videos in MVSeg) for training. Splits that the dataset
            does not have are left out.
        test: Number of pairs for testing.
        seed: Random seed.
        size: Width and height in px. Default: those of the dataset.
        val: Number of pairs for validation.
        progress: Whether to show a progress bar.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder holds other files or other scenes.
        KeyError: Unknown dataset.
    """
    layout, save = SEG_SETS[name], _SAVE[name]
    size = size or SIZES.get(name, (640, 480))
    counts = {'train': train, 'test': test, 'val': val}
    marks = {'layout': name, **counts, 'seed': seed, 'size': size}
    jobs = [
        (split, part, k)
        for part, (split, count) in enumerate(counts.items())
        for k in range(count if split in layout.splits else 0)
    ]

    def render_into(folder: Path) -> None:
        """Render all splits."""
        lists: dict[str, list[str]] = {}
        for number, (split, part, k) in enumerate(
            tqdm(jobs, f'rendering {name}', disable=not progress)
        ):
            scene = render_scene((seed, part, k), size, baseline=0.0)
            lists.setdefault(split, []).extend(save(folder, split, number, scene))
        if layout.listed:
            _write_lists(folder, lists)

    return _write_once(Path(root), marks, render_into)


def _write_lists(folder: Path, lists: dict[str, list[str]]) -> None:
    """Write the split lists, and separate day and night lists for the test split."""
    night = [name for name in lists.get('test', []) if 'N' in name]
    day = [name for name in lists.get('test', []) if 'N' not in name]
    for split, names in (lists | {'test_night': night, 'test_day': day}).items():
        (folder / f'{split}.txt').write_text('\n'.join([*names, '']), encoding='utf-8')


def _stem(number: int, scene: Scene) -> str:
    """Return a name in the style of MSRS and MFNet: D for day, N for night."""
    return f'{number + 1:05d}{"N" if scene.night else "D"}'


def _save_msrs(folder: Path, split: str, number: int, scene: Scene) -> Sequence[str]:
    name = f'{_stem(number, scene)}.png'
    _write_image(folder / split / 'vi' / name, scene.rgb)
    _write_image(folder / split / 'ir' / name, scene.thermal8)
    labels = folder / split / 'Segmentation_labels'
    _write_image(labels / name, label_map(scene, MSRS))
    return ()


def _save_mfnet(folder: Path, split: str, number: int, scene: Scene) -> Sequence[str]:
    """Thermal is the fourth channel; the training list has mirrored copies."""
    name = _stem(number, scene)
    planes = np.dstack([scene.rgb, scene.thermal8])
    label = label_map(scene, MFNET)
    _write_image(folder / 'images' / f'{name}.png', planes)
    _write_image(folder / 'labels' / f'{name}.png', label)
    if split != 'train':
        return (name,)
    _write_image(folder / 'images' / f'{name}_flip.png', planes[:, ::-1])
    _write_image(folder / 'labels' / f'{name}_flip.png', label[:, ::-1])
    return (name, f'{name}_flip')


def _save_pst900(folder: Path, split: str, number: int, scene: Scene) -> Sequence[str]:
    """Thermal has holes of value 0; depth (in mm) is 0 where unknown."""
    height, width = scene.thermal8.shape
    rng = np.random.default_rng(number)
    holes = cv2.resize(
        rng.random((9, 16)), (width, height), interpolation=cv2.INTER_CUBIC
    )
    seen = holes < np.quantile(holes, 0.95)
    depth = np.zeros((height, width), np.uint16)
    for thing in scene.objects:
        depth[scene.mask(thing, 'rgb')] = min(thing.depth * 1000, 65535)
    pictures = {
        'rgb': scene.rgb,
        'thermal': scene.thermal8 * seen.astype(np.uint8),
        'thermal_raw': scene.thermal16 * seen.astype(np.uint16),
        'depth': depth,
        'labels': label_map(scene, PST900),
    }
    for kind, picture in pictures.items():
        name = f'31_bag1a_rect_rgb_frame{number:010d}.png'
        _write_image(folder / split / kind / name, picture)
    return ()


def _save_fmb(folder: Path, split: str, number: int, scene: Scene) -> Sequence[str]:
    """Thermal is grayscale in three channels."""
    name = f'{number + 1:05d}.png'
    _write_image(folder / split / 'Visible' / name, scene.rgb)
    _write_image(folder / split / 'Infrared' / name, cv2.merge([scene.thermal8] * 3))
    _write_image(folder / split / 'Label' / name, label_map(scene, FMB))
    return ()


def _save_mvseg(folder: Path, split: str, number: int, scene: Scene) -> Sequence[str]:
    """One scene per video, shifted sideways; one of three frames has a label map."""
    video = f'{_stem(number, scene)}_video'
    for frame in range(3):
        for kind, letter, picture in (
            ('visible', 'v', scene.rgb), ('infrared', 'i', scene.thermal8)
        ):  # fmt: skip
            name = f'data/{video}/{kind}/frame{frame:04d}{letter}.jpg'
            _write_image(folder / name, np.roll(picture, 8 * (frame - 1), axis=1))
    label = folder / 'data' / video / 'label' / 'frame0001l.png'
    _write_image(label, label_map(scene, MVSEG))
    return (video,)


def _save_semanticrt(
    folder: Path, split: str, number: int, scene: Scene
) -> Sequence[str]:
    """Images are JPEG files, thermal ones with three channels."""
    name = _stem(number, scene)
    _write_image(folder / 'rgb' / f'{name}.jpg', scene.rgb)
    _write_image(folder / 'thermal' / f'{name}.jpg', cv2.merge([scene.thermal8] * 3))
    _write_image(folder / 'labels' / f'{name}.png', label_map(scene, SEMANTICRT))
    return (name,)


def _save_saliency(
    folder: Path, number: int, scene: Scene, files: str
) -> Sequence[str]:
    """Save images and mask under the names in `files`; a JPEG mask is noisy."""
    rgb, thermal, mask = (folder / name.format(number + 1) for name in files.split())
    _write_image(rgb, scene.rgb)
    _write_image(thermal, scene.thermal8)
    mask.parent.mkdir(parents=True, exist_ok=True)
    picture = saliency_mask(scene).astype(np.uint8) * 255
    if not cv2.imwrite(str(mask), picture, [cv2.IMWRITE_JPEG_QUALITY, 60]):
        raise OSError(f'could not write the mask {mask}')
    return ()


def _save_vt821(folder: Path, split: str, number: int, scene: Scene) -> Sequence[str]:
    files = 'RGB/{}.jpg thermal/{}.jpg GT/{}.jpg'
    return _save_saliency(folder, number, scene, files)


def _save_vt1000(folder: Path, split: str, number: int, scene: Scene) -> Sequence[str]:
    files = 'RGB/{}.jpg T/{}.bmp GT/{}.jpg'
    return _save_saliency(folder, number, scene, files)


def _save_vt5000(folder: Path, split: str, number: int, scene: Scene) -> Sequence[str]:
    files = 'RGB/{}.jpg T/{}.jpg GT/{}.png'
    return _save_saliency(folder / split.capitalize(), number, scene, files)


_SAVE: dict[str, Callable[[Path, str, int, Scene], Sequence[str]]] = {
    'MSRS': _save_msrs,
    'MFNet': _save_mfnet,
    'PST900': _save_pst900,
    'FMB': _save_fmb,
    'MVSeg': _save_mvseg,
    'SemanticRT': _save_semanticrt,
    'VT821': _save_vt821,
    'VT1000': _save_vt1000,
    'VT5000': _save_vt5000,
}


def write_msrs(root: str | os.PathLike[str], **options: Any) -> Path:
    """Write scenes in the layout of MSRS; `options` of :func:`write_seg_set`."""
    return write_seg_set('MSRS', root, **options)


def write_mfnet(root: str | os.PathLike[str], **options: Any) -> Path:
    """Write scenes in the layout of MFNet; `options` of :func:`write_seg_set`."""
    return write_seg_set('MFNet', root, **options)


def write_pst900(root: str | os.PathLike[str], **options: Any) -> Path:
    """Write scenes in the layout of PST900; `options` of :func:`write_seg_set`."""
    return write_seg_set('PST900', root, **options)


def write_fmb(root: str | os.PathLike[str], **options: Any) -> Path:
    """Write scenes in the layout of FMB; `options` of :func:`write_seg_set`."""
    return write_seg_set('FMB', root, **options)


def write_mvseg(root: str | os.PathLike[str], **options: Any) -> Path:
    """Write scenes in the layout of MVSeg; `options` of :func:`write_seg_set`."""
    return write_seg_set('MVSeg', root, **options)


def write_semanticrt(root: str | os.PathLike[str], **options: Any) -> Path:
    """Write scenes in the layout of SemanticRT; `options` of :func:`write_seg_set`."""
    return write_seg_set('SemanticRT', root, **options)


def write_vtsod(
    root: str | os.PathLike[str],
    name: Literal['VT821', 'VT1000', 'VT5000'] = 'VT5000',
    **options: Any,
) -> Path:
    """Write salient objects in the layout of VT821, VT1000 or VT5000.

    `options` are those of :func:`write_seg_set`.
    """
    return write_seg_set(name, root, **options)
