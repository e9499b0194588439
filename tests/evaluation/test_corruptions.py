from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmir.evaluation.corruptions import CORRUPTIONS, corrupt
from mmir.testing.scenes import render_scene

KINDS = sorted(CORRUPTIONS)
SIZES = st.tuples(st.sampled_from([1, 3]), st.integers(2, 12), st.integers(2, 12))


def apply(img, kind, strength, seed=0, span=None):
    return corrupt(img, kind, strength, np.random.default_rng(seed), span)


def level(kind, strength):
    return CORRUPTIONS[kind].levels[strength - 1]


def grey(value, size=200, channels=3, dtype=torch.uint8):
    return torch.full((channels, size, size), value, dtype=dtype)


@pytest.fixture(scope='module')
def scene():
    one = render_scene((0, 0, 3), (640, 512), night=False)
    ir = torch.from_numpy(one.thermal8)[None].repeat(3, 1, 1)
    return dict(rgb=torch.from_numpy(one.rgb).permute(2, 0, 1).contiguous(), ir=ir)


@settings(max_examples=80, deadline=None)
@given(SIZES, st.sampled_from(KINDS), st.integers(1, 5), st.booleans())
def test_shape_and_dtype_stay_and_the_seed_decides(shape, kind, strength, eight_bit):
    img = torch.from_numpy(np.random.default_rng(1).integers(0, 256, shape))
    img = img.to(torch.uint8 if eight_bit else torch.float32)
    kept = img.clone()
    np.random.seed(0)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    one, two = apply(img, kind, strength), apply(img, kind, strength)
    assert torch.equal(one, two)
    assert (one.shape, one.dtype) == (img.shape, img.dtype)
    assert torch.equal(img, kept)
    assert one.data_ptr() != img.data_ptr()
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert torch.isfinite(one.float()).all()


@pytest.mark.parametrize('name', ['rgb', 'ir'])
@pytest.mark.parametrize('kind', KINDS)
def test_stronger_changes_more(scene, kind, name):
    img = scene[name].float()
    changes = [
        (apply(scene[name], kind, strength).float() - img).abs().mean()
        for strength in range(1, 6)
    ]
    assert changes[0] > 0.2
    assert all(b > a for a, b in pairwise(changes))


@pytest.mark.parametrize('strength', [1, 3, 5])
def test_noise_has_its_deviation(strength):
    sigma = level('noise', strength)['sigma'] * 255
    # float with a given span: nothing is clipped
    noise = apply(grey(128.0, dtype=torch.float32), 'noise', strength, span=(0, 255))
    noise = noise.numpy() - 128
    assert abs(noise.std() / sigma - 1) < 0.01
    assert abs(noise.mean()) < 4 * sigma / 200 / 3**0.5


def test_noise_of_grey_images_is_grey():
    rng = np.random.default_rng(0)
    plane = torch.from_numpy(rng.integers(0, 256, (1, 20, 20), np.uint8))
    out = apply(plane.repeat(3, 1, 1), 'noise', 4)
    assert torch.equal(out, out[:1].repeat(3, 1, 1))
    assert torch.equal(out[:1], apply(plane, 'noise', 4))
    colour = torch.from_numpy(rng.integers(0, 256, (3, 20, 20), np.uint8))
    diff = apply(colour, 'noise', 4).int() - colour.int()
    assert not torch.equal(diff[0], diff[1])


@pytest.mark.parametrize('width', [320, 640])
@pytest.mark.parametrize('strength', [1, 2, 3, 4, 5])
def test_misalignment_moves_by_its_distance_and_nothing_else(width, strength):
    rng = np.random.default_rng(2)
    img = torch.from_numpy(rng.integers(0, 256, (3, 100, width), np.uint8))
    distance = max(1, level('misalignment', strength)['pixels'] * width / 640)
    for seed in range(6):
        out = apply(img, 'misalignment', strength, seed)
        # follow the pixels: the shift that makes the middle equal
        reach = range(-33, 34)
        y, x = 50, width // 2
        patch = out[:, y - 5 : y + 5, x - 5 : x + 5]
        shifts = [
            (dy, dx)
            for dy in reach
            for dx in reach
            if abs(np.hypot(dy, dx) - distance) < 1
            and torch.equal(
                img[:, y - 5 - dy : y + 5 - dy, x - 5 - dx : x + 5 - dx], patch
            )
        ]
        assert len(shifts) == 1
        dy, dx = shifts[0]
        matrix = np.float32([[1, 0, dx], [0, 1, dy]])
        moved = cv2.warpAffine(
            img.permute(1, 2, 0).numpy(),
            matrix,
            (width, 100),
            flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_REPLICATE,
        )
        np.testing.assert_array_equal(out.permute(1, 2, 0).numpy(), moved)


