"""The affine transform of mosaics: about the center, as in YOLOv7's recipe."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.runner import set_random_seed

pytest.importorskip('mmdet')

from mmdet.datasets.transforms import Mosaic, RandomAffine
from mmdet.structures.bbox import HorizontalBoxes

from mmir.det import CenteredRandomAffine

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/tensorfact'
STILL = dict(max_rotate_degree=0.0, max_shear_degree=0.0, max_translate_ratio=0.0)


def sample(img, *boxes):
    return dict(
        img=img,
        gt_bboxes=HorizontalBoxes(np.array(boxes, np.float32).reshape(-1, 4)),
        gt_bboxes_labels=np.zeros(len(boxes), np.int64),
        gt_ignore_flags=np.zeros(len(boxes), bool),
    )


@pytest.mark.parametrize('scale', [0.5, 1.0, 2.0])
def test_the_center_of_a_mosaic_stays_the_center(scale):
    """A box of 16x8 about the center of 160x120 becomes one about that of 80x60."""
    img = np.full((120, 160, 3), 255, np.uint8)
    img[56:64, 72:88] = 0
    affine = CenteredRandomAffine(
        **STILL, scaling_ratio_range=(scale, scale), border=(-40, -30)
    )
    out = affine(sample(img, (72, 56, 88, 64), (0, 0, 10, 10)))
    assert out['img'].shape == (60, 80, 3)
    half = np.array([8, 4]) * scale
    middle = np.array([40, 30])
    expected = np.concatenate([middle - half, middle + half])
    np.testing.assert_allclose(out['gt_bboxes'].tensor[0], expected, rtol=1e-6)
    rows, columns = np.nonzero(out['img'][..., 0] < 128)
    found = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    np.testing.assert_allclose(found, expected, atol=1)  # interpolation
    # the box in the corner is in the sample if the mosaic is made half as large
    assert len(out['gt_bboxes']) == (2 if scale == 0.5 else 1)


@given(
    seed=st.integers(0, 2**16),
    size=st.tuples(st.integers(40, 400), st.integers(40, 400)),
    border=st.tuples(st.integers(-15, 15), st.integers(-15, 15)),
)
def test_the_center_moves_by_the_translation_alone(seed, size, border):
    """Rotation, scale and shear are those of the host; only their center differs."""
    options = dict(max_rotate_degree=30.0, max_shear_degree=5.0, border=border)
    width, height = (
        side + 2 * margin for side, margin in zip(size, border, strict=True)
    )
    matrices = []
    for affine in (RandomAffine(**options), CenteredRandomAffine(**options)):
        set_random_seed(seed)
        matrices.append(affine._get_random_homography_matrix(height, width))
    host, ours = matrices
    np.testing.assert_allclose(ours[:2, :2], host[:2, :2], rtol=1e-5)
    center = ours @ np.array([size[0] / 2, size[1] / 2, 1])
    middle = np.array([width / 2, height / 2]) + host[:2, 2]
    np.testing.assert_allclose(center[:2], middle, rtol=1e-4, atol=1e-3)


def padding(affine, samples=200):
    """Share of padding in mosaics of white 5:4 images, one number a sample."""
    mosaic = Mosaic(img_scale=(640, 640), pad_val=0)
    white = np.full((512, 640, 3), 255, np.uint8)
    set_random_seed(0)
    shares = []
    for _ in range(samples):
        first = sample(white)
        first['mix_results'] = [sample(white) for _ in range(3)]
        shares.append(float((affine(mosaic(first))['img'][..., 0] == 0).mean()))
    return np.array(shares)


def test_samples_of_the_shipped_configs_are_images_not_padding():
    cfg = Config.fromfile(CONFIGS / 'yolo-tiny_flir_1pct_full.py')
    (options,) = (
        dict(step)
        for step in cfg.train_dataloader.dataset.pipeline
        if step.type == 'mmir.CenteredRandomAffine'
    )
    options = dict(options, border_val=(0, 0, 0))
    options.pop('type')
    centered = padding(CenteredRandomAffine(**options))
    assert centered.mean() < 0.15
    assert (centered > 0.5).mean() < 0.01
    # the host's transform, measured alike
    about_corner = padding(RandomAffine(**options))
    assert about_corner.mean() > 0.3
    assert (about_corner > 0.5).mean() > 0.3
