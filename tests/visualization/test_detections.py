"""Boxes are drawn at the right place; weak detections are not drawn."""

from pathlib import Path

import cv2
import numpy as np

from mmir.visualization import Panel, save_curves, save_detection_grid

BOX = np.array([[10.0, 10.0, 60.0, 40.0]])


def colourful(path: Path) -> int:
    """Number of pixels with a saturated color, the legend at the bottom left out."""
    image = cv2.imread(str(path))
    hsv = cv2.cvtColor(image[: int(image.shape[0] * 0.85)], cv2.COLOR_BGR2HSV)
    return int((hsv[..., 1] > 120).sum())


def grid(path: Path, score: float | None, shape: tuple = (80, 100)) -> int:
    image = np.full(shape, 90, np.uint8)
    scores = None if score is None else np.array([score])
    panel = Panel(image, BOX, np.array([0]), scores, 'one')
    save_detection_grid(path, [[panel, panel]], ('person',), min_score=0.3)
    return colourful(path)


def test_weak_detections_are_left_out(tmp_path: Path) -> None:
    assert grid(tmp_path / 'truth.png', None) > 500
    assert grid(tmp_path / 'strong.png', 0.9) > 500
    assert grid(tmp_path / 'weak.png', 0.2) == 0


def test_colour_images_and_several_rows(tmp_path: Path) -> None:
    image = np.zeros((80, 100, 3), np.uint8)
    none = Panel(image, np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))
    some = Panel(image, BOX, np.array([1]), np.array([0.8]))
    path = save_detection_grid(tmp_path / 'a/b.png', [[none], [some]], ('x', 'y'))
    assert path.is_file()
    assert colourful(path) > 300


def test_curves_of_several_plots(tmp_path: Path) -> None:
    path = save_curves(
        tmp_path / 'curves.png',
        {
            'loss': {'ours': ([0, 1], [3.0, 1.0])},
            'AP': {'a': ([0], [1]), 'b': ([], [])},
        },
        'epoch',
    )
    image = cv2.imread(str(path))
    assert image.shape[1] > 2 * image.shape[0]
    assert (image < 128).any()


def test_many_plots_stand_in_rows_of_four_with_one_legend(tmp_path: Path) -> None:
    def size(number: int) -> tuple[int, int]:
        line = {'ours': ([0, 1], [0.5, 1.0])}
        plots = {f'plot {k}': line for k in range(number)}
        image = cv2.imread(str(save_curves(tmp_path / 'x.png', plots, 'epoch')))
        return image.shape[:2]

    (one, four), (two, seven) = size(4), size(7)
    assert (two, seven) == (2 * one, four)
