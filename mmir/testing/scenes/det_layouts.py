"""Write street scenes in the layouts of public detection datasets, quirks included.

Objects of the scenes stand in for those of the datasets, e.g. a bicycle for M3FD's
motorcycle. The labels come from the scenes, so a reader's output can be compared with
:func:`pair_scene`.
"""

from collections.abc import Iterator
from pathlib import Path

from .det_layouts_drones import write_dronevehicle, write_hituav
from .det_layouts_parts import (
    Box,
    PathLike,
    Shape,
    SplitWriter,
    objects_xml,
    pair_scene,
    renamed,
    shown,
    write_xml,
)
from .disk import _write_image
from .scene import Scene, SceneObject

__all__ = [
    'kaist_name',
    'pair_scene',
    'shown',
    'write_dronevehicle',
    'write_flir_aligned',
    'write_hituav',
    'write_kaist',
    'write_llvip',
    'write_m3fd',
]

KAIST_NAMES = {'person': 'person', 'bicycle': 'cyclist', 'dog': 'person?'}
M3FD_NAMES = {'person': 'People', 'car': 'Car', 'bicycle': 'Motorcycle'}


def _sides(box: Box) -> str:
    pairs = zip('xywh', box, strict=True)
    return f'<bndbox>{"".join(f"<{k}>{v}</{k}>" for k, v in pairs)}</bndbox>'


def write_llvip(
    root: PathLike,
    train: int = 20,
    test: int = 10,
    seed: int = 0,
    size: tuple[int, int] = (640, 512),
    progress: bool = True,
) -> Path:
    """Write pairs in the layout of LLVIP.

    `{visible,infrared}/{train,test}/*.jpg` with equal names, `Annotations/*.xml` for
    both splits; people at night only.

    Args:
        root: Folder to create. One that already holds the same scenes is kept.
        train: Number of pairs for training.
        test: Number of pairs for testing.
        seed: Random seed.
        size: Width and height in px.
        progress: Whether to show a progress bar.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder holds other files or other scenes.
    """

    def fill(folder: Path, split: str, scenes: Iterator[Scene]) -> None:
        """Write a split."""
        for k, scene in enumerate(scenes, 1):
            name = f'{1 if split == "train" else 19:02d}{k:04d}'
            _write_image(folder / f'visible/{split}/{name}.jpg', scene.rgb)
            _write_image(folder / f'infrared/{split}/{name}.jpg', scene.thermal8)
            people = objects_xml(renamed(scene, {'person': 'person'}))
            path = folder / f'Annotations/{name}.xml'
            write_xml(path, f'{name}.jpg', size, people)

    counts = {'train': train, 'test': test}
    return SplitWriter('llvip', counts, seed, size, progress, True).write(root, fill)


def write_m3fd(
    root: PathLike,
    train: int = 20,
    val: int = 10,
    seed: int = 0,
    size: tuple[int, int] = (640, 512),
    progress: bool = True,
    lists: bool = True,
) -> Path:
    """Write pairs in the layout of M3FD.

    `Vis/*.png`, `Ir/*.png`, `Annotation/*.xml`; split lists in `meta/`.

    Args:
        root: Folder to create. One that already holds the same scenes is kept.
        train: Number of pairs for training.
        val: Number of pairs for validation.
        seed: Random seed.
        size: Width and height in px.
        progress: Whether to show a progress bar.
        lists: Whether to write the split lists, which the official archive lacks.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder holds other files or other scenes.
    """

    def fill(folder: Path, split: str, scenes: Iterator[Scene]) -> None:
        """Write a split."""
        names = []
        for k, scene in enumerate(scenes, train if split == 'val' else 0):
            names.append(f'{k:05d}.png')
            _write_image(folder / 'Vis' / names[-1], scene.rgb)
            _write_image(folder / 'Ir' / names[-1], scene.thermal8)
            things = objects_xml(renamed(scene, M3FD_NAMES))
            path = folder / f'Annotation/{k:05d}.xml'
            write_xml(path, names[-1], size, things)
        if lists:
            (folder / 'meta').mkdir(exist_ok=True)
            text = '\n'.join(names)
            (folder / f'meta/{split}.txt').write_text(text, encoding='utf-8')

    counts = {'train': train, 'val': val}
    writer = SplitWriter('m3fd', counts, seed, size, progress, lists=lists)
    return writer.write(root, fill)


def kaist_name(thing: SceneObject) -> str | None:
    """Return the KAIST label of an object: some people are groups, cars are unlabeled.

    Args:
        thing: An object. Every fifth person is labeled as a group (`people`).

    Returns:
        The label, None for unlabeled objects.
    """
    if thing.label == 'person' and thing.identity % 5 == 0:
        return 'people'
    return KAIST_NAMES.get(thing.label)


