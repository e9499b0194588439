"""Line plots, such as learning curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

Curve = tuple[Sequence[float], Sequence[float]]
"""x and y values of a line."""


def save_curves(
    path: str | Path, plots: Mapping[str, Mapping[str, Curve]], xlabel: str
) -> Path:
    """Save line plots, four per row.

    Plots with the same lines share one legend.

    Args:
        path (str | Path): PNG file to write.
        plots (Mapping): Plot title -> line name -> (x, y).
        xlabel (str): Label of the x axis.

    Returns:
        Path: The file.
    """
    # imported here to keep `import mmir` fast
    from matplotlib.figure import Figure

    columns = min(len(plots), 4)
    rows = -(-len(plots) // columns)
    figure = Figure(figsize=(5.5 * columns, 3.8 * rows), layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    shared = len(plots) > 1 and len({tuple(lines) for lines in plots.values()}) == 1
    for ax, (title, lines) in zip(axes, plots.items(), strict=False):
        for name, (x, y) in lines.items():
            ax.plot(x, y, marker='.' if len(x) < 50 else None, label=name)
        ax.set_title(title)
        ax.set_xlabel(xlabel)
        ax.grid(alpha=0.3)
        if not shared:
            ax.legend()
    for ax in axes[len(plots) :]:
        ax.remove()
    if shared:
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc='outside right upper')
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
