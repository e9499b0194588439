"""Features are evaluated like their distances, trial by trial."""

import numpy as np
import pytest
import torch

from mmir.evaluation import cosine_distances, rank_features, rank_metrics, rerank


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(9, 8))
    sides = []
    for number, cams in ((40, (3, 6)), (70, (1, 2, 4, 5))):
        ids = rng.integers(0, 9, number)
        features = centers[ids] + rng.normal(size=(number, 8))
        sides.append((torch.tensor(features), (ids, rng.choice(cams, number))))
    galleries = [rng.permutation(70)[:30] for _ in range(3)]
    return sides, galleries


def test_cosine_distances():
    query = torch.tensor([[3.0, 0.0], [1.0, 1.0]])
    gallery = torch.tensor([[2.0, 0.0], [0.0, -5.0], [-1.0, 1.0]])
    got = cosine_distances(query, gallery)
    half = 0.5**0.5
    torch.testing.assert_close(got, torch.tensor([[-1, 0, half], [-half, half, 0]]))
    assert got.t().is_contiguous()


@pytest.mark.parametrize('reranked', [False, True])
def test_equals_the_evaluation_of_each_trial(case, reranked):
    ((query, asked), (gallery, listed)), galleries = case
    name = 'sysu_all_agw'
    got = rank_features(query, gallery, asked, listed, name, galleries, reranked)
    for trial, index in zip(got.trials, galleries, strict=True):
        ids, cams = (labels[index] for labels in listed)
        a, b = (torch.nn.functional.normalize(f) for f in (query, gallery[index]))
        distances = rerank(a.float(), b.float()) if reranked else -a @ b.t()
        one = rank_metrics(distances, asked[0], ids, asked[1], cams, name)
        assert trial == pytest.approx(one.trials[0], abs=1e-12)
    assert got.trials[0] != got.trials[1]
