"""`TOPAugment`: each step against its definition."""

import cv2
import numpy as np
import pytest

from mmir.transforms import TOPAugment
from mmir.utils.errors import UserError


@pytest.fixture
def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (6, 5, 3), np.uint8)
    return cv2.resize(small, (50, 60), interpolation=cv2.INTER_CUBIC)


def augmented(image: np.ndarray, seed: int = 0, **steps: dict) -> np.ndarray:
    np.random.seed(seed)  # noqa: NPY002
    out = TOPAugment(**steps)(dict(img=image))['img']
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    return out


def test_probability_0_changes_nothing_and_seeds_repeat(image: np.ndarray) -> None:
    steps = dict(shift=dict(prob=0, most=30), shuffle=dict(prob=0))
    assert np.array_equal(augmented(image, **steps), image)
    steps = dict(defocus=dict(prob=1, radius=(1, 5)), shuffle=dict(prob=1))
    assert np.array_equal(augmented(image, 3, **steps), augmented(image, 3, **steps))


def test_shuffle_permutes_channels(image: np.ndarray) -> None:
    seen = set()
    for seed in range(40):
        out = augmented(image, seed, shuffle=dict(prob=1))
        order = tuple(
            next(k for k in range(3) if np.array_equal(image[..., k], out[..., c]))
            for c in range(3)
        )
        assert sorted(order) == [0, 1, 2]
        seen.add(order)
    assert len(seen) == 6


def test_shift_adds_one_number_per_channel() -> None:
    gray = np.full((4, 4, 3), 128, np.uint8)
    added = [
        augmented(gray, k, shift=dict(prob=1, most=30)).astype(int) - 128
        for k in range(50)
    ]
    assert all(len(np.unique(a[..., c])) == 1 for a in added for c in range(3))
    drawn = np.array([a[0, 0] for a in added])
    assert drawn.min() < -20
    assert drawn.max() > 20
    assert np.abs(drawn).max() <= 30
    black = augmented(np.zeros((4, 4, 3), np.uint8), shift=dict(prob=1, most=30))
    assert black.max() <= 30  # clipped, not wrapped


def test_defocus_averages_over_a_disk() -> None:
    point = np.zeros((11, 11, 3), np.uint8)
    point[5, 5] = 250
    out = augmented(point, defocus=dict(prob=1, radius=(2, 2)))
    y, x = np.mgrid[-5:6, -5:6]
    disk = x**2 + y**2 <= 4
    assert (out[disk] == round(250 / disk.sum())).all()
    assert (out[~disk] == 0).all()


def test_compress_is_jpeg(image: np.ndarray) -> None:
    out = augmented(image, compress=dict(prob=1, quality=(30, 30)))
    _, data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 30])
    assert np.array_equal(out, cv2.imdecode(data, cv2.IMREAD_COLOR))
    errors = [
        np.abs(
            augmented(image, compress=dict(prob=1, quality=(q, q))) - image.astype(int)
        ).mean()
        for q in (10, 50, 95)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_sharpen_blends_with_a_sharpened_image(image: np.ndarray) -> None:
    out = augmented(image, sharpen=dict(prob=1, alpha=(0.25, 0.25)))
    padded = np.pad(image.astype(float), ((1, 1), (1, 1), (0, 0)), 'reflect')
    around = sum(
        padded[r : r + 60, c : c + 50] for r in range(3) for c in range(3)
    ) - image.astype(float)
    expected = 0.75 * image + 0.25 * (9 * image.astype(float) - around)
    assert np.abs(out - np.clip(expected, 0, 255)).max() <= 0.5 + 1e-6


def test_deform_moves_pixels_a_little(image: np.ndarray) -> None:
    y, x = np.mgrid[:60, :50]
    grid = np.stack([x, y, 0 * x], 2).astype(np.uint8)  # shows where pixels come from
    moves = []
    for seed in range(5):
        out = augmented(grid, seed, deform=dict(prob=1, alpha=30, sigma=5))
        inner = (out.astype(float) - grid)[10:-10, 10:-10, :2]
        moves.append(np.abs(inner).max())
        assert np.abs(np.diff(inner, axis=0)).max() <= 2  # smooth
    assert 1 <= max(moves) <= 10
    still = augmented(image, deform=dict(prob=1, alpha=0, sigma=5))
    assert np.array_equal(still, image)


@pytest.mark.parametrize(
    ('steps', 'message'),
    [
        (dict(), 'deform'),
        (dict(blur=dict(prob=1)), 'defocus'),
        (dict(shift=dict(prob=1)), 'most'),
        (dict(shuffle=dict(prob=2)), 'from 0'),
    ],
)
def test_bad_steps_are_refused(steps: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TOPAugment(**steps)
    with pytest.raises(UserError, match='uint8'):
        TOPAugment(shuffle=dict(prob=1))(dict(img=np.zeros((4, 4, 3))))