def test_all_strengths_of_a_shift_go_the_same_way():
    # a ramp to the right and one down: its change is the shift
    y, x = torch.meshgrid(torch.arange(512.0), torch.arange(640.0), indexing='ij')
    img = torch.stack([y, x])
    middle = (slice(None), slice(200, 300), slice(200, 400))
    angles = []
    for strength in range(2, 6):
        shift = (img - apply(img, 'misalignment', strength, 7))[middle]
        dy, dx = (float(plane.unique().squeeze()) for plane in shift)
        angles.append(np.arctan2(dy, dx))
    assert np.ptp(angles) < 0.3


def test_blur_widens_a_point_as_said():
    img = torch.zeros(1, 200, 640)
    img[0, 100, 320] = 1000
    for strength in (2, 5):
        out = apply(img, 'blur', strength, span=(0, 255))[0]
        sigma = level('blur', strength)['sigma']
        assert out.sum() == pytest.approx(1000, rel=1e-3)
        x = torch.arange(640.0) - 320
        assert (out.sum(0) * x * x).sum() / 1000 == pytest.approx(sigma**2, rel=0.03)
        assert out[100, 320] == pytest.approx(1000 / (2 * np.pi * sigma**2), rel=0.03)


@pytest.mark.parametrize('strength', [1, 3, 5])
def test_low_light_follows_its_curve_and_its_noise(strength):
    row = level('low_light', strength)
    for value in (80.0, 200.0):
        out = apply(
            grey(value, dtype=torch.float32), 'low_light', strength, span=(0, 255)
        )
        light = row['gain'] * (value / 255) ** row['gamma']
        sigma = (light / row['photons']) ** 0.5
        out = out.numpy()[0].astype(float) / 255
        if light > 4 * sigma:  # else darkness clips half of the noise
            assert abs(out.mean() - light) < 4 * sigma / 200
            assert abs(out.std() / sigma - 1) < 0.02
        assert out.min() >= 0
    assert not apply(grey(0), 'low_light', strength).any()


def test_low_light_does_not_get_brighter():
    values = torch.arange(256, dtype=torch.uint8).repeat(64, 1)[None]
    means = [
        apply(values, 'low_light', strength).float().mean(1)[0]
        for strength in range(1, 6)
    ]
    for one, two in pairwise(means):
        assert (one[20:] > two[20:]).all()


@pytest.mark.parametrize('strength', [1, 2, 3, 4, 5])
def test_washed_out_loses_contrast_and_drifts_to_the_middle(strength):
    row = level('washed_out', strength)
    rng = np.random.default_rng(0)
    for centre, sign in ((60, 1), (200, -1)):
        img = torch.from_numpy(rng.normal(centre, 20, (1, 50, 50)).astype(np.float32))
        out = apply(img, 'washed_out', strength, span=(0, 255))
        assert out.std() / img.std() == pytest.approx(1 - row['loss'], rel=1e-4)
        drift = float(out.mean() - img.mean())
        assert drift == pytest.approx(sign * row['drift'] * 255, rel=1e-3)


@pytest.mark.parametrize('kind', ['noise', 'washed_out', 'low_light'])
def test_counts_are_corrupted_as_their_8_bit_picture(kind):
    """The span is what a camera displays: the same share of contrast is lost."""
    rng = np.random.default_rng(0)
    shown = torch.from_numpy(rng.integers(0, 256, (1, 60, 60)).astype(np.float32))
    counts = 7000 + 8 * shown
    one = apply(shown, kind, 3, span=(0, 255))
    two = apply(counts, kind, 3, span=(7000, 7000 + 8 * 255))
    torch.testing.assert_close(two, 7000 + 8 * one, rtol=0, atol=0.05)
    # without a span, that of the percentiles
    low, high = np.percentile(counts.numpy(), (1, 99))
    assert torch.equal(apply(counts, kind, 3), apply(counts, kind, 3, span=(low, high)))


def test_a_constant_image_of_floats_survives():
    img = grey(300.0, 8, 1, torch.float32)
    for kind in KINDS:
        assert torch.isfinite(apply(img, kind, 5)).all()


@pytest.mark.parametrize(
    ('img', 'kind', 'strength', 'span', 'error', 'message'),
    [
        (grey(1, 4), 'fog', 1, None, ValueError, "unknown corruption 'fog', known"),
        (grey(1, 4), 'blur', 0, None, ValueError, 'strength must be 1 to 5, got 0'),
        (grey(1, 4), 'blur', 6, None, ValueError, 'strength must be 1 to 5, got 6'),
        (grey(1, 4)[0], 'blur', 1, None, ValueError, r'\(C, H, W\), got shape'),
        (grey(1, 4).int(), 'blur', 1, None, TypeError, 'got torch.int32'),
        (grey(1, 4), 'blur', 1, (9, 3), ValueError, r'black is above white'),
    ],
)
def test_bad_arguments(img, kind, strength, span, error, message):
    with pytest.raises(error, match=message):
        apply(img, kind, strength, span=span)
