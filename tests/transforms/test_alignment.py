"""Deliberate misalignment of one image of a pair."""

import copy
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mmir.structures import PairError
from mmir.transforms.alignment import RandomMisalignment, source_columns

KINDS = ('shift', 'homography', 'parallax')


def sample(height=96, width=128, dtype=np.uint8, channels=3, **more):
    """A paired sample with noise in both images."""
    rng = np.random.default_rng(0)
    imgs = {
        'rgb': rng.integers(0, 256, (height, width, channels)).astype(dtype),
        'ir': rng.integers(0, 256, (height, width, 1)).astype(np.uint8),
    }
    paths = {'rgb': 'a/rgb.png', 'ir': 'a/ir.png'}
    return dict(modalities=('rgb', 'ir'), imgs=imgs, img_paths=paths, absent=(), **more)


def spot(x, y, height=96, width=128, dtype=np.float32):
    """A blurred spot whose centroid can be measured with subpixel accuracy."""
    rows, columns = np.mgrid[:height, :width]
    value = 200 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)
    return value.astype(dtype)[..., None]


def centroid(img):
    rows, columns = np.mgrid[: img.shape[0], : img.shape[1]]
    weight = img[..., 0].astype(float)
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


def moved(results, seed=0, **options):
    np.random.seed(seed)  # noqa: NPY002
    return RandomMisalignment(**options)(results)


@pytest.mark.parametrize('kind', ['shift', 'homography'])
@pytest.mark.parametrize('distribution', ['uniform', 'gaussian'])
def test_a_spot_moves_as_recorded(kind, distribution):
    results = sample()
    results['imgs']['rgb'] = spot(60, 50)
    for seed in range(5):
        out = moved(results, seed, kind=kind, amount=6, distribution=distribution)
        (record,) = out['misalignment']
        place = np.array(record['homography']) @ (60, 50, 1)
        np.testing.assert_allclose(
            centroid(out['imgs']['rgb']), place[:2] / place[2], atol=0.05
        )
        assert record['kind'] == kind
        if kind == 'shift':
            np.testing.assert_allclose(place[:2] - (60, 50), record['shift'])


def test_the_recorded_mean_of_a_homography_is_that_of_the_corners():
    out = moved(sample(), kind='homography', amount=9)
    record = out['misalignment'][0]
    corners = np.array([(0, 0), (127, 0), (127, 95), (0, 95)], float)
    ends = cv2.perspectiveTransform(corners[None], np.array(record['homography']))[0]
    np.testing.assert_allclose((ends - corners).mean(0), record['shift'], atol=1e-4)
    assert np.abs(ends - corners).max() <= 9


@given(
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    channels=st.sampled_from([1, 3]),
    border=st.sampled_from(['reflect', 'constant']),
    unit=st.sampled_from(['px', 'width']),
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(40, 70), st.integers(40, 90)),
)
def test_shape_dtype_partner_and_labels_stay(
    kind, dtype, channels, border, unit, seed, size
):
    boxes = np.array([(5, 10, 20, 39.0)])
    results = sample(*size, dtype, channels, gt_bboxes=boxes, gt_seg_map=np.eye(40))
    before = copy.deepcopy(results)
    amount = 5 if unit == 'px' else 0.1
    options = dict(kind=kind, border=border, unit=unit, amount=amount)
    out = moved(results, seed, **options)

    img = out['imgs']['rgb']
    assert (img.dtype, img.shape) == (np.dtype(dtype), (*size, channels))
    assert img.min() >= 0
    assert img.max() <= 255
    for key in ('gt_bboxes', 'gt_seg_map'):
        np.testing.assert_array_equal(out[key], before[key])
    for name in ('rgb', 'ir'):  # the input images are not modified either
        np.testing.assert_array_equal(results['imgs'][name], before['imgs'][name])
    np.testing.assert_array_equal(out['imgs']['ir'], before['imgs']['ir'])
    again = moved(results, seed, **options)
    np.testing.assert_array_equal(again['imgs']['rgb'], img)
    assert again['misalignment'] == out['misalignment']


