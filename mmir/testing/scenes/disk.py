"""Write scenes in the layouts of real datasets."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from mmir.utils.files import atomic_path, write_json

from .drones import DRONE_SIZES, TARGETS, render_flight
from .parts import Modality
from .scene import Scene, SceneObject, render_scene
from .street import FAR

MARKER = 'synthetic_scenes.json'
VERSION = 1  # increment when the same seed gives different images
_NAMES = (
    'person bicycle car motorcycle airplane bus train truck boat traffic_light '
    'fire_hydrant stop_sign parking_meter bench bird cat dog horse sheep cow elephant '
    'bear zebra giraffe backpack umbrella handbag tie suitcase frisbee skis snowboard '
    'sports_ball kite baseball_bat baseball_glove skateboard surfboard tennis_racket '
    'bottle wine_glass cup fork knife spoon bowl banana apple sandwich orange broccoli '
    'carrot hot_dog pizza donut cake chair couch potted_plant bed dining_table toilet '
    'tv laptop mouse remote keyboard cell_phone microwave oven toaster sink '
    'refrigerator book clock vase scissors teddy_bear hair_drier toothbrush'
)
# Contiguous ids from 1, as in FLIR ADAS v1.3: dog is 17.
CATEGORY_ID = {name: k for k, name in enumerate(_NAMES.split(), 1)}


def write_flir(
    root: str | os.PathLike[str],
    train: int = 60,
    val: int = 30,
    seed: int = 0,
    size: tuple[int, int] = (640, 512),
    night: bool | None = None,
    sixteen_bit: bool = True,
    progress: bool = True,
    far: float = FAR,
) -> Path:
    """Write street scenes in the layout of FLIR ADAS v1.3.

    `{train,val}/{thermal_8_bit/*.jpeg,thermal_16_bit/*.tiff,RGB/*.jpg}`, with
    `thermal_annotations.json` (objects that stand out in the thermal image) and
    `rgb_annotations.json` (objects that stand out in the visible image) in each split.
    Image ids start at 0 in each split, annotation ids at 1. File numbers continue from
    `train` to `val`. The i-th scene of a split does not depend on the counts.

    Args:
        root: Folder to create. One that already holds the same scenes is kept.
        train: Number of pairs for training.
        val: Number of pairs for validation.
        seed: Random seed.
        size: Width and height in px.
        night: Only night (True), only day (False), or both (None).
        sixteen_bit: Whether to write the raw counts as well.
        progress: Whether to show a progress bar.
        far: Largest distance of labeled objects in m, see `render_scene`.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder holds other files or other scenes.
    """
    marks = {
        'layout': 'flir', 'train': train, 'val': val, 'seed': seed, 'size': size,
        'night': night, 'sixteen_bit': sixteen_bit, 'far': far,
    }  # fmt: skip

    def render_into(folder: Path) -> None:
        """Render both splits."""
        with tqdm(
            total=train + val, desc='rendering street scenes', disable=not progress
        ) as bar:
            for part, (split, count) in enumerate((('train', train), ('val', val))):
                scenes = (
                    render_scene((seed, part, k), size, night, far=far)
                    for k in range(count)
                )
                first = 1 + part * train
                _flir_split(folder / split, _ticking(scenes, bar), first, sixteen_bit)

    return _write_once(Path(root), marks, render_into)


def write_drones(
    root: str | os.PathLike[str],
    modality: Modality = 'rgb',
    train: int = 60,
    test: int = 30,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    progress: bool = True,
) -> Path:
    """Write flying targets in COCO format: `images/`, `train.json`, `test.json`.

    Args:
        root: Folder to create. One that already holds the same images is kept.
        modality: 'rgb' or 'ir'.
        train: Number of images for training.
        test: Number of images for testing.
        seed: Random seed.
        size: Width and height in px. Default: (640, 512) for RGB, (320, 256) for
            infrared.
        progress: Whether to show a progress bar.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder holds other files or other images.
        ValueError: Unknown modality.
    """
    if modality not in DRONE_SIZES:
        raise ValueError(f"modality must be 'rgb' or 'ir', not {modality!r}")
    size = size or DRONE_SIZES[modality]
    marks = {
        'layout': 'drones',
        'modality': modality,
        'train': train,
        'test': test,
        'seed': seed,
        'size': size,
    }

    def render_into(folder: Path) -> None:
        """Render both splits."""
        with tqdm(
            total=train + test, desc='rendering flying targets', disable=not progress
        ) as bar:
            for part, (split, count) in enumerate((('train', train), ('test', test))):
                seeds = [(seed, 2 + 2 * (modality == 'ir') + part, k)
                         for k in range(count)]  # fmt: skip
                _drone_split(
                    folder, split, modality, size, _ticking(seeds, bar), part * train
                )

    return _write_once(Path(root), marks, render_into)


def _ticking(things: Iterable[Any], bar: tqdm) -> Iterable[Any]:
    for thing in things:
        yield thing
        bar.update()


def _write_once(
    root: Path, marks: dict[str, Any], fill: Callable[[Path], None]
) -> Path:
    """Fill a hidden folder next to `root`, then rename it: all or nothing."""
    marks = json.loads(json.dumps(dict(marks, version=VERSION)))
    if _holds(root, marks):
        return root
    try:
        with atomic_path(root) as partial:
            partial.mkdir()
            fill(partial)
            files = sum(path.is_file() for path in partial.rglob('*'))
            write_json(dict(marks, files=files), partial / MARKER)
    except OSError:
        if not _holds(root, marks):  # otherwise another process was first
            raise
    return root


def _holds(root: Path, marks: dict[str, Any]) -> bool:
    """Whether `root` holds exactly these scenes; False if it is empty or missing."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    marker = root / MARKER
    if not marker.is_file():
        raise FileExistsError(
            f'{root} exists and was not written by mmir.testing.scenes. Nothing in it '
            'was changed; choose another folder.'
        )
    found = json.loads(marker.read_text(encoding='utf-8'))
    files = sum(path.is_file() for path in root.rglob('*')) - 1
    if files < found.pop('files', 0):
        raise FileExistsError(
            f'{root}: some files of these synthetic scenes are missing. Delete the '
            'folder to render them again.'
        )
    if found != marks:
        differ = sorted(k for k in marks | found if marks.get(k) != found.get(k))
        raise FileExistsError(
            f'{root} holds synthetic scenes made with other parameters '
            f'({", ".join(differ)}). Delete the folder or choose another one.'
        )
    return True


