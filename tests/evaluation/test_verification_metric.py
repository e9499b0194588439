"""`VerificationMetric`: ROC points, ties, rank-1, refusals."""

import numpy as np
import pytest
import torch

from mmir.evaluation import VerificationMetric
from mmir.evaluation.verification_metric import rate_at, roc
from mmir.utils.errors import UserError


def samples(angles: dict[str, list[tuple[int, float]]]) -> list[dict]:
    """Faces as directions in the plane: modality -> (identity, degrees)."""
    found = []
    for modality, faces in angles.items():
        for k, (pid, angle) in enumerate(faces):
            turn = np.deg2rad(angle)
            feature = 3.0 * torch.tensor([np.cos(turn), np.sin(turn)])
            path = f'{modality}{k}'
            fields = dict(pid=pid, cam_id=1, modality=modality, img_path=path)
            found.append(dict(feature=feature, **fields))
    return found


def run(faces: list[dict], size: int | None = None, **options: object) -> dict:
    metric = VerificationMetric(**options)
    metric.process({}, faces[:3])
    metric.process({}, faces[3:])
    return metric.evaluate(len(faces) if size is None else size)


FACES = dict(rgb=[(1, 0), (2, 90), (3, 180)], ir=[(1, 10), (2, 40), (3, 170)])


def test_by_hand() -> None:
    """Distances in degrees: same 10, 50, 10; others 80, 170, 40, 140, 170, 80."""
    found = run(samples(FACES), rates=(1e-3, 1 / 6, 0.4))
    assert found == {
        'R1': pytest.approx(200 / 3),  # probe 2 is nearer to face 1
        'VR@FAR=0.001': pytest.approx(200 / 3),
        'VR@FAR=0.166667': pytest.approx(100),  # at 50 degrees, 40 was accepted
        'VR@FAR=0.4': pytest.approx(100),
    }


def test_roc_against_counting() -> None:
    rng = np.random.default_rng(0)
    scores, same = rng.integers(0, 9, 200) / 9, rng.random(200) < 0.3
    false, true = roc(scores, same)
    steps = np.unique(scores)[::-1]
    assert len(false) == len(steps) + 1
    for k, step in enumerate(steps, 1):
        assert false[k] == ((scores >= step) & ~same).sum() / (~same).sum()
        assert true[k] == ((scores >= step) & same).sum() / same.sum()
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)


def test_the_nearest_point_counts_and_the_higher_of_two() -> None:
    false, true = np.array([0, 0, 0.2, 0.4, 1]), np.array([0, 0.3, 0.5, 0.7, 1])
    assert rate_at(false, true, 0.001) == 0.3
    assert rate_at(false, true, 0.25) == 0.5
    assert rate_at(false, true, 0.3) == 0.7
    assert rate_at(false, true, 0.9) == 1


def test_padding_counts_once_and_lengths_do_not_matter() -> None:
    faces = samples(FACES)
    expected = run(faces)
    again = [dict(f, feature=7 * f['feature']) for f in faces]
    assert run([*again, again[0]], size=6) == pytest.approx(expected)


def test_bad_data_is_refused() -> None:
    faces = samples(FACES)
    with pytest.raises(UserError, match='list every image once'):
        run(faces, size=7)
    with pytest.raises(UserError, match='0 images are infrared'):
        run(faces[:3])
    with pytest.raises(UserError, match='lack pid'):
        run([{k: v for k, v in f.items() if k != 'pid'} for f in faces])
    with pytest.raises(UserError, match='pairs of both kinds'):
        run([dict(f, pid=1) for f in faces])
    with pytest.raises(UserError, match='between 0 and 1'):
        VerificationMetric(rates=[0.01, 1])