@pytest.mark.parametrize('kind', KINDS)
def test_an_amount_of_zero_changes_nothing(kind):
    results = sample(dtype=np.uint16, gt_bboxes=np.array([(5, 10, 20, 80.0)]))
    out = moved(results, kind=kind, amount=0)
    np.testing.assert_array_equal(out['imgs']['rgb'], results['imgs']['rgb'])
    assert out['misalignment'][0]['shift'] == (0, 0)


def test_units_and_distributions_have_the_spread_they_say():
    wide = [moved(sample(), s, amount=0.1, unit='width') for s in range(200)]
    drawn = np.array([out['misalignment'][0]['shift'] for out in wide])
    assert 12 < np.abs(drawn).max() <= 12.8
    many = RandomMisalignment(amount=2, distribution='gaussian')._draw((4000,), 1)
    assert many.std() == pytest.approx(2, abs=0.1)
    assert np.abs(many).max() <= 6


def test_prob_and_absence_leave_the_image_and_say_so():
    results = sample()
    hit = [
        moved(results, seed, prob=0.3)['misalignment'][0]['kind'] == 'shift'
        for seed in range(300)
    ]
    assert np.mean(hit) == pytest.approx(0.3, abs=0.08)
    results['absent'] = ('rgb',)
    out = moved(results)
    assert out['imgs']['rgb'] is results['imgs']['rgb']
    assert out['misalignment'][0]['kind'] == 'none'


def test_moves_add_up_in_the_record():
    first = moved(sample(), kind='parallax')
    out = moved(first, kind='shift', modality='ir')
    records = [(r['modality'], r['kind']) for r in out['misalignment']]
    assert records == [('rgb', 'parallax'), ('ir', 'shift')]


@pytest.mark.parametrize('shift', [8.0, -8.0])
def test_parallax_moves_near_planes_more_than_far_ones(shift):
    """Two planes of a depth map: focal length * baseline / Z for each."""
    depth = np.full((96, 128), 20.0)
    depth[40:60, 50:80] = 5.0
    nearness = (5.0 / depth).astype(np.float32)
    columns = source_columns(nearness, shift, mirror=True)
    img = np.where(depth == 5, 200, 50).astype(np.uint8)
    rows = np.ascontiguousarray(np.indices(img.shape)[0].astype(np.float32))
    out = cv2.remap(img, columns, rows, cv2.INTER_NEAREST)
    x = 50 + int(shift)
    assert (out[40:60, x : x + 30] == 200).all()  # 5 m: the whole shift
    assert (out == 200).sum() == 20 * 30  # moved, not doubled
    np.testing.assert_allclose(columns[0], np.arange(128) - shift / 4)  # 20 m: a fourth


def test_what_is_uncovered_is_mirrored_or_has_no_source():
    nearness = np.zeros((1, 12), np.float32)
    nearness[0, 6:9] = 1
    mirrored = source_columns(nearness, 3.0, mirror=True)
    assert mirrored[0].tolist() == [0, 1, 2, 3, 4, 5, 4, 3, 2, 6, 7, 8]
    open_ = source_columns(nearness, 3.0, mirror=False)
    assert (open_[0, 6:9] < -100).all()
    left = source_columns(nearness[:, ::-1], -3.0, mirror=True)
    np.testing.assert_array_equal(left, 11 - mirrored[:, ::-1])


@given(seed=st.integers(0, 10**6), shift=st.floats(-30, 30), width=st.integers(1, 24))
def test_columns_agree_with_moving_pixel_by_pixel(seed, shift, width):
    """Painter's algorithm, one pixel at a time, far to near."""
    nearness = np.random.default_rng(seed).choice([0, 0.2, 0.5, 1], (3, width))
    nearness = nearness.astype(np.float32)
    # half-way between two places, either is right
    assume((np.abs(shift * nearness % 1 - 0.5) > 1e-4).all())
    columns = source_columns(nearness, shift, mirror=False)
    for near, found in zip(nearness, columns, strict=True):
        seen = {}
        for x in sorted(range(width), key=lambda x: (near[x], -x * np.sign(shift))):
            seen[int(np.rint(np.float64(x) + shift * near[x]))] = x
        for place, x in seen.items():
            if 0 <= place < width:
                assert found[place] == pytest.approx(place - shift * near[x], abs=1e-4)


