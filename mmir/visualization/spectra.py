"""Plots of dataset statistics: intensities, spectra, boxes."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3


def plot_spectra(
    ax: 'Axes', spectra: Mapping[str, tuple[Sequence[float], Sequence[float]]]
) -> None:
    """Plot radially averaged power spectra.

    Args:
        ax (Axes): Axes to draw on.
        spectra (Mapping): Modality -> (frequencies in cycles per pixel, power).
    """
    for name, (frequency, power) in spectra.items():
        ax.loglog(frequency, power, label=name)
    ax.axhline(1, color='0.7', linewidth=0.8, linestyle=':')
    ax.set_title('power spectrum (white noise: 1)')
    ax.set_xlabel('cycles per pixel')
    ax.grid(alpha=0.3)
    ax.legend()


def plot_bars(
    ax: 'Axes', groups: Mapping[str, Mapping[str, float]], title: str
) -> None:
    """Plot named values of one or more groups as a grouped bar chart.

    Args:
        ax (Axes): Axes to draw on.
        groups (Mapping): Group -> name -> value, such as modality -> band -> share.
        title (str): Title. A legend names the groups if there are several.
    """
    names = list(dict.fromkeys(name for values in groups.values() for name in values))
    width = 0.8 / max(len(groups), 1)
    for k, (group, values) in enumerate(groups.items()):
        at = np.arange(len(names)) + (k - (len(groups) - 1) / 2) * width
        heights = [values.get(name, 0) for name in names]
        bars = ax.bar(at, heights, width, label=group)
        whole = all(isinstance(height, int) for height in heights)
        ax.bar_label(bars, fmt='%d' if whole else '%.2f', fontsize=7)
    crowded = len(names) > 4
    ax.set_xticks(
        range(len(names)), names, rotation=40 if crowded else 0,
        ha='right' if crowded else 'center',
    )  # fmt: skip
    ax.margins(y=0.15)
    ax.set_title(title)
    if len(groups) > 1:
        ax.legend()


def plot_shares(
    ax: 'Axes',
    histograms: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str,
    xlabel: str,
) -> None:
    """Plot histograms as step curves.

    Args:
        ax (Axes): Axes to draw on.
        histograms (Mapping): Name -> (bin edges (n + 1), shares (n)).
        title (str): Title.
        xlabel (str): Label of the x axis.
    """
    for name, (edges, shares) in histograms.items():
        ax.stairs(shares, edges, label=name, fill=len(histograms) == 1)
    ax.set_title(title)
    ax.set_xlabel(xlabel)
    ax.grid(alpha=0.3)
    if len(histograms) > 1:
        ax.legend()


def save_dataset_figure(path: str | Path, report: Mapping) -> Path:
    """Draw the report of `tools/analysis_tools/dataset_report.py`.

    Args:
        path (str | Path): PNG file to write.
        report (Mapping): The report, as the tool writes it to JSON.

    Returns:
        Path: The file.
    """
    # imported here to keep `import mmir` fast
    from matplotlib.figure import Figure

    rows = report['modalities']
    plots = [
        lambda ax: plot_shares(
            ax,
            {k: (m['histogram']['edges'], m['histogram']['shares'])
             for k, m in rows.items() if m.get('histogram')},
            'intensity, share of pixels',
            'share of the range of values',
        ),
        lambda ax: plot_spectra(
            ax,
            {k: (m['spectrum']['frequency'], m['spectrum']['power'])
             for k, m in rows.items()},
        ),
        lambda ax: plot_bars(
            ax, {k: m['energy'] for k, m in rows.items()}, 'share of the energy'
        ),
    ]  # fmt: skip
    if report.get('correlation'):
        plots.append(partial(_plot_correlation, pairs=report['correlation']))
    if report.get('brightness'):
        plots.append(partial(_plot_light, light=report['brightness']))
    labels = report.get('labels') or {}
    for key, title in (('classes', labels.get('unit', '')), ('sizes', 'box sizes')):
        if labels.get(key):
            plots.append(partial(plot_bars, groups={'': labels[key]}, title=title))
    count = -(-len(plots) // _COLUMNS)
    figure = Figure(figsize=(5 * _COLUMNS, 3.8 * count), layout='constrained')
    axes = figure.subplots(count, _COLUMNS, squeeze=False)
    for ax in axes.flat:
        ax.axis('off')
    for ax, plot in zip(axes.flat, plots, strict=False):
        ax.axis('on')
        plot(ax)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def _plot_correlation(ax: 'Axes', pairs: Mapping) -> None:
    """Plot how strongly the modalities correlate, regardless of sign."""
    groups = {
        names: {band: value['size'] for band, value in bands.items()}
        for names, bands in pairs.items()
    }
    plot_bars(ax, groups, f'size of the correlation, {" and ".join(pairs)}')


def _plot_light(ax: 'Axes', light: Mapping) -> None:
    """Plot the brightness of the images; night is to the left of the line."""
    data = {'images': (light['edges'], light['counts'])}
    plot_shares(ax, data, f'brightness of {light["modality"]}, images', 'mean gray')
    ax.axvline(light['night_below'], color='tab:red')
