"""What the writers of detection layouts share: scenes of a split, XML labels."""

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
    """Render the scene that the writers put in a place.

    Args:
        seed: The writer's seed.
        part: 0 for the first split (train), 1 for the next.
        number: Which image of the split, from 0.
        size: Width and height in px.
        night: As the writer's set has it: LLVIP is night only (True), else None.
        baseline: Distance of the cameras in m; 0 for registered pairs.

    Returns:
        The scene.
    """
    return render_scene((seed, 20 + part, number), size, night, baseline)


def shown(scene: Scene, modality: Modality | None = None) -> list[SceneObject]:
    """List what is labeled.

    Args:
        scene: A scene.
        modality: Only what stands out in this picture; None for registered pairs, whose
            labels hold what stands out in either.

    Returns:
        The objects, the nearest first.
    """
    if modality is not None:
        return [o for o in scene.objects if o.box(modality) and o.visible(modality)]
    return [o for o in scene.objects if o.box_ir and (o.visible_ir or o.visible_rgb)]


def renamed(scene: Scene, names: dict[str, str]) -> list[Shape]:
    """List the labels of a registered pair.

    Args:
        scene: A scene.
        names: What the dataset calls the scene's classes; others are not labeled.

    Returns:
        Name and box of each label.
    """
    return [(names[o.label], o.box_ir) for o in shown(scene) if o.label in names]


def edges(box: Box) -> str:
    """Write a box (x, y, w, h) as VOC does, by its edges."""
    x, y, w, h = box
    return (
        f'<bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax>'
        f'<ymax>{y + h}</ymax></bndbox>'
    )


def write_xml(path: Path, image: str, size: tuple, objects: list[str]) -> None:
    """Write a label file; `objects` are the insides of its object nodes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nodes = ''.join(f'<object>{inner}</object>' for inner in objects)
    path.write_text(
        f'<annotation><filename>{image}</filename><size><width>{size[0]}</width>'
        f'<height>{size[1]}</height><depth>3</depth></size>{nodes}</annotation>',
        encoding='utf-8',
    )


def objects_xml(shapes: list[Shape], draw: Callable[[Box], str] = edges) -> list[str]:
    """Write the insides of object nodes, the box of each as `draw` does."""
    return [f'<name>{escape(name)}</name>{draw(box)}' for name, box in shapes]


class SplitWriter:
    """Scenes of the splits of a set, written all or nothing.

    Args:
        layout: Name of the layout.
        counts: Number of images of each split.
        seed: Everything random follows from it.
        size: Width and height in px.
        progress: Show a progress bar.
        night: As in :func:`pair_scene`.
        baseline: The same.
        **more: What else makes the files differ.
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
        """Call `fill` with the folder, the name and the scenes of each split."""

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