def test_without_depth_map_the_ground_is_flat_and_objects_stand_on_it():
    """Rows move by their distance to the horizon, a box as its lowest row."""
    results = sample(101, 128, gt_bboxes=np.array([(40, 30, 60, 76.0)]))
    results['imgs']['rgb'] = spot(50, 60, 101)
    transform = RandomMisalignment('parallax', 10, horizon=0.5)
    nearness = transform._nearness(results, 101, 128)
    assert nearness[:30].max() == 0  # sky, and far away
    assert nearness[100, 0] == 1
    assert nearness[60, 0] == pytest.approx(0.2)
    assert (nearness[30:76, 40:60] == nearness[75, 0]).all()
    assert nearness[75, 0] == pytest.approx(0.5)

    np.random.seed(3)  # noqa: NPY002
    out = transform(results)
    shift = out['misalignment'][0]['near_shift']
    expected = (50 + shift * 0.5, 60)
    np.testing.assert_allclose(centroid(out['imgs']['rgb']), expected, atol=0.05)


def test_masks_move_alone_and_the_nearest_counts():
    masks = np.zeros((2, 101, 128), np.uint8)
    masks[0, 40:76, 10:30] = 1
    masks[1, 20:101, 20:25] = 1
    results = sample(101, 128, gt_masks=SimpleNamespace(to_ndarray=lambda: masks))
    nearness = RandomMisalignment('parallax', horizon=0.5)._nearness(results, 101, 128)
    assert nearness[50, 15] == pytest.approx(0.5)
    assert nearness[50, 22] == 1
    assert nearness[50, 31] == 0
    masks = np.zeros((0, 101, 128), np.uint8)
    results['gt_masks'] = SimpleNamespace(to_ndarray=lambda: masks)
    nearness = RandomMisalignment('parallax', horizon=0.5)._nearness(results, 101, 128)
    assert nearness[50].max() == 0


def test_unknown_depth_is_far():
    depth = np.array([[np.nan, 0, -1, np.inf, 5, 10]] * 8)
    results = sample(8, 6, gt_depth_map=depth)
    nearness = RandomMisalignment('parallax')._nearness(results, 8, 6)
    assert nearness[0].tolist() == [0, 0, 0, 0, 1, 0.5]


def test_a_real_box_type_of_a_host_works():
    boxes = pytest.importorskip('mmdet.structures.bbox').HorizontalBoxes
    results = sample(gt_bboxes=boxes([[5.0, 20, 30, 90]]))
    plain = sample(gt_bboxes=np.array([(5.0, 20, 30, 90)]))
    one, other = (moved(r, kind='parallax', amount=9) for r in (results, plain))
    np.testing.assert_array_equal(one['imgs']['rgb'], other['imgs']['rgb'])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(kind='twist'), r"kind must be one of .*'twist'"),
        (dict(border='wrap'), r"border must be one of .*'wrap'"),
        (dict(amount=-1), r'amount=-1 must be at least 0'),
        (dict(prob=2), r'prob=2'),
        (dict(horizon=1), r'horizon=1'),
    ],
)
def test_senseless_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RandomMisalignment(**options)


def test_samples_that_do_not_fit_are_refused():
    with pytest.raises(PairError, match='not a paired sample'):
        moved(dict(img=np.zeros((8, 8, 3))))
    with pytest.raises(PairError, match="unknown modality 'nir'"):
        moved(sample(), modality='nir')
    with pytest.raises(PairError, match='fold a 128x96 image'):
        moved(sample(), kind='homography', amount=24)
    with pytest.raises(PairError, match=r'depth map .* \(9, 9\).*\(96, 128\)'):
        moved(sample(gt_depth_map=np.ones((9, 9))), kind='parallax')
    with pytest.raises(PairError, match=r'gt_bboxes has shape \(1, 5\)'):
        moved(sample(gt_bboxes=np.ones((1, 5))), kind='parallax')
    wrong = SimpleNamespace(to_ndarray=lambda: np.ones((1, 9, 9)))
    with pytest.raises(PairError, match=r'gt_masks are 9x9'):
        moved(sample(gt_masks=wrong), kind='parallax')
