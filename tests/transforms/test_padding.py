"""Padding of test images."""

import numpy as np
import pytest

from mmir.transforms import PadToStride


@pytest.mark.parametrize(
    ('shape', 'expected'),
    [
        ((512, 640), (544, 672)),  # FLIR, as published
        ((32, 32), (64, 64)),
        ((33, 16), (64, 32)),
        ((48, 47), (64, 64)),
    ],
)
def test_shape_is_rounded_up_with_half_a_stride(
    shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    """The image stays in the upper left corner; 114 fills the rest."""
    img = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)

    results = PadToStride()(dict(img=img.copy(), img_shape=shape))

    out = results['img']
    assert out.shape == (*expected, 3)
    assert results['img_shape'] == expected
    np.testing.assert_array_equal(out[: shape[0], : shape[1]], img)
    assert (out[shape[0] :] == 114).all()
    assert (out[:, shape[1] :] == 114).all()


def test_without_extra_a_multiple_stays() -> None:
    """`extra=0` only rounds up."""
    for side, expected in ((64, 64), (65, 96)):
        img = np.zeros((side, side), np.uint8)
        assert PadToStride(extra=0)(dict(img=img))['img'].shape == (expected, expected)


@pytest.mark.parametrize('options', [dict(divisor=0), dict(extra=-0.1)])
def test_senseless_options_are_refused(options: dict) -> None:
    """Both values are in the message."""
    with pytest.raises(ValueError, match=r'divisor=.* extra='):
        PadToStride(**options)
