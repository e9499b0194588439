"""Augmentation of salient-object detection: values, ranges, pairs."""

import cv2
import numpy as np
import pytest

from mmir.transforms import (
    OnModality,
    PairedTransform,
    RandomCenterCrop,
    RandomEnhance,
)


def picture(size=(60, 80), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def pair():
    rgb = picture()
    return dict(
        imgs=dict(rgb=rgb, ir=rgb[..., 1:2].copy()),
        img_paths=dict(rgb='a', ir='b'),
        modalities=('rgb', 'ir'),
        gt_seg_map=rgb[..., 1].copy(),
        seg_fields=['gt_seg_map'],
        img_shape=rgb.shape[:2],
        ori_shape=rgb.shape[:2],
    )


def test_crop_is_a_centered_window():
    img, lost = picture(), set()
    np.random.seed(0)  # noqa: NPY002
    for _ in range(300):
        out = RandomCenterCrop(4)(dict(img=img))
        height, width = out['img'].shape[:2]
        assert out['img_shape'] == (height, width)
        gone = 60 - height, 80 - width
        top, left = gone[0] // 2, gone[1] // 2
        np.testing.assert_array_equal(
            out['img'], img[top : top + height, left : left + width]
        )
        lost.add(gone)
    assert lost == {(a, b) for a in range(4) for b in range(4)}


def test_crop_leaves_half_of_a_small_image():
    np.random.seed(1)  # noqa: NPY002
    sizes = [
        RandomCenterCrop(30)(dict(img=picture((6, 1))))['img_shape'] for _ in range(60)
    ]
    assert min(sizes) == (4, 1)
    assert max(sizes) == (6, 1)


def test_crop_of_a_pair_with_its_mask():
    sample = PairedTransform(dict(type='RandomCenterCrop', border=20))(pair())
    ir = sample['imgs']['ir'][..., 0]
    np.testing.assert_array_equal(sample['imgs']['rgb'][..., 1], ir)
    np.testing.assert_array_equal(sample['gt_seg_map'], ir)
    with pytest.raises(ValueError, match='would move pixels'):
        OnModality('rgb', dict(type='RandomCenterCrop'))
    with pytest.raises(ValueError, match='border must be positive'):
        RandomCenterCrop(0)


def enhance(img, **factors):
    """Apply single factors; those not given change nothing."""
    spans = dict.fromkeys(('brightness', 'contrast', 'color', 'sharpness'), (1, 1))
    spans |= {name: (value, value) for name, value in factors.items()}
    return RandomEnhance(**spans)(dict(img=img))['img']


def test_each_factor():
    img = picture()
    np.testing.assert_array_equal(enhance(img), img)
    np.testing.assert_array_equal(enhance(img, brightness=0), 0 * img)
    bright = enhance(img, brightness=0.5).astype(float)
    np.testing.assert_allclose(bright, img * 0.5, atol=1)
    gray = cv2.cvtColor(img, cv2.COLOR_BGR2GRAY)
    flat = enhance(img, contrast=0)
    assert flat.min() == flat.max()
    assert abs(int(flat[0, 0, 0]) - gray.mean()) <= 1
    np.testing.assert_allclose(enhance(img, color=0), cv2.merge([gray] * 3), atol=1)
    kernel = np.float32([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    blurred = cv2.filter2D(img.astype('f4'), -1, kernel)[1:-1, 1:-1]
    np.testing.assert_allclose(enhance(img, sharpness=0)[1:-1, 1:-1], blurred, atol=1)
    sharp = np.clip(3.0 * img[1:-1, 1:-1] - 2 * blurred, 0, 255)
    np.testing.assert_allclose(enhance(img, sharpness=3)[1:-1, 1:-1], sharp, atol=2)


def test_ranges_are_those_of_the_recipe():
    np.random.seed(2)  # noqa: NPY002
    img = np.full((4, 4, 3), 100, np.uint8)  # no contrast, no color, no edges
    levels = {int(RandomEnhance()(dict(img=img))['img'][0, 0, 0]) for _ in range(300)}
    assert 50 <= min(levels) < 53
    assert 147 < max(levels) <= 150


def test_only_the_visible_image_changes():
    before = pair()
    after = OnModality('rgb', dict(type='RandomEnhance', brightness=(0.5, 0.5)))(pair())
    np.testing.assert_array_equal(after['imgs']['ir'], before['imgs']['ir'])
    assert after['imgs']['rgb'].mean() < 0.6 * before['imgs']['rgb'].mean()
    assert after['imgs']['rgb'].dtype == np.uint8


def test_refusals():
    for span in ((1.5, 0.5), (-1, 1), (1,)):
        with pytest.raises(ValueError, match='color must be two factors'):
            RandomEnhance(color=span)
    with pytest.raises(TypeError, match='takes uint8 images, got uint16'):
        RandomEnhance()(dict(img=picture().astype(np.uint16)))
