"""Principal components of features against closed forms."""

import math

import numpy as np
import pytest
import torch

from mmir.evaluation.feature_spectrum import (
    FeatureSpectrum,
    components_for,
    effective_rank,
    pca_spectrum,
)
from mmir.utils.errors import UserError


def features(count: int, channels: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(count, channels, generator=generator, dtype=torch.float64)
    return mixed @ torch.randn(channels, channels, generator=generator).double() + 3


@pytest.mark.parametrize(('count', 'channels'), [(200, 12), (7, 12), (2, 5)])
def test_spectrum_is_that_of_the_singular_values(count, channels):
    x = features(count, channels)
    values = np.linalg.svd((x - x.mean(0)).numpy(), compute_uv=False) ** 2
    expected = np.zeros(channels)
    expected[: len(values)] = values / values.sum()
    found = pca_spectrum(x)
    assert found.dtype == torch.float64
    assert found.shape == (channels,)
    assert np.allclose(found.numpy(), expected, rtol=0, atol=1e-12)
    assert (found[min(count - 1, channels) :] < 1e-14).all()


def test_batches_do_not_matter():
    x = features(301, 16)
    expected = pca_spectrum(x)
    for parts in ([1] * 301, [300, 1], [100, 0, 201]):
        result = FeatureSpectrum()
        for part in x.split(parts):
            result.update(part)
        assert result.count == 301
        torch.testing.assert_close(result.spectrum(), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        result.covariance(), torch.cov(x.T, correction=0), rtol=1e-10, atol=1e-10
    )


def test_a_large_mean_does_not_cancel():
    x = features(100, 4)
    found = FeatureSpectrum()
    for part in (x + 1e6).split(10):
        found.update(part)
    # the square of the mean is 1e12: sums of squares would keep 4 digits
    torch.testing.assert_close(found.spectrum(), pca_spectrum(x), rtol=0, atol=1e-8)


def test_tokens_of_a_batch_in_half_precision():
    x = features(12, 8).half()
    tokens = x.view(3, 4, 8).requires_grad_()
    result = FeatureSpectrum()
    result.update(tokens)
    assert result.count == 12
    assert not result.covariance().requires_grad
    torch.testing.assert_close(
        result.spectrum(), pca_spectrum(x.double()), rtol=0, atol=1e-12
    )


def test_effective_rank():
    assert effective_rank(torch.tensor([1.0, 0.0, 0.0])) == pytest.approx(1)
    assert effective_rank(torch.full((5,), 0.2)) == pytest.approx(5)
    shares = torch.tensor([0.5, 0.25, 0.25, 0.0])
    assert effective_rank(shares) == pytest.approx(2**1.5)
    # a planted rank: k orthogonal directions of equal variance
    basis = torch.linalg.qr(features(9, 9))[0][:3]
    planted = torch.cat([basis, -basis])
    assert effective_rank(pca_spectrum(planted)) == pytest.approx(3)


def test_components():
    shares = torch.tensor([0.5, 0.25, 0.15, 0.1])
    found = [components_for(shares, s) for s in (0.4, 0.5, 0.51, 0.75, 0.9, 1)]
    assert found == [1, 1, 2, 2, 3, 4]
    assert components_for(torch.tensor([1.0, 0.0])) == 1
    assert components_for(torch.full((10,), 0.1, dtype=torch.float64)) == 9
    with pytest.raises(ValueError, match=r'share 1\.5'):
        components_for(shares, 1.5)


def test_bad_features():
    with pytest.raises(UserError, match='1 features have no spectrum'):
        pca_spectrum(torch.ones(1, 3))
    with pytest.raises(UserError, match='equal'):
        pca_spectrum(torch.ones(5, 3))
    result = FeatureSpectrum()
    with pytest.raises(ValueError, match='NaN'):
        result.update(torch.full((2, 3), math.nan))
    assert result.count == 0
    result.update(features(4, 3))
    with pytest.raises(ValueError, match='5 channels after 3'):
        result.update(features(4, 5))