def _write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 92] if path.suffix != '.tiff' else []
    if not cv2.imwrite(str(path), image, quality):
        raise OSError(f'could not write the image {path}')


def _flir_split(
    folder: Path, scenes: Iterable[Scene], first: int, sixteen_bit: bool
) -> None:
    folder.mkdir(parents=True)
    tables: dict[Modality, tuple[list[dict], list[dict]]] = {
        'ir': ([], []), 'rgb': ([], [])
    }  # fmt: skip
    for k, scene in enumerate(scenes):
        name = f'FLIR_{first + k:05d}'
        files = {'ir': f'thermal_8_bit/{name}.jpeg', 'rgb': f'RGB/{name}.jpg'}
        _write_image(folder / files['ir'], scene.thermal8)
        _write_image(folder / files['rgb'], scene.rgb)
        if sixteen_bit:
            _write_image(folder / f'thermal_16_bit/{name}.tiff', scene.thermal16)
        for modality, (images, annotations) in tables.items():
            images.append(_image_row(k, files[modality], scene, modality))
            for thing in scene.objects:
                if thing.box(modality) and thing.visible(modality):
                    row = _object_row(len(annotations) + 1, k, thing, modality)
                    annotations.append(row)
    for modality, stem in (('ir', 'thermal'), ('rgb', 'rgb')):
        images, annotations = tables[modality]
        categories = [
            {'id': k, 'name': name, 'supercategory': 'unknown'}
            for name, k in CATEGORY_ID.items()
        ]
        write_json(
            {
                'info': {'description': 'synthetic scenes, layout of FLIR ADAS v1.3'},
                'images': images, 'annotations': annotations, 'categories': categories,
            },
            folder / f'{stem}_annotations.json',
        )  # fmt: skip


def _image_row(
    number: int, file_name: str, scene: Scene, modality: Modality
) -> dict[str, Any]:
    height, width = scene.thermal8.shape
    extra = {'night': scene.night, 'camera': scene.cameras[modality]}
    return {
        'id': number,
        'file_name': file_name,
        'width': width,
        'height': height,
        'extra_info': extra,
    }


def _object_row(
    number: int, image: int, thing: SceneObject, modality: Modality
) -> dict[str, Any]:
    x, y, w, h = map(float, thing.box(modality))
    return {
        'id': number, 'image_id': image, 'category_id': CATEGORY_ID[thing.label],
        'bbox': [x, y, w, h], 'area': w * h, 'iscrowd': 0, 'segmentation': [],
        'extra_info': {'identity': thing.identity},
    }  # fmt: skip


def _drone_split(
    folder: Path,
    split: str,
    modality: Modality,
    size: tuple[int, int],
    seeds: Iterable[tuple[int, ...]],
    offset: int,
) -> None:
    images, annotations = [], []
    prefix = 'V' if modality == 'rgb' else 'IR'
    for number, seed in enumerate(seeds, offset + 1):
        flight = render_flight(seed, modality, size)
        video = f'{prefix}_{(*flight.labels, "EMPTY")[0].upper()}_{number:05d}'
        name = f'{video}_0001.jpg'
        _write_image(folder / 'images' / name, flight.image)
        images.append(
            {'id': number, 'file_name': name, 'width': size[0], 'height': size[1],
             'video': video, 'frame': 1}
        )  # fmt: skip
        for label, (x, y, w, h) in zip(
            flight.labels, flight.boxes.tolist(), strict=True
        ):
            annotations.append(
                {'id': len(annotations) + 1, 'image_id': number,
                 'category_id': TARGETS.index(label) + 1, 'iscrowd': 0,
                 'bbox': [float(v) for v in (x, y, w, h)], 'area': float(w * h)}
            )  # fmt: skip
    write_json(
        {
            'info': {'description': f'synthetic {modality} pictures of flying targets'},
            'images': images, 'annotations': annotations,
            'categories': [{'id': k, 'name': n} for k, n in enumerate(TARGETS, 1)],
        },
        folder / f'{split}.json',
    )  # fmt: skip
