"""Verification: the curve by hand, against brute force, and in a metric."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.registry import METRICS

from mmir.evaluation import VerificationMetric, roc_curve, verify
from mmir.utils.errors import UserError


def test_curve_by_hand() -> None:
    # descending: 0.9 same, 0.8 different, 0.7 same and different, 0.1 different
    scores = np.array([0.7, 0.9, 0.1, 0.8, 0.7])
    same = np.array([True, True, False, False, False])
    roc = roc_curve(scores, same)
    np.testing.assert_allclose(roc.far, [0, 0, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(roc.vr, [0, 1 / 2, 1 / 2, 1, 1])


def test_nearest_point_and_ties() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    same = np.array([True, False, True, False, True, False])
    roc = roc_curve(scores, same)  # far 0, 0, 1/3, 1/3, 2/3, 2/3, 1
    assert roc.at(0.01) == pytest.approx(1 / 3)  # of (0, 0) and (0, 1/3)
    assert roc.at(0.3) == pytest.approx(2 / 3)
    assert roc.at(0.5) == 1  # as near to 1/3 as to 2/3


@given(
    st.lists(
        st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30
    ).filter(lambda rows: len({same for _, same in rows}) == 2)
)
def test_curve_is_that_of_every_threshold(rows: list[tuple[int, bool]]) -> None:
    scores, same = (np.array(column) for column in zip(*rows, strict=True))
    roc = roc_curve(scores, same)
    points = {(0.0, 0.0)}
    for threshold in set(scores.tolist()):
        accepted = scores >= threshold
        points.add((accepted[~same].mean(), accepted[same].mean()))
    assert {*zip(roc.far.tolist(), roc.vr.tolist(), strict=True)} == points
    assert (np.diff(roc.far) >= 0).all()


def test_cosine_similarity_decides() -> None:
    gallery = np.array([[1.0, 0.0], [0.0, 5.0]])
    probes = np.array([[2.0, 1.0], [1.0, 1.5], [3.0, 1.0]])
    rank1, roc = verify(probes, gallery, [7, 8, 8], [7, 8])
    assert rank1 == pytest.approx(2 / 3)
    # same: cosines 0.894, 0.832, 0.316; different: 0.447, 0.555, 0.949
    assert (roc.at(0.001), roc.at(1 / 3)) == (0, pytest.approx(2 / 3))


@pytest.mark.parametrize(
    ('scores', 'same', 'message'),
    [
        ([0.1, 0.2], [True, True], '2 of 2 pairs'),
        ([0.1, 0.2], [False, False], '0 of 2 pairs'),
        ([np.nan, 0.2], [True, False], 'NaN'),
    ],
)
def test_errors(scores, same, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        roc_curve(np.array(scores), np.array(same))


def sample(path: str, pid: int, modality: str, feature: list[float]) -> dict:
    labels = dict(img_path=path, pid=pid, modality=modality)
    return labels | dict(cam_id=1 + (modality == 'ir'), pooled=np.array(feature))


FACES = [
    sample('v0', 0, 'rgb', [1, 0]),
    sample('v1', 1, 'rgb', [0, 1]),
    sample('n0', 0, 'ir', [2, 1]),
    sample('n1', 1, 'ir', [1, 3]),
    sample('n2', 1, 'ir', [3, 2]),
]


def test_metric() -> None:
    metric = METRICS.build(dict(type='mmir.VerificationMetric', fars=[0.34]))
    for batch in (FACES[:3], FACES[3:], FACES[:1]):  # the last one is padding
        metric.process({}, batch)
    found = metric.evaluate(len(FACES))
    # n2 resembles v0. Cosines of the same: 2/sqrt5, 3/sqrt10, 2/sqrt13 = 0.55;
    # of different ones: 0.45, 0.32, 0.83. A far of 1/3 is reached at 0.83.
    assert found == {
        'face/R1': pytest.approx(200 / 3),
        'face/VR@FAR=0.34': pytest.approx(100),
    }


def test_metric_refuses_what_it_cannot_rank() -> None:
    with pytest.raises(UserError, match='between 0 and 1'):
        VerificationMetric(fars=[1.0])
    metric = VerificationMetric()
    with pytest.raises(UserError, match="adds 'pooled'"):
        metric.process({}, [dict(img_path='x')])
    metric.process({}, FACES[:2])
    with pytest.raises(UserError, match="0 of 2 test images are 'ir'"):
        metric.evaluate(2)
