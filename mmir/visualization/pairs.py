"""Combine pictures of several cameras: side by side, blended or as a checkerboard.

All functions take and return (H, W, 3) uint8 arrays in RGB order and modify nothing in
place. :func:`mmir.visualization.color_maps.to_display` makes such pictures.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

MODES = ('side-by-side', 'overlay', 'false-colour', 'checkerboard')
"""Modes of :func:`compose`."""

_FONT, _FONT_SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.45
_STRIP = 20  # height in pixels of the title above a picture
_GAP = 4


def overlay(first: np.ndarray, second: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Blend two pictures.

    Args:
        first (np.ndarray): Picture.
        second (np.ndarray): Picture of the same size.
        alpha (float): Weight of the second, 0..1.

    Returns:
        np.ndarray: `(1 - alpha) * first + alpha * second`, rounded.

    Raises:
        ValueError: The sizes differ, or `alpha` is outside 0..1.
    """
    _require_same_size(first, second)
    if not 0 <= alpha <= 1:
        raise ValueError(f'alpha must be in 0..1, got {alpha}')
    return cv2.addWeighted(first, 1 - alpha, second, alpha, 0)


def false_color(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Combine the luminance of one picture with the colors of another.

    Args:
        first (np.ndarray): Picture that gives the luminance: the visible image.
        second (np.ndarray): Picture that gives hue and saturation: the thermal image in
            a color palette.

    Returns:
        np.ndarray: The picture (Y of the first, Cr and Cb of the second).

    Raises:
        ValueError: The sizes differ.
    """
    _require_same_size(first, second)
    mixed = cv2.cvtColor(second, cv2.COLOR_RGB2YCrCb)
    mixed[..., 0] = cv2.cvtColor(first, cv2.COLOR_RGB2GRAY)
    return cv2.cvtColor(mixed, cv2.COLOR_YCrCb2RGB)


def checkerboard(first: np.ndarray, second: np.ndarray, tile: int = 64) -> np.ndarray:
    """Alternate two pictures on the squares of a checkerboard.

    Contours that break at the edges of the squares reveal misalignment.

    Args:
        first (np.ndarray): Picture shown in the top left square.
        second (np.ndarray): Picture of the same size.
        tile (int): Side of a square in pixels.

    Returns:
        np.ndarray: The picture.

    Raises:
        ValueError: The sizes differ, or `tile` is not positive.
    """
    _require_same_size(first, second)
    if tile < 1:
        raise ValueError(f'tile must be at least 1 px, got {tile}')
    rows, columns = (np.arange(n) // tile for n in first.shape[:2])
    odd = (rows[:, None] + columns[None]) % 2 == 1
    return np.where(odd[..., None], second, first)


def absent_panel(shape: tuple[int, int], name: str) -> np.ndarray:
    """Draw the placeholder panel of an absent modality.

    Args:
        shape (tuple[int, int]): Height and width in pixels.
        name (str): The modality.

    Returns:
        np.ndarray: Dark stripes with the words 'NAME is absent'.
    """
    height, width = shape
    diagonal = np.add.outer(np.arange(height), np.arange(width))
    stripes = np.where(diagonal // 12 % 2, 48, 36).astype(np.uint8)
    panel = np.stack([stripes] * 3, 2)
    text = f'{name} is absent'
    (wide, high), _ = cv2.getTextSize(text, _FONT, _FONT_SIZE, 1)
    at = (max(2, (width - wide) // 2), (height + high) // 2)
    return _write(panel, text, at)


def titled(picture: np.ndarray, text: str) -> np.ndarray:
    """Add a title above a picture.

    Args:
        picture (np.ndarray): Picture.
        text (str): ASCII text; cut off if too long.

    Returns:
        np.ndarray: The taller picture.
    """
    strip = np.full((_STRIP, picture.shape[1], 3), 20, np.uint8)
    return np.concatenate([_write(strip, text, (4, _STRIP - 6)), picture])


def side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Join pictures from left to right, padding shorter ones with black.

    Args:
        pictures (Sequence[np.ndarray]): One or more pictures.

    Returns:
        np.ndarray: The row.
    """
    return _joined(pictures, axis=1)


def stacked(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Join pictures from top to bottom, padding narrower ones with black.

    Args:
        pictures (Sequence[np.ndarray]): One or more pictures.

    Returns:
        np.ndarray: The column.
    """
    return _joined(pictures, axis=0)


def compose(
    pictures: Mapping[str, np.ndarray],
    modes: Sequence[str] = MODES[:1],
    alpha: float = 0.5,
    tile: int = 64,
) -> dict[str, np.ndarray]:
    """Make the panels of a sample.

    Args:
        pictures (Mapping[str, np.ndarray]): Modality -> picture, for those present. The
            first two are combined; a single one is shown once, by itself.
        modes (Sequence[str]): One or more of :data:`MODES`.
        alpha (float): See :func:`overlay`.
        tile (int): See :func:`checkerboard`.

    Returns:
        dict[str, np.ndarray]: Title -> panel, in the order of `modes`.

    Raises:
        ValueError: A mode is unknown, there is no picture, or sizes differ.
    """
    if unknown := [mode for mode in modes if mode not in MODES]:
        raise ValueError(f'mode must be one of {MODES}, got {unknown[0]!r}')
    if not pictures:
        raise ValueError('there is no picture to show')
    if len(pictures) == 1:
        return dict(pictures)
    (one, first), (other, second) = list(pictures.items())[:2]
    panels: dict[str, np.ndarray] = {}
    for mode in modes:
        if mode == 'side-by-side':
            panels |= pictures
        elif mode == 'overlay':
            panels[f'{one} + {other}'] = overlay(first, second, alpha)
        elif mode == 'false-colour':
            panels[f'{one} in colors of {other}'] = false_color(first, second)
        else:
            panels[f'{one} | {other}'] = checkerboard(first, second, tile)
    return panels


def _require_same_size(first: np.ndarray, second: np.ndarray) -> None:
    if first.shape != second.shape:
        raise ValueError(
            f'pictures must have the same size, got {first.shape} and {second.shape}: '
            'register or resize the images first'
        )


def _write(picture: np.ndarray, text: str, at: tuple[int, int]) -> np.ndarray:
    return cv2.putText(
        picture, text, at, _FONT, _FONT_SIZE, (235, 235, 235), 1, cv2.LINE_AA
    )


def _joined(pictures: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Join along an axis with a gap, padding along the other axis."""
    across = 1 - axis
    size = max(picture.shape[across] for picture in pictures)
    parts = []
    for k, picture in enumerate(pictures):
        fill = [(0, 0)] * 3
        fill[across] = (0, size - picture.shape[across])
        fill[axis] = (_GAP if k else 0, 0)
        parts.append(np.pad(picture, fill))
    return np.concatenate(parts, axis)
