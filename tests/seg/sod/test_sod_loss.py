"""Loss of salient-object detection against its formula, computed in NumPy."""

import numpy as np
import pytest
import torch

from mmir.seg import SODLoss


def reference(logits, label, weight):
    """The formula of the docstring, image by image, in float64."""
    total, count, overlaps = 0.0, 0.0, []
    for x, g, w in zip(logits, label, weight, strict=True):
        p = 1 / (1 + np.exp(-x))
        keep = w > 0
        p, g, w = p[keep], (g[keep] == 1).astype(float), w[keep]
        total -= (w * (g * np.log(p) + (1 - g) * np.log(1 - p))).sum()
        count += w.sum()
        both, shared = (w * (p + g)).sum(), (w * p * g).sum()
        overlaps.append(1 - (shared + 1) / (both - shared + 1))
    return total / max(count, 1) + np.mean(overlaps)


@pytest.fixture
def batch():
    rng = np.random.default_rng(3)
    return rng.normal(size=(3, 7, 5)), rng.integers(0, 2, (3, 7, 5))


def run(loss, logits, label, **options):
    x = torch.tensor(logits, dtype=torch.float32)[:, None].requires_grad_()
    return x, loss(x, torch.tensor(label), **options)


def test_equals_the_formula(batch):
    logits, label = batch
    wanted = reference(logits, label, np.ones(label.shape))
    _, got = run(SODLoss(), logits, label)
    assert got.item() == pytest.approx(wanted, rel=1e-5)
    _, half = run(SODLoss(loss_weight=0.5), logits, label)
    assert half.item() == pytest.approx(wanted / 2, rel=1e-5)


def test_one_pixel_by_hand():
    """p = 1/2, g = 1: ln 2 + 1 - (1/2 + 1) / (3/2 - 1/2 + 1) = ln 2 + 1/4."""
    _, got = run(SODLoss(), np.zeros((1, 1, 1)), np.ones((1, 1, 1), int))
    assert got.item() == pytest.approx(np.log(2) + 0.25, rel=1e-6)


def test_ignored_pixels_have_no_part_and_no_gradient(batch):
    logits, label = batch
    label[0, :3], label[2] = 255, 255
    wanted = reference(logits, label, label != 255)
    x, got = run(SODLoss(), logits, label)
    assert got.item() == pytest.approx(wanted, rel=1e-5)
    got.backward()
    ignored = torch.tensor(label == 255)[:, None]
    assert (x.grad[ignored] == 0).all()
    assert (x.grad[~ignored] != 0).all()
    _, kept = run(SODLoss(), logits, label, ignore_index=None)  # 255 is background
    whole = reference(logits, label, np.ones(label.shape))
    assert kept.item() == pytest.approx(whole, rel=1e-5)


def test_all_ignored_is_zero(batch):
    x, got = run(SODLoss(), batch[0], np.full_like(batch[1], 255))
    got.backward()
    assert got.item() == 0
    assert (x.grad == 0).all()


def test_weights(batch):
    logits, label = batch
    weight = np.random.default_rng(1).uniform(0.1, 2, label.shape)
    wanted = reference(logits, label, weight)
    options = dict(weight=torch.tensor(weight, dtype=torch.float32))
    assert run(SODLoss(), logits, label, **options)[1].item() == pytest.approx(
        wanted, rel=1e-5
    )


def test_half_precision_does_not_overflow():
    """The sum over 384 x 384 pixels exceeds the range of float16."""
    logits = torch.full((1, 1, 384, 384), 8.0, dtype=torch.float16)
    got = SODLoss()(logits, torch.ones(1, 384, 384, dtype=torch.long))
    assert got.item() == pytest.approx(2 * (1 - 1 / (1 + np.exp(-8))), rel=1e-2)


def test_refuses_two_channels():
    with pytest.raises(ValueError, match='one channel, got 2'):
        SODLoss()(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4))
