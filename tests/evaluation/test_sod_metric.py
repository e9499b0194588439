"""Measures of salient-object detection: closed forms and the papers' formulas."""

import sys
import warnings

import numpy as np
import pytest
import torch
from mmengine.registry import METRICS
from mmengine.structures import BaseDataElement, PixelData

from mmir.evaluation import SODMetric
from mmir.evaluation.sod_metric import MEASURES

pytest.importorskip('py_sod_metrics')


def blob(size=(20, 30)):
    mask = np.zeros(size, bool)
    mask[5:12, 8:21] = True
    return mask


def noisy(mask, seed=0):
    rng = np.random.default_rng(seed)
    return np.clip(0.7 * mask + 0.15 + 0.3 * rng.normal(size=mask.shape), 0, 1)


def element(saliency, mask):
    data = np.asarray(saliency)
    data = data[None] if data.ndim == 2 else data
    return BaseDataElement(
        metainfo=dict(img_path='frame.png'),
        seg_logits=PixelData(data=torch.tensor(data)),
        gt_sem_seg=PixelData(data=torch.tensor(mask.astype('u1'))[None]),
    ).to_dict()


def run(*pairs, **options):
    metric = SODMetric(**options)
    for pair in pairs:
        metric.process({}, [element(*pair)])
    return metric.evaluate(len(pairs))


def test_a_perfect_map():
    mask = blob()
    n = mask.size
    got = run((mask.astype(float), mask), measures=MEASURES)
    assert list(got) == list(MEASURES)
    # E is a sum divided by N - 1, as its authors do. At the threshold 0 everything is
    # foreground, which has no variance: a quarter.
    e = n / (n - 1)
    wanted = dict(S=1, wF=1, MAE=0, adpE=e, maxE=e, adpF=1, maxF=1)
    for name, value in wanted.items():
        assert got[name] == pytest.approx(value, abs=1e-9), name
    assert got['meanE'] == pytest.approx((255 * e + e / 4) / 256)
    precision = mask.mean()
    lowest = 1.3 * precision / (0.3 * precision + 1)
    assert got['meanF'] == pytest.approx((255 + lowest) / 256)


def test_an_inverted_map():
    mask = blob()
    got = run(((~mask).astype(float), mask))
    assert got['MAE'] == 1
    assert got['S'] == pytest.approx(0, abs=1e-9)
    assert got['wF'] == pytest.approx(0, abs=1e-9)
    # all anti-aligned (0) but for the threshold 0 (a quarter)
    assert got['meanE'] == pytest.approx(mask.size / (mask.size - 1) / 4 / 256)


@pytest.mark.parametrize('value', [0.0, 0.25, 1.0])
def test_a_constant_map_stays(value):
    """Object part: 2 c / (c^2 + 1) in the object, likewise 1 - c outside."""
    mask = blob()
    got = run((np.full(mask.shape, value), mask))
    area = mask.mean()
    assert got['MAE'] == pytest.approx(area * (1 - value) + (1 - area) * value)

    def score(mean):
        return 2 * mean / (mean**2 + 1)

    objects = area * score(value) + (1 - area) * score(1 - value)
    assert got['S'] == pytest.approx(
        0.5 * objects + 0.5 * region(np.full(mask.shape, value), mask), abs=1e-9
    )


def region(saliency, mask):
    """Region part of the S-measure (Fan et al., ICCV 2017), section 3.2.

    The center of the object splits the image; the parts are compared by SSIM and
    weighted by area.
    """
    rows, cols = np.nonzero(mask)
    y, x = (
        round(rows.mean()) + 1,
        round(cols.mean()) + 1,
    )  # the pixel belongs to the left
    total = 0.0
    for vertical in (slice(None, y), slice(y, None)):
        for horizontal in (slice(None, x), slice(x, None)):
            p = saliency[vertical, horizontal].ravel()
            g = mask[vertical, horizontal].ravel().astype(float)
            cov = np.cov(p, g)
            above = 4 * p.mean() * g.mean() * cov[0, 1]
            below = (p.mean() ** 2 + g.mean() ** 2) * (cov[0, 0] + cov[1, 1])
            ssim = above / below if above else float(below == 0)
            total += ssim * p.size / mask.size
    return total


def s_measure(saliency, mask):
    """S-measure with alpha = 0.5, from the paper."""

    def score(values):
        return 2 * values.mean() / (values.mean() ** 2 + 1 + values.std(ddof=1))

    area = mask.mean()
    inside, outside = score(saliency[mask]), score(1 - saliency[~mask])
    objects = area * inside + (1 - area) * outside
    return 0.5 * objects + 0.5 * region(saliency, mask)


