"""Metric losses against closed forms, loops and finite differences."""

import math

import pytest
import torch

from mmir.reid import CenterLoss, HardTripletLoss, WRTLoss
from mmir.utils.errors import UserError

LINE = torch.tensor([[0.0], [1.0], [3.0], [5.0]], dtype=torch.float64)
PAIRS = torch.tensor([0, 0, 1, 1])
LOSSES = {
    'wrt': WRTLoss(),
    'squared': WRTLoss(squared=True),
    'legacy': WRTLoss(legacy=True),
    'hard': HardTripletLoss(),
}


@pytest.fixture
def batch():
    """Features (12, 5) of four identities, not in blocks."""
    random = torch.Generator().manual_seed(2)
    features = torch.randn(12, 5, generator=random, dtype=torch.float64)
    return features.requires_grad_(), torch.arange(12) % 4


def loop(features, labels, kind):
    """The losses one anchor after the other, by the formulas."""
    x, ids = features.detach().tolist(), labels.tolist()
    total = 0.0
    for i, a in enumerate(x):
        d = [math.dist(a, b) for b in x]
        far = [d[j] for j in range(len(x)) if ids[j] == ids[i]]
        near = [d[j] for j in range(len(x)) if ids[j] != ids[i]]
        if kind == 'hard':
            total += max(0.0, 0.3 + max(far) - min(near))
            continue
        eps, shift = (1e-6, max(far)) if kind == 'legacy' else (0.0, max(far))
        up = [math.exp(v - shift) for v in far]
        shift = 0.0 if kind == 'legacy' else min(near)
        down = [math.exp(shift - v) for v in near]
        f = sum(w * v for w, v in zip(up, far, strict=True)) / (sum(up) + eps)
        n = sum(w * v for w, v in zip(down, near, strict=True)) / (sum(down) + eps)
        gap = f - n
        gap = gap * abs(gap) if kind == 'squared' else gap
        total += math.log1p(math.exp(gap))
    return total / len(x)


@pytest.mark.parametrize('kind', LOSSES)
def test_losses_equal_a_loop(batch, kind):
    found = LOSSES[kind](*batch)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(loop(*batch, kind), rel=1e-12)


@pytest.mark.parametrize('kind', LOSSES)
def test_gradients_equal_finite_differences(batch, kind):
    features, labels = batch
    assert torch.autograd.gradcheck(lambda x: LOSSES[kind](x, labels), features)


def test_four_points_on_a_line():
    assert WRTLoss()(LINE, PAIRS).item() == pytest.approx(0.2070137, abs=5e-8)
    legacy = WRTLoss(legacy=True)(LINE, PAIRS)
    assert legacy.item() == pytest.approx(0.2070196, abs=5e-8)
    assert HardTripletLoss(0.3)(LINE, PAIRS).item() == pytest.approx(0.075)


@pytest.mark.parametrize('squared', [False, True])
def test_equal_features_give_ln_2_and_no_gradient(squared):
    features = torch.ones(6, 3, requires_grad=True)
    loss = WRTLoss(squared)(features, torch.arange(6) % 2)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert features.grad.abs().max() == 0


def test_the_released_code_only_contracts_far_features():
    """With 2048 channels; the gradient points away from the mean."""
    random = torch.Generator().manual_seed(0)
    x = 0.3 * torch.randn(64, 2048, generator=random)
    labels = torch.arange(8).repeat_interleave(8)
    cosine = {}
    for legacy in (False, True):
        features = x.clone().requires_grad_()
        loss = WRTLoss(legacy=legacy)(features, labels)
        loss.backward()
        centered = (x - x.mean(0)).flatten()
        cosine[legacy] = torch.cosine_similarity(
            features.grad.flatten(), centered, dim=0
        )
        assert (loss > 10) == legacy
    assert cosine[True] > 0.99
    assert cosine[False].abs() < 0.2


def test_the_squared_release_has_no_gradient_beyond_a_gap_of_9():
    x = torch.tensor([[0.0], [20.0], [5.0], [26.0]], dtype=torch.float64)
    grads = {}
    for legacy in (False, True):
        features = x.clone().requires_grad_()
        WRTLoss(squared=True, legacy=legacy)(features, PAIRS).backward()
        grads[legacy] = features.grad.abs().max()
    assert grads[True] < 1e-9 < 1 < grads[False]


@pytest.mark.parametrize('kind', LOSSES)
def test_a_single_identity_gives_0(kind):
    features = torch.randn(4, 3, requires_grad=True)
    loss = LOSSES[kind](features, torch.zeros(4, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert features.grad.abs().max() == 0


@pytest.mark.parametrize('kind', LOSSES)
def test_half_precision_is_computed_in_float32(batch, kind):
    features = batch[0].detach().half()
    found = LOSSES[kind](features, batch[1])
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(
        LOSSES[kind](features.float(), batch[1]).item()
    )


@pytest.mark.parametrize('make', [WRTLoss, HardTripletLoss])
def test_weights_of_losses(batch, make):
    assert make(loss_weight=0.5)(*batch).item() == pytest.approx(
        make()(*batch).item() / 2
    )


def test_maps_are_refused():
    with pytest.raises(UserError, match='pool the feature map'):
        WRTLoss()(torch.zeros(2, 3, 4, 4), torch.zeros(2))


def test_center_loss_by_hand():
    loss = CenterLoss(3, 2, rate=0.5)
    x = torch.tensor([[2.0, 0.0], [4.0, 0.0], [0.0, 6.0]], requires_grad=True)
    labels = torch.tensor([0, 0, 2])
    first = loss(x, labels)
    first.backward()
    assert first.item() == pytest.approx((4 + 16 + 36) / 6)
    torch.testing.assert_close(x.grad, x.detach() / 3)
    # (2 + 4) / (1 + 2) / 2 and 6 / (1 + 1) / 2
    expected = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.5]])
    torch.testing.assert_close(loss.centers, expected)
    second = loss(x, labels).item()
    assert second == pytest.approx((1 + 9 + 4.5**2) / 6)


def test_centers_move_in_training_only():
    loss = CenterLoss(3, 2).eval()
    loss(torch.ones(2, 2), torch.tensor([0, 1]))
    assert loss.centers.abs().sum() == 0
    with torch.no_grad():
        loss.train()(torch.ones(2, 2), torch.tensor([0, 1]))
    assert loss.centers.abs().sum() == 0
    with pytest.raises(UserError, match='in_channels=2'):
        loss(torch.ones(2, 5), torch.tensor([0, 1]))
