"""Grids of detections next to ground truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ('#ff4d4d', '#35c4ff', '#ffd23f', '#4dff88', '#ff7de9', '#b48cff')
"""Box colors, cycled over the classes."""


@dataclass
class Panel:
    """One image with boxes.

    Attributes:
        image: (H, W) or (H, W, 3) uint8, RGB order.
        boxes: (N, 4), x1, y1, x2, y2 in pixels.
        labels: (N,) integers.
        scores: (N,) in 0..1, None for ground truth.
        title: Text above the image.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None
    title: str = ''


def save_detection_grid(
    path: str | Path,
    rows: Sequence[Sequence[Panel]],
    classes: Sequence[str],
    min_score: float = 0.3,
) -> Path:
    """Save a grid of panels as a picture.

    Args:
        path (str | Path): PNG file to write.
        rows (Sequence[Sequence[Panel]]): Panels, the same number in every row.
        classes (Sequence[str]): Class names, for the legend.
        min_score (float): Detections with a lower score are not drawn.

    Returns:
        Path: The file.
    """
    # imported here to keep `import mmir` fast
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    columns = max(len(row) for row in rows)
    height, width = rows[0][0].image.shape[:2]
    size = (4.5 * columns, 4.5 * len(rows) * height / width + 0.8)
    figure = Figure(figsize=size, layout='constrained')
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for ax, panel in zip(axes.flat, (p for row in rows for p in row), strict=True):
        _draw(ax, panel, min_score)
    handles = [
        Rectangle((0, 0), 1, 1, color=COLORS[i % len(COLORS)], label=name)
        for i, name in enumerate(classes)
    ]
    figure.legend(handles=handles, loc='outside lower center', ncols=len(handles))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def _draw(ax: 'Axes', panel: Panel, min_score: float) -> None:
    from matplotlib.patches import Rectangle

    gray = panel.image.ndim == 2
    ax.imshow(panel.image, cmap='gray' if gray else None, vmin=0, vmax=255)
    ax.set_title(panel.title, fontsize=9)
    ax.axis('off')
    scores = panel.scores
    for i, (box, label) in enumerate(zip(panel.boxes, panel.labels, strict=True)):
        if scores is not None and scores[i] < min_score:
            continue
        x1, y1, x2, y2 = box
        color = COLORS[int(label) % len(COLORS)]
        ax.add_patch(
            Rectangle(
                (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=1.2
            )
        )
        if scores is not None:
            ax.text(x1, y1 - 2, f'{scores[i]:.2f}', color=color, fontsize=6)