def e_measure(saliency, mask):
    """Mean over 256 thresholds, from the alignment matrix of the paper."""
    values = []
    for threshold in range(256):
        p = (np.floor(saliency * 255) >= threshold).astype(float)
        a, b = p - p.mean(), mask - mask.mean()
        align = 2 * a * b / (a**2 + b**2 + 1e-16)
        values.append(((align + 1) ** 2 / 4).sum() / (mask.size - 1))
    return np.mean(values)


def stretched(saliency):
    return (saliency - saliency.min()) / (saliency.max() - saliency.min())


@pytest.mark.parametrize('normalize', [True, False])
def test_equals_the_formulas(normalize):
    mask = blob()
    saliency = 0.2 + 0.6 * noisy(mask)
    got = run((saliency, mask), normalize=normalize)
    seen = stretched(saliency) if normalize else saliency
    assert got['MAE'] == pytest.approx(np.abs(seen - mask).mean())
    assert got['S'] == pytest.approx(s_measure(seen, mask))
    assert got['meanE'] == pytest.approx(e_measure(seen, mask))
    assert 0 < got['wF'] < 1


def test_weighted_f_of_distant_false_alarms():
    """Far from the object an error weighs up to twice (Margolin et al., eq. 9)."""
    mask = np.zeros((40, 60), bool)
    mask[10:20, 10:20] = True
    saliency = mask.astype(float)
    saliency[15, 50] = 1  # at distance 31 from column 19
    error = 2 - 0.5 ** (31 / 5)
    precision = 100 / (100 + error)
    got = run((saliency, mask), measures=['wF'])
    assert got['wF'] == pytest.approx(2 * precision / (precision + 1))


def test_averages_over_images_and_curves():
    mask = blob()
    pairs = [(noisy(mask, seed), mask) for seed in range(3)]
    got = run(*pairs, measures=MEASURES)
    each = [run(pair, measures=MEASURES) for pair in pairs]
    for name in MEASURES:
        mean = np.mean([values[name] for values in each])
        if name.startswith('max'):  # the best threshold for all, not for each
            assert got[name] <= mean + 1e-12
        else:
            assert got[name] == pytest.approx(mean)


def test_an_image_without_salient_object():
    mask = np.zeros((9, 12), bool)
    got = run((np.full(mask.shape, 0.25), mask))
    assert got['S'] == got['MAE'] + 0.5 == 0.75
    assert got['wF'] == 0


def test_two_channels_are_logits():
    mask = blob()
    saliency = np.clip(noisy(mask), 0.01, 0.99)
    odds = np.log(saliency / (1 - saliency))
    two = np.stack([-odds / 2, odds / 2])
    assert run((two, mask)) == pytest.approx(run((saliency, mask)))


@pytest.mark.parametrize(
    ('saliency', 'mask', 'said'),
    [
        (np.full((4, 4), 3.0), np.eye(4), 'ranges from 3 to 3, not from 0 to 1'),
        (np.full((4, 4), np.nan), np.eye(4), 'ranges from nan'),
        (np.zeros((8, 4)), np.eye(4), r'mask is \(4, 4\), but the map is \(8, 4\)'),
        (np.zeros((4, 4)), 255 * np.eye(4), r'holds \[  0 255\].*LoadSaliencyMask'),
        (np.zeros((3, 4, 4)), np.eye(4), 'one or two channels'),
    ],
)
def test_bad_maps_and_masks_are_named(saliency, mask, said):
    with pytest.raises(ValueError, match=rf'frame\.png: .*{said}'):
        run((saliency, mask))


def test_options():
    for bad in ('S', [], ['S', 'Q']):
        with pytest.raises(ValueError, match='measures must be some of'):
            SODMetric(measures=bad)
    metric = METRICS.build(dict(type='mmir.SODMetric', prefix='vt821'))
    metric.process({}, [element(blob().astype(float), blob())])
    assert [*metric.evaluate(1)] == [f'vt821/{n}' for n in ('S', 'wF', 'meanE', 'MAE')]


def test_nothing_is_deprecated():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        found = run((noisy(blob()), blob()), measures=MEASURES)
    assert len(found) == len(MEASURES)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, 'py_sod_metrics', None)
    with pytest.raises(ImportError, match=r'pip install "openmmir\[sod\]"'):
        SODMetric()
