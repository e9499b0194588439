"""Registration of one image of a pair onto the other."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmir.structures import PairError
from mmir.transforms.homography import as_homography, shrink_first
from mmir.transforms.registration import RegisterModality
from mmir.utils.errors import AnnotationError

EYE = np.eye(3).tolist()


def sample(rgb=(90, 120, 3), ir=(64, 80, 1), dtype=np.uint8, **more):
    rng = np.random.default_rng(1)
    imgs = {
        'rgb': rng.integers(0, 256, rgb).astype(dtype),
        'ir': rng.integers(0, 256, ir).astype(np.uint8),
    }
    paths = {'rgb': 'set/rgb/0007.png', 'ir': 'set/ir/0007.png'}
    base = dict(
        modalities=('rgb', 'ir'),
        imgs=imgs,
        img_paths=paths,
        img_path=paths['ir'],
        absent=(),
        img_shape=ir[:2],
    )
    return base | more


def test_a_pixel_lands_where_the_matrix_says_in_the_size_of_the_reference():
    results = sample()
    img = np.zeros((90, 120, 3), np.uint8)
    img[50, 70] = (10, 20, 255)
    results['imgs']['rgb'] = img
    out = RegisterModality([[1, 0, -30], [0, 1, -11], [0, 0, 1]])(results)
    warped = out['imgs']['rgb']
    assert warped.shape == (64, 80, 3)
    assert warped[39, 40].tolist() == [10, 20, 255]
    assert np.count_nonzero(warped.any(2)) == 1
    assert out['imgs']['ir'] is results['imgs']['ir']
    assert out['img_shape'] == (64, 80)
    assert out['valid_share'] == {'rgb': 1.0}


@given(
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    channels=st.sampled_from([1, 3]),
    scale=st.sampled_from([1.0, -2.0, 1e-3]),
)
def test_identity_is_an_exact_no_op_at_any_scale(dtype, channels, scale):
    results = sample((33, 47, channels), (33, 47, 1), dtype)
    if dtype == np.uint16:
        results['imgs']['rgb'] *= 257
    out = RegisterModality((scale * np.eye(3)).tolist())(results)
    np.testing.assert_array_equal(out['imgs']['rgb'], results['imgs']['rgb'])
    assert out['imgs']['rgb'].dtype == dtype
    assert out['valid_share']['rgb'] == pytest.approx(1)


def test_a_homography_and_its_inverse_give_the_image_back():
    smooth = np.random.default_rng(2).random((12, 16)).astype(np.float32)
    smooth = cv2.resize(smooth, (160, 120), interpolation=cv2.INTER_CUBIC)[..., None]
    forth = np.array([[1.05, 0.04, -4], [-0.03, 0.98, 3], [1e-4, -5e-5, 1]])
    results = sample(ir=(120, 160, 1))
    results['imgs']['rgb'] = smooth
    once = RegisterModality(forth.tolist())(results)
    assert np.abs(once['imgs']['rgb'] - smooth)[20:-20, 20:-20].mean() > 0.02
    twice = RegisterModality(np.linalg.inv(forth).tolist())(once)
    error = np.abs(twice['imgs']['rgb'] - smooth)[20:-20, 20:-20]
    assert error.max() < 0.03  # interpolated twice
    assert error.mean() < 0.004


def test_pixels_without_source_are_filled_and_counted():
    results = sample((64, 80, 3))
    results['imgs']['rgb'][:] = 200
    out = RegisterModality([[1, 0, 20], [0, 1, 0], [0, 0, 1]], fill=7)(results)
    warped = out['imgs']['rgb']
    assert (warped[:, :20] == 7).all()
    assert (warped[:, 20:] == 200).all()
    assert out['valid_share']['rgb'] == pytest.approx(60 / 80)


def test_shrinking_averages_instead_of_skipping_pixels():
    """A checkerboard of single pixels is gray at a quarter of the size."""
    board = (np.indices((400, 480)).sum(0) % 2 * 200).astype(np.uint8)[..., None]
    matrix = np.array([[0.2, 0, -0.4], [0, 0.2, -0.4], [0, 0, 1]])  # edges to edges
    small, rest = shrink_first(board, matrix)
    assert small.shape == (80, 96, 1)
    np.testing.assert_allclose(rest / rest[2, 2], np.eye(3), atol=1e-9)
    results = sample(ir=(80, 96, 1))
    results['imgs']['rgb'] = board
    out = RegisterModality(matrix.tolist())(results)['imgs']['rgb']
    assert np.abs(out.astype(int) - 100).max() <= 5  # 13 or 12 of 25 are white
    assert shrink_first(board, np.eye(3))[0] is board


def test_the_sample_goes_before_the_file_and_the_file_before_its_default(tmp_path):
    def shift(dx):
        return [[1, 0, dx], [0, 1, 0], [0, 0, 1]]

    path = tmp_path / 'h.json'
    path.write_text(json.dumps({'default': shift(1), 'images': {'0007': shift(2)}}))
    transform = RegisterModality(str(path), fill=-1)
    results = sample((64, 80, 1), dtype=np.float32)

    def gap(results):
        return int((transform(results)['imgs']['rgb'][5, :, 0] == -1).sum())

    assert gap(results | dict(homographies={'rgb': shift(3)})) == 3
    assert gap(results) == 2
    results['img_paths'] = dict(rgb='set/rgb/0008.png', ir='set/ir/0008.png')
    assert gap(results | dict(img_path='set/ir/0008.png')) == 1


def test_absent_modalities_get_the_size_of_the_reference():
    out = RegisterModality(EYE)(sample(absent=('rgb',)))
    assert out['imgs']['rgb'].shape == (64, 80, 3)
    assert not out['imgs']['rgb'].any()
    assert out['valid_share'] == {'rgb': 0.0}
    lone = sample(ir=(90, 120, 1), absent=('ir',))
    with pytest.raises(PairError, match=r'set size=.*rgb/0007'):
        RegisterModality(EYE)(lone)
    out = RegisterModality(EYE, size=(80, 64))(lone)
    assert out['imgs']['ir'].shape == (64, 80, 1)
    assert out['imgs']['rgb'].shape == (64, 80, 3)
    assert out['img_shape'] == (64, 80)
    with pytest.raises(PairError, match=r"'ir' is 80x64, not size=\(99, 64\)"):
        RegisterModality(EYE, size=(99, 64))(sample())


@pytest.mark.parametrize(
    ('matrix', 'message'),
    [
        ([[1, 0], [0, 1]], '3 rows of 3 numbers'),
        ('abc', '3 rows of 3 numbers'),
        ([[1, 0, 0], [0, 1, 0], [0, 0]], '3 rows of 3 numbers'),
        ([[1, 0, 0], [0, 1, 0], [0, 0, float('nan')]], 'NaN or infinite'),
        ([[1, 2, 3], [2, 4, 6], [0, 0, 1]], 'singular'),
        (np.zeros((3, 3)).tolist(), 'singular'),
    ],
)
def test_misshapen_matrices_are_refused_by_name(matrix, message):
    with pytest.raises(ValueError, match=f'camera 3.*{message}'):
        as_homography(matrix, 'camera 3')
    given = sample(homographies={'rgb': matrix})
    with pytest.raises(ValueError, match=f'rgb/0007.*{message}'):
        RegisterModality()(given)


def test_matrices_that_lose_or_tear_the_image_are_refused():
    with pytest.raises(PairError, match=r'rgb/0007.*outside the 80x64'):
        RegisterModality([[1, 0, 500], [0, 1, 0], [0, 0, 1]])(sample())
    with pytest.raises(PairError, match=r'rgb/0007.*tears a 120x90 image'):
        RegisterModality([[1, 0, 0], [0, 1, 0], [-0.02, 0, 1]])(sample())


def test_samples_that_do_not_fit_are_refused():
    with pytest.raises(PairError, match=r"no homography for 'rgb' .*rgb/0007"):
        RegisterModality()(sample())
    with pytest.raises(PairError, match="labels belong to 'rgb'"):
        RegisterModality(EYE)(sample(img_path='set/rgb/0007.png'))
    with pytest.raises(PairError, match="unknown modality 'nir'"):
        RegisterModality(EYE, onto='nir')(sample())


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{"default": [[1', 'not a complete JSON'),
        ('[]', "'default'"),
        ('{"defaults": 1}', "'default'"),
        ('{"images": []}', "'images' must map"),
        ('{"images": {"0007": [[0]]}}', r"images\['0007'\] must be 3 rows"),
        ('{"default": [[0,0,0],[0,0,0],[0,0,0]]}', "'default' is singular"),
    ],
)
def test_broken_files_are_refused_by_name(tmp_path, text, message):
    path = tmp_path / 'cameras.json'
    path.write_text(text)
    with pytest.raises(AnnotationError, match=rf'cameras\.json.*{message}'):
        RegisterModality(str(path))
    with pytest.raises(FileNotFoundError, match=r'none\.json'):
        RegisterModality(str(tmp_path / 'none.json'))
