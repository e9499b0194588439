"""Helpers for the writers of detection layouts: scenes of a split, XML labels."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from tqdm import tqdm

from .disk import _ticking, _write_once
from .parts import Modality
from .scene import Scene, SceneObject, render_scene

PathLike = str | os.PathLike[str]
Box = tuple[int, int, int, int]
Shape = tuple[str, Box]


def pair_scene(
    seed: int,
    part: int,
    number: int,
    size: tuple[int, int],
    night: bool | None = None,
    baseline: float = 0.0,
) -> Scene:
    """Render the scene that the writers store under a split and number.

    Args:
        seed: The writer's seed.
        part: 0 for the first split (train), 1 for the next.
        number: Index of the image in the split, from 0.
        size: Width and height in px.
        night: True for night scenes only (LLVIP), None for both.
        baseline: Distance between the cameras in m, 0 for registered pairs.

    Returns:
        The scene.
    """
    return render_scene((seed, 20 + part, number), size, night, baseline)


def shown(scene: Scene, modality: Modality | None = None) -> list[SceneObject]:
    """Return the labeled objects of a scene.

    Args:
        scene: A scene.
        modality: Only objects that stand out in this image. None: objects that stand
            out in either image, as in registered pairs.

    Returns:
        The objects, nearest first.
    """
    if modality is not None:
        return [o for o in scene.objects if o.box(modality) and o.visible(modality)]
    return [o for o in scene.objects if o.box_ir and (o.visible_ir or o.visible_rgb)]


def renamed(scene: Scene, names: dict[str, str]) -> list[Shape]:
    """Return the labels of a registered pair.

    Args:
        scene: A scene.
        names: The dataset's name for each class of the scene. Other classes are not
            labeled.

    Returns:
        Name and box of each label.
    """
    return [(names[o.label], o.box_ir) for o in shown(scene) if o.label in names]


def edges(box: Box) -> str:
    """Format a box (x, y, w, h) as a VOC `bndbox` element."""
    x, y, w, h = box
    return (
        f'<bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax>'
        f'<ymax>{y + h}</ymax></bndbox>'
    )


def write_xml(path: Path, image: str, size: tuple, objects: list[str]) -> None:
    """Write a VOC label file; `objects` are the contents of its object nodes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nodes = ''.join(f'<object>{inner}</object>' for inner in objects)
    path.write_text(
        f'<annotation><filename>{image}</filename><size><width>{size[0]}</width>'
        f'<height>{size[1]}</height><depth>3</depth></size>{nodes}</annotation>',
        encoding='utf-8',
    )


def objects_xml(shapes: list[Shape], draw: Callable[[Box], str] = edges) -> list[str]:
    """Return the contents of object nodes, with boxes formatted by `draw`."""
    return [f'<name>{escape(name)}</name>{draw(box)}' for name, box in shapes]


class SplitWriter:
    """Writer of all splits of a dataset; either everything is written or nothing.

    Args:
        layout: Name of the layout.
        counts: Number of images per split.
        seed: Random seed.
        size: Width and height in px.
        progress: Whether to show a progress bar.
        night: See :func:`pair_scene`.
        baseline: See :func:`pair_scene`.
        **more: Further parameters that affect the files, stored in the marker file.
    """

    def __init__(
        self,
        layout: str,
        counts: dict[str, int],
        seed: int,
        size: tuple[int, int],
        progress: bool,
        night: bool | None = None,
        baseline: float = 0.0,
        **more: object,
    ) -> None:
        self.marks = dict(layout=layout, seed=seed, size=size, **counts, **more)
        self.counts, self.progress = counts, progress
        self.view = size, night, baseline

    def write(
        self, root: PathLike, fill: Callable[[Path, str, Iterator[Scene]], None]
    ) -> Path:
        """Call `fill` with the folder, name and scenes of each split."""

        def render_into(folder: Path) -> None:
            """Render all splits."""
            total = sum(self.counts.values())
            title = f'rendering {self.marks["layout"]}'
            with tqdm(total=total, desc=title, disable=not self.progress) as bar:
                for part, (split, count) in enumerate(self.counts.items()):
                    scenes = (
                        pair_scene(self.marks['seed'], part, k, *self.view)
                        for k in range(count)
                    )
                    fill(folder, split, _ticking(scenes, bar))

        return _write_once(Path(root), self.marks, render_into)