def write_kaist(
    root: PathLike,
    train: int = 20,
    test: int = 10,
    seed: int = 0,
    size: tuple[int, int] = (640, 512),
    progress: bool = True,
    text: bool = False,
) -> Path:
    """Write pairs in the layout of KAIST.

    `images/setXX/V000/{visible,lwir}/*.jpg`, `imageSets/{train-all-02,test-all-20}.txt`
    and labels person, people, cyclist, `person?` with x, y, w, h. Each split has one
    extra frame with images that is neither listed nor labeled.

    Args:
        root: Folder to create. One that already holds the same scenes is kept.
        train: Number of pairs for training.
        test: Number of pairs for testing.
        seed: Random seed.
        size: Width and height in px.
        progress: Whether to show a progress bar.
        text: Write labels as bbGt text files in `annotations` instead of XML.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder holds other files or other scenes.
    """

    def fill(folder: Path, split: str, scenes: Iterator[Scene]) -> None:
        """Write a split."""
        place, step = ('set00', 2) if split == 'train' else ('set06', 20)
        keys = []
        for k, scene in enumerate(scenes, 1):
            keys.append(f'{place}/V000/I{k * step - 1:05d}')
            for name in (f'I{k * step - 1:05d}', *(['I99999'] if k == 1 else [])):
                images = folder / 'images' / place / 'V000'
                _write_image(images / f'visible/{name}.jpg', scene.rgb)
                _write_image(images / f'lwir/{name}.jpg', scene.thermal8)
            labels = [(kaist_name(o), o.box_ir) for o in shown(scene) if kaist_name(o)]
            if text:
                _write_bbgt(folder / f'annotations/{keys[-1]}.txt', labels)
            else:
                path = folder / f'annotations-xml-new-sanitized/{keys[-1]}.xml'
                write_xml(path, keys[-1], size, objects_xml(labels, _sides))
        (folder / 'imageSets').mkdir(exist_ok=True)
        listed = 'train-all-02' if split == 'train' else 'test-all-20'
        path = folder / f'imageSets/{listed}.txt'
        path.write_text('\n'.join(keys) + '\n', encoding='utf-8')

    counts = {'train': train, 'test': test}
    writer = SplitWriter('kaist', counts, seed, size, progress, text=text)
    return writer.write(root, fill)


def _write_bbgt(path: Path, labels: list[Shape]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f'{name} {x} {y} {w} {h} 0 0 0 0 0 0 0' for name, (x, y, w, h) in labels]
    path.write_text('\n'.join(['% bbGt version=3', *rows]), encoding='utf-8')


def write_flir_aligned(
    root: PathLike,
    train: int = 20,
    val: int = 10,
    seed: int = 0,
    size: tuple[int, int] = (640, 512),
    progress: bool = True,
) -> Path:
    """Write pairs in the layout of FLIR-aligned.

    `align/JPEGImages/FLIR_*_{RGB.jpg,PreviewData.jpeg}`, `align/Annotations/*.xml`,
    `align/ImageSets/Main/align_{train,validation}.txt`; dogs are labeled.

    Args:
        root: Folder to create. One that already holds the same scenes is kept.
        train: Number of pairs for training.
        val: Number of pairs for validation.
        seed: Random seed.
        size: Width and height in px.
        progress: Whether to show a progress bar.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder holds other files or other scenes.
    """
    names = {name: name for name in ('person', 'bicycle', 'car', 'dog')}

    def fill(folder: Path, split: str, scenes: Iterator[Scene]) -> None:
        """Write a split."""
        base, stems = folder / 'align', []
        for k, scene in enumerate(scenes, 2 if split == 'train' else 2 + train):
            stem = f'FLIR_{k:05d}'
            stems.append(f'{stem}_PreviewData')
            _write_image(base / f'JPEGImages/{stem}_RGB.jpg', scene.rgb)
            _write_image(base / f'JPEGImages/{stems[-1]}.jpeg', scene.thermal8)
            path = base / f'Annotations/{stems[-1]}.xml'
            things = objects_xml(renamed(scene, names))
            write_xml(path, f'{stems[-1]}.jpeg', size, things)
        lists = base / 'ImageSets/Main'
        lists.mkdir(parents=True, exist_ok=True)
        listed = 'align_train' if split == 'train' else 'align_validation'
        (lists / f'{listed}.txt').write_text('\n'.join(stems), encoding='utf-8')

    counts = {'train': train, 'val': val}
    return SplitWriter('flir_aligned', counts, seed, size, progress).write(root, fill)
