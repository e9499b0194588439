"""Re-ranking equals the sets of the paper, written out one image at a time."""

import numpy as np
import pytest
import torch

from mmir.evaluation.ranking import rank_metrics
from mmir.evaluation.reranking import rerank
from mmir.utils.errors import UserError


def reference(query, gallery, k1, k2, weight):
    features = np.concatenate([query, gallery])
    n, q = len(features), len(query)
    squares = ((features[:, None] - features) ** 2).sum(-1)
    distances = squares / squares.max(1, keepdims=True)
    order = np.argsort(distances, 1, kind='stable')

    def reciprocal(i, k):
        return {j for j in order[i, : k + 1] if i in order[j, : k + 1]}

    values = np.zeros((n, n))
    for i in range(n):
        members = reciprocal(i, k1)
        for j in reciprocal(i, k1):
            other = reciprocal(j, round(k1 / 2))
            if len(other & reciprocal(i, k1)) > 2 / 3 * len(other):
                members |= other
        for j in members:
            values[i, j] = np.exp(-distances[i, j])
        values[i] /= values[i].sum()
    values = np.array([values[order[i, :k2]].mean(0) for i in range(n)])
    out = np.zeros((q, n - q))
    for i in range(q):
        for g in range(q, n):
            low = np.minimum(values[i], values[g]).sum()
            high = np.maximum(values[i], values[g]).sum()
            out[i, g - q] = (1 - weight) * (1 - low / high)
            out[i, g - q] += weight * distances[i, g]
    return out


@pytest.mark.parametrize(
    ('k1', 'k2', 'weight'), [(5, 2, 0.3), (4, 7, 0.0), (7, 1, 1.0)]
)
def test_equals_the_sets_of_the_paper(k1, k2, weight):
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(6, 8))
    query = centers[np.arange(20) % 6] + 0.4 * rng.normal(size=(20, 8))
    gallery = centers[np.arange(25) % 6] + 0.4 * rng.normal(size=(25, 8))
    got = rerank(torch.tensor(query), torch.tensor(gallery), k1, k2, weight)
    wanted = reference(query, gallery, k1, k2, weight)
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-12)


def test_it_helps_where_neighbors_agree():
    rng = np.random.default_rng(1)
    ids, cams = np.arange(200) % 20, np.ones(200)
    centers = rng.normal(size=(20, 16))
    query, gallery = (
        torch.tensor(centers[ids] + 0.9 * rng.normal(size=(200, 16))) for _ in range(2)
    )
    before = rank_metrics(torch.cdist(query, gallery), ids, ids, cams, cams, 'plain')
    after = rank_metrics(rerank(query, gallery, 10, 4), ids, ids, cams, cams, 'plain')
    assert after.mean['mAP'] > before.mean['mAP'] + 0.05


@pytest.mark.parametrize('options', [dict(k1=0), dict(weight=2.0), dict(k1=40)])
def test_bad_options_are_refused(options):
    with pytest.raises(UserError, match='re-ranking with'):
        rerank(torch.rand(20, 4), torch.rand(20, 4), **options)
