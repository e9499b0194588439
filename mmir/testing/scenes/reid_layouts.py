"""Write synthetic people in the layouts of re-identification datasets.

The dataset classes and the check read these folders like the real ones: not every
identity passes every camera, and indoor cameras see only some.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .disk import _write_image, _write_once
from .parts import Modality
from .people import Place, render_person

SYSU_CAMS = (1, 2, 3, 4, 5, 6)
ROOMS = {'SYSUMM01': {3: 2}, 'RegDB': {2: 1}, 'LLCM': {}}
"""Dataset -> camera -> camera whose room it shares."""

SIZES = {'SYSUMM01': (64, 128), 'RegDB': (64, 128), 'LLCM': (64, 128)}

Save = Callable[[str, int, int, Modality], None]
"""Render an image of (path, identity, camera, modality)."""


def write_reid_set(
    name: str,
    root: str | os.PathLike[str],
    train: int = 12,
    test: int = 8,
    images: int = 4,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    progress: bool = True,
) -> Path:
    """Write people in the layout of a dataset.

    Args:
        name: One of :data:`mmir.data.layouts.reid.REID_SETS`.
        root: Folder to create. One that already holds the same images is kept.
        train: Number of identities for training.
        test: Number of identities for testing.
        images: Number of images per identity and camera.
        seed: Random seed.
        size: Width and height in px. Default: those of `SIZES`.
        progress: Whether to show a progress bar.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder holds other files or other images.
        KeyError: Unknown dataset.
    """
    size, fill = size or SIZES[name], _FILL[name]
    marks = {
        'layout': name, 'train': train, 'test': test, 'images': images, 'seed': seed,
        'size': size,
    }  # fmt: skip
    rooms, numbers = ROOMS[name], count()

    def render_into(folder: Path) -> None:
        """Render all images and write the lists."""
        places: dict[int, Place] = {}
        with tqdm(desc=f'rendering {name}', disable=not progress) as bar:

            def save(path: str, identity: int, cam: int, modality: Modality) -> None:
                """Render one image; its number among all is its seed."""
                if cam not in places:
                    places[cam] = Place.of(rooms.get(cam, cam), cam, seed)
                place = places[cam]
                number = (seed, next(numbers))
                image = render_person(number, identity, place, modality, size)
                _write_image(folder / path, image)
                bar.update()

            fill(folder, save, train, test, images)

    return _write_once(Path(root), marks, render_into)


def _write_ids(path: Path, ids: Iterable[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(','.join(map(str, ids)) + '\n', encoding='utf-8')


def _write_list(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join([*lines, '']), encoding='utf-8')


def _fill_sysu(folder: Path, save: Save, train: int, test: int, images: int) -> None:
    """Every third identity is never indoors, so some indoor queries have no match."""
    ids = range(1, train + test + 1)
    for pid in ids:
        for cam in (4, 5, 6) if pid % 3 == 0 else SYSU_CAMS:
            modality: Modality = 'ir' if cam in (3, 6) else 'rgb'
            for k in range(1, images + 1):
                save(f'cam{cam}/{pid:04d}/{k:04d}.jpg', pid, cam, modality)
    val = train // 4
    parts = {
        'train': ids[: train - val], 'val': ids[train - val : train],
        'test': ids[train:], 'available': ids,
    }  # fmt: skip
    for name, part in parts.items():
        _write_ids(folder / f'exp/{name}_id.txt', part)


def _fill_regdb(folder: Path, save: Save, train: int, test: int, images: int) -> None:
    """Ten splits of the same identities, labeled from 0 within each split."""
    kinds: tuple[tuple[str, Modality, int], ...] = (
        ('Visible', 'rgb', 1),
        ('Thermal', 'ir', 2),
    )
    files = {
        (kind, pid): [f'{kind}/{pid}/{kind[0].lower()}_{k}.bmp' for k in range(images)]
        for kind, _, _ in kinds
        for pid in range(1, train + test + 1)
    }
    for kind, modality, cam in kinds:
        for pid in range(1, train + test + 1):
            for path in files[kind, pid]:
                save(path, pid, cam, modality)
    for trial in range(1, 11):
        order = np.random.default_rng(trial).permutation(train + test) + 1
        for split, part in (('train', order[:train]), ('test', order[train:])):
            for kind, _, _ in kinds:
                lines = [
                    f'{path} {label}'
                    for label, pid in enumerate(sorted(part.tolist()))
                    for path in files[kind, pid]
                ]
                _write_list(folder / f'idx/{split}_{kind.lower()}_{trial}.txt', lines)


def _fill_llcm(folder: Path, save: Save, train: int, test: int, images: int) -> None:
    """Every identity passes four of the nine cameras; camera 3 has no infrared one."""
    lists: dict[str, list[str]] = {'vis': [], 'nir': []}
    for pid in range(1, train + test + 1):
        split = 'train' if pid <= train else 'test'
        cams = np.random.default_rng((75, pid)).permutation(9)[:4] + 1
        for kind, modality in (('vis', 'rgb'), ('nir', 'ir')):
            for cam in sorted(cams.tolist()):
                for k in range(images if kind == 'vis' or cam != 3 else 0):
                    name = f'{pid:04d}_c{cam:02d}_s{cam:06d}_f{k:04d}_{kind}.jpg'
                    folder_of = kind if split == 'train' else f'test_{kind}/cam{cam}'
                    path = f'{folder_of}/{pid:04d}/{name}'
                    save(path, pid, cam, modality)
                    if split == 'train':
                        lists[kind].append(f'{path} {pid - 1}')
    for kind, lines in lists.items():
        _write_list(folder / f'idx/train_{kind}.txt', lines)
    _write_ids(folder / 'idx/test_id.txt', range(train + 1, train + test + 1))


_FILL = {'SYSUMM01': _fill_sysu, 'RegDB': _fill_regdb, 'LLCM': _fill_llcm}

write_sysu_mm01 = partial(write_reid_set, 'SYSUMM01')
"""Write people in the layout of SYSU-MM01; arguments of :func:`write_reid_set`."""

write_regdb = partial(write_reid_set, 'RegDB')
"""Write people in the layout of RegDB; arguments of :func:`write_reid_set`."""

write_llcm = partial(write_reid_set, 'LLCM')
"""Write people in the layout of LLCM; arguments of :func:`write_reid_set`."""
