"""Learning curves and curves over the number of images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

Curve = tuple[Sequence[float], Sequence[float]]
"""Positions and values of a line."""


def save_curves(
    path: str | Path, plots: Mapping[str, Mapping[str, Curve]], xlabel: str
) -> Path:
    """Draw one plot beside the other, each with several lines.

    Args:
        path (str | Path): File to write, PNG.
        plots (Mapping): Title of a plot -> name of a line -> (x, y).
        xlabel (str): What x counts.

    Returns:
        Path: The file.
    """
    # late: `import mmir` would take longer with it
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * len(plots), 3.8), layout='constrained')
    axes = figure.subplots(1, len(plots), squeeze=False)[0]
    for ax, (title, lines) in zip(axes, plots.items(), strict=True):
        for name, (x, y) in lines.items():
            ax.plot(x, y, marker='.' if len(x) < 50 else None, label=name)
        ax.set_title(title)
        ax.set_xlabel(xlabel)
        ax.grid(alpha=0.3)
        ax.legend()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
