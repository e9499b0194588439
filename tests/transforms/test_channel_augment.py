"""`ChannelAugment`: what images become, and how often."""

from collections import Counter

import numpy as np
import pytest
from mmengine.registry import TRANSFORMS

from mmir.transforms import ChannelAugment
from mmir.utils.errors import UserError

IMAGE = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)
BLUE, GREEN, RED = (IMAGE[..., k].astype(float) for k in range(3))
OUTCOMES = {
    'blue': BLUE,
    'green': GREEN,
    'red': RED,
    'gray': np.round(0.114 * BLUE + 0.587 * GREEN + 0.299 * RED),
}


def outcome(img):
    """Name of what an image became."""
    if np.array_equal(img, IMAGE):
        return 'keep'
    for name, plane in OUTCOMES.items():
        if all(np.abs(img[..., k] - plane).max() <= 1 for k in range(3)):
            return name
    return 'other'


def test_outcomes_and_their_probabilities():
    np.random.seed(0)  # noqa: NPY002
    transform, draws = TRANSFORMS.build(dict(type='ChannelAugment')), 4000
    found = Counter(
        outcome(transform(dict(img=IMAGE.copy()))['img']) for _ in range(draws)
    )
    wanted = dict(blue=1 / 4, green=1 / 4, red=1 / 4, gray=1 / 8, keep=1 / 8)
    assert set(found) == set(wanted)
    for name, share in wanted.items():
        sigma = (draws * share * (1 - share)) ** 0.5
        assert abs(found[name] - draws * share) < 4 * sigma, name


def test_an_infrared_image_does_not_change():
    img = np.repeat(IMAGE[..., :1], 3, 2)
    outs = [ChannelAugment()(dict(img=img.copy()))['img'] for _ in range(50)]
    assert all(np.array_equal(out, img) for out in outs)
    assert {out.dtype for out in outs} == {np.dtype(np.uint8)}


def test_floats_stay_floats_and_the_input_is_not_written_to():
    img = IMAGE.astype(np.float32) / 255
    before = img.copy()
    outs = [ChannelAugment()(dict(img=img))['img'] for _ in range(50)]
    assert {out.dtype for out in outs} == {np.dtype(np.float32)}
    assert np.array_equal(img, before)


def test_gray_images_are_refused():
    with pytest.raises(UserError, match='load them with three channels'):
        ChannelAugment()(dict(img=IMAGE[..., 0]))
