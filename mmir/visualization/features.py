"""Plots of the features of networks: spectra, maps, frequencies."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmir.utils.files import atomic_path
from mmir.visualization.curves import Curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEPTH = {
    'effective_rank': 'effective rank',
    'normalized_effective_rank': 'effective rank, each token normalized',
    'components_90': 'components that hold 90 % of the variance',
}
"""Numbers of a block that are plotted through depth -> title."""
_STYLES = '-', '--', ':', '-.'


def save_spectrum_figure(
    path: str | Path, networks: Mapping[str, Mapping[str, Sequence]]
) -> Path:
    """Plot effective rank and components through depth, and the last spectrum.

    Args:
        path: PNG file to write.
        networks: Label -> the keys of `DEPTH`, a number per block, and `spectrum`, the
            shares of the last block in descending order.

    Returns:
        The file.
    """
    figure = _figure(18, 4)
    *through, last = axes = figure.subplots(1, len(DEPTH) + 1)
    for label, network in networks.items():
        for ax, key in zip(through, DEPTH, strict=True):
            values = network[key]
            ax.plot(range(1, len(values) + 1), values, marker='.', label=label)
        shares = np.asarray(network['spectrum'], float)
        shares = shares[shares > 1e-12]  # rounding errors of what is zero
        last.loglog(range(1, len(shares) + 1), shares, label=label)
    for ax, title in zip(through, DEPTH.values(), strict=True):
        ax.set_title(title, fontsize=10)
        ax.set(xlabel='block', ylim=(0, None))
        ax.xaxis.get_major_locator().set_params(integer=True)
    last.set_title('last block: share of the variance', fontsize=10)
    last.set_xlabel('component')
    for ax in axes:
        ax.grid(alpha=0.3)
    figure.legend(*last.get_legend_handles_labels(), loc='outside right upper')
    return _saved(figure, path)


def save_frequency_figure(
    path: str | Path,
    images: Mapping[str, Curve],
    embeddings: Mapping[str, Mapping[str, Curve]],
) -> Path:
    """Plot radial power spectra of images and of their patch embeddings.

    Args:
        path: PNG file to write.
        images: Modality -> (frequencies in cycles per pixel, power).
        embeddings: Label of a network -> name of an embedding -> the same, in cycles
            per pixel of the image. A color is a network, a line style an embedding.

    Returns:
        The file.
    """
    figure = _figure(12, 4.2)
    left, right = figure.subplots(1, 2)
    for name, (frequency, power) in images.items():
        left.loglog(frequency, power, label=name)
    names = list(dict.fromkeys(n for kinds in embeddings.values() for n in kinds))
    for k, (label, kinds) in enumerate(embeddings.items()):
        for name, (frequency, power) in kinds.items():
            style = _STYLES[names.index(name) % len(_STYLES)]
            text = f'{label}, {name}'
            right.loglog(frequency, power, style, color=f'C{k}', label=text)
    for ax, title in ((left, 'images'), (right, 'patch embeddings')):
        ax.axhline(1, color='0.7', linewidth=0.8, linestyle=':')
        ax.set(title=f'{title}: power (white noise: 1)', xlabel='cycles per pixel')
        ax.grid(alpha=0.3)
    left.legend()
    figure.legend(*right.get_legend_handles_labels(), loc='outside right upper')
    return _saved(figure, path)


def save_map_figure(
    path: str | Path,
    titles: Sequence[str],
    rows: Sequence[tuple[str, Mapping[str, np.ndarray]]],
    cell: tuple[float, float] = (2.3, 2.1),
) -> Path:
    """Draw pictures and energy maps, a row per pair and network.

    Args:
        path: PNG file to write.
        titles: Titles of the columns.
        rows: Label and panels of each row: title -> picture (H, W, 3), uint8, or energy
            map (h, w). The color scale of a map ends at its 1st and 99th percentiles,
            since a few patches of a transformer can have outstanding norms.
        cell: Width and height of a panel in inches.

    Returns:
        The file.
    """
    figure = _figure(cell[0] * len(titles) + 0.6, cell[1] * len(rows) + 0.3)
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for (label, panels), line in zip(rows, axes, strict=True):
        for title, ax in zip(titles, line, strict=True):
            panel = panels.get(title)
            ax.set(xticks=[], yticks=[])
            if panel is None:
                ax.axis('off')
            elif panel.ndim == 3:
                ax.imshow(panel)
            else:
                low, high = np.percentile(panel, (1, 99))
                ax.imshow(panel, cmap='viridis', vmin=low, vmax=high)
                ax.set_xlabel(f'{low:.3g} to {high:.3g}', fontsize=7)
        line[0].set_ylabel(label, fontsize=8)
    for title, ax in zip(titles, axes[0], strict=True):
        ax.set_title(title, fontsize=9)
    return _saved(figure, path)


def _figure(width: float, height: float) -> 'Figure':
    """Empty figure of a size in inches."""
    # imported here to keep `import mmir` fast
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout='constrained')


def _saved(figure: Any, path: str | Path) -> Path:
    """Write a figure."""
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110)
    return Path(path)
