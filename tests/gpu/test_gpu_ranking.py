"""Rank metrics and re-ranking are the same on CUDA and CPU."""

import pytest
import torch

from mmir.evaluation import cosine_distances, rank_metrics, rerank
from mmir.evaluation.protocols import PROTOCOLS

CASES = ('sysu_all_agw', 'regdb_rgb2ir', 'llcm_ir2rgb', 'llcm_rgb2ir_released')


def features(dtype: torch.dtype) -> list[torch.Tensor]:
    """Features of 30 identities: queries, gallery."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(30, 32, generator=generator, dtype=torch.float64)
    ids = torch.arange(300) % 30
    return [
        (centers[ids] + torch.randn(300, 32, generator=generator)).to(dtype)
        for _ in range(2)
    ]


@pytest.mark.gpu
@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('levels', [None, 8])
def test_rank_metrics(device, name, levels):
    rules = PROTOCOLS[name]
    ids = torch.arange(300) % 30
    cams = [
        torch.tensor(known or (1,))[torch.arange(300) // 30 % max(len(known), 1)]
        for known in (rules.query_cams, rules.known_cams)
    ]
    distances = cosine_distances(*features(torch.float64))
    if levels:  # ties
        distances = (distances * levels).round() / levels
    galleries = [range(0, 300, 2), range(100, 300)]
    found = [
        rank_metrics(d, ids, ids, *cams, rules, galleries)
        for d in (distances, distances.to(device))
    ]
    assert found[1].trials[0] == pytest.approx(found[0].trials[0], abs=1e-12)
    assert found[1].trials[1] == pytest.approx(found[0].trials[1], abs=1e-12)
    assert found[1].ties == found[0].ties


@pytest.mark.gpu
def test_rerank(device):
    query, gallery = features(torch.float64)
    wanted = rerank(query, gallery)
    got = rerank(query.to(device), gallery.to(device)).cpu()
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-9)
