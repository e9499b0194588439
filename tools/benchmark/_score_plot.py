"""Plot of the scores of a study: a dot per seed."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmir.utils.files import atomic_path

Scores = Mapping[str, Sequence[float]]
"""Row -> score of each seed."""


def save_plot(
    panels: Mapping[str, Scores], marked: Mapping[str, str], label: str, path: Path
) -> None:
    """Plot the scores of rows side by side: a dot per seed, a line at the mean.

    Args:
        panels: Title of a panel -> its scores; all have the rows of the first one.
        marked: Title -> row whose mean is a dotted line through the whole panel.
        label: What is measured, and its unit.
        path: PNG file to write.
    """
    from matplotlib.figure import Figure

    rows = [*next(iter(panels.values()))]
    figure = Figure(figsize=(13, 1.2 + 0.28 * len(rows)), layout='constrained')
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (title, scores) in zip(axes, panels.items(), strict=True):
        for height, row in enumerate(rows):
            values = scores[row]
            ax.plot(values, [height] * len(values), 'o', alpha=0.5, color='tab:blue')
            ax.plot(statistics.mean(values), height, '|', color='k', markersize=14)
        reference = marked[title]
        if reference in scores:
            mean = statistics.mean(scores[reference])
            ax.axvline(mean, color='tab:red', linestyle=':')
        ax.set_title(f'{title} (dotted: {reference})')
        ax.set_xlabel(label)
        ax.grid(axis='x', alpha=0.3)
    axes[0].set_yticks(range(len(rows)), rows)
    axes[0].invert_yaxis()
    with atomic_path(path) as part:
        figure.savefig(part, dpi=110, format='png')
