"""Figures of re-identification: frames, markers, heat."""

import cv2
import numpy as np
from matplotlib.colors import to_rgb

from mmir.visualization.people import (
    QUERY,
    RIGHT,
    WRONG,
    Match,
    heat_overlay,
    save_distance_figure,
    save_embedding_figure,
    save_ranked_figure,
)

GRAY = np.full((64, 32, 3), 128, np.uint8)


def count(path, color: str) -> int:
    """Pixels of a color."""
    picture = cv2.imread(str(path))[..., ::-1]
    wanted = np.rint(255 * np.array(to_rgb(color)))
    return int((np.abs(picture - wanted).max(2) < 3).sum())


def test_frames_tell_right_from_wrong(tmp_path) -> None:
    right, wrong, open_ = (Match(GRAY, right=r) for r in (True, False, None))
    path = tmp_path / 'a/ranks.png'
    save_ranked_figure(path, [(Match(GRAY), [right, wrong, wrong])])
    frame = count(path, RIGHT)
    assert frame > 100
    assert abs(count(path, WRONG) / frame - 2) < 0.3
    assert abs(count(path, QUERY) / frame - 1) < 0.3
    save_ranked_figure(path, [(Match(GRAY), [open_]), (Match(GRAY), [open_, right])])
    assert count(path, WRONG) == 0
    assert count(path, RIGHT) > 100


def test_plots_are_written(tmp_path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / 'plane.png'
    names = ['rgb', 'ir'] * 5
    save_embedding_figure(path, rng.normal(size=(10, 2)), [7, 7, 9, 9, 9] * 2, names)
    assert cv2.imread(str(path)).std() > 1
    path = tmp_path / 'distances.png'
    values = {'same person': rng.uniform(0, 1, 50), 'other people': np.ones(90)}
    save_distance_figure(path, values)
    assert cv2.imread(str(path)).std() > 1


def test_heat_is_where_the_map_is_large() -> None:
    heat = np.zeros((4, 2))
    heat[0, 0] = 3
    shown = heat_overlay(GRAY, heat).astype(int)
    assert shown.shape == GRAY.shape
    redness = shown[..., 0] - shown[..., 2]
    assert redness[4, 4] > 20 > redness[60, 28]
    flat = heat_overlay(GRAY, np.ones((4, 2)))
    assert (flat == flat[0, 0]).all()
