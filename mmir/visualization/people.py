"""Figures of re-identification: ranked lists, embeddings, distances, heat maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mmir.visualization.features import _figure, _saved

RIGHT, WRONG, QUERY = '#1fa34a', '#e03131', '#4263eb'
"""Frames of right and of wrong matches, and of the query."""

MARKERS = {'rgb': 'o', 'ir': 'x'}
KINDS = {'same person': RIGHT, 'other people': WRONG}


@dataclass(frozen=True)
class Match:
    """An image in a ranked list.

    Attributes:
        image: Picture (H, W, 3), uint8, RGB.
        text: Text below it.
        right: Whether it shows the person that is searched; None if that is unknown.
    """

    image: np.ndarray
    text: str = ''
    right: bool | None = None


def save_ranked_figure(
    path: str | Path, rows: Sequence[tuple[Match, Sequence[Match]]], title: str = ''
) -> Path:
    """Draw queries and their nearest images; green frames are right, red ones wrong.

    Args:
        path: PNG file to write.
        rows: Query, whose `right` is ignored, and its matches, nearest first.
        title: Text above all.

    Returns:
        The file.
    """
    columns = 1 + max(len(matches) for _, matches in rows)
    figure = _figure(1.05 * columns + 0.2, 2.35 * len(rows) + 0.4)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (query, matches) in zip(axes, rows, strict=True):
        for ax in line:
            ax.axis('off')
        panels = [(query, QUERY)]
        panels += [
            (match, '0.6' if match.right is None else RIGHT if match.right else WRONG)
            for match in matches
        ]
        for rank, (ax, (match, color)) in enumerate(zip(line, panels, strict=False)):
            ax.axis('on')
            ax.imshow(match.image)
            ax.set(xticks=[], yticks=[])
            ax.set_title(str(rank) if rank else 'query', fontsize=8, pad=2)
            ax.set_xlabel(match.text, fontsize=7)
            for spine in ax.spines.values():
                spine.set(color=color, linewidth=3)
    figure.suptitle(title, fontsize=9)
    return _saved(figure, path)


def save_embedding_figure(
    path: str | Path,
    points: np.ndarray,
    people: Sequence[int],
    modalities: Sequence[str],
    title: str = '',
) -> Path:
    """Draw features as points in a plane: a color per person, a marker per modality.

    Args:
        path: PNG file to write.
        points: Coordinates (N, 2).
        people: Identities (N,).
        modalities: 'rgb' or 'ir' for each point.
        title: Text above.

    Returns:
        The file.
    """
    from matplotlib import colormaps
    from matplotlib.lines import Line2D

    figure = _figure(7.2, 6)
    ax = figure.subplots()
    order = {pid: k for k, pid in enumerate(sorted(set(people)))}
    colors = colormaps['turbo'](np.linspace(0.03, 0.97, len(order)))
    given, names = np.asarray(people), np.asarray(modalities)
    for pid, k in order.items():
        for name, marker in MARKERS.items():
            x, y = points[(given == pid) & (names == name)].T
            ax.scatter(x, y, s=26, marker=marker, color=colors[k], linewidths=1.2)
    style = dict(color='0.3', linestyle='none')
    handles = [Line2D([], [], marker=m, label=n, **style) for n, m in MARKERS.items()]
    ax.legend(handles=handles, title=f'{len(order)} people by color')
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)
    return _saved(figure, path)


def save_distance_figure(
    path: str | Path, distances: Mapping[str, np.ndarray], title: str = ''
) -> Path:
    """Draw histograms of the distances of the same person and of other people.

    Args:
        path: PNG file to write.
        distances: Distances (n,) by the keys of `KINDS`.
        title: Text above.

    Returns:
        The file.
    """
    figure = _figure(6.4, 3.8)
    ax = figure.subplots()
    low, high = (f([f(v) for v in distances.values()]) for f in (np.min, np.max))
    bins = np.linspace(low, max(high, low + 1e-6), 61)
    for name, values in distances.items():
        label = f'{name}: {len(values):,} pairs, mean {np.mean(values):.3f}'
        options = dict(color=KINDS[name], alpha=0.5, label=label, density=True)
        ax.hist(values, bins, **options)
        ax.axvline(np.mean(values), color=KINDS[name], linewidth=1)
    ax.set(xlabel='cosine distance', ylabel='density')
    ax.set_title(title, fontsize=10)
    ax.legend(fontsize=8)
    return _saved(figure, path)


def heat_overlay(
    picture: np.ndarray, heat: np.ndarray, alpha: float = 0.5
) -> np.ndarray:
    """Lay a heat map over a picture, from its smallest to its largest value.

    Args:
        picture: Picture (H, W, 3), uint8, RGB.
        heat: Map (h, w).
        alpha: Weight of the map.

    Returns:
        Picture (H, W, 3), uint8, RGB.
    """
    low, high = float(heat.min()), float(heat.max())
    scaled = (heat.astype(np.float32) - low) / max(high - low, 1e-12)
    large = cv2.resize(scaled, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    levels = np.rint(255 * large.clip(0, 1)).astype(np.uint8)
    colors = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[..., ::-1]
    gray = np.repeat(picture.mean(2, keepdims=True), 3, 2)
    return np.rint((1 - alpha) * gray + alpha * colors).astype(np.uint8)
