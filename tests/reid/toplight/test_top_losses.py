"""Losses of task-oriented pretraining: closed forms, gradients, the schedule."""

import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from torch import Tensor, nn

from mmir.engine import GradientReversalHook
from mmir.reid import FakeDomainLoss, IdentityConsistencyLoss


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_identity_consistency_against_its_definition() -> None:
    first, second, labels = drawn(3, 5), drawn(3, 5, seed=1), torch.tensor([0, 4, 2])
    p, q = first.softmax(1), second.softmax(1)
    chosen = torch.arange(3), labels
    ce = -(p[chosen].log() + q[chosen].log()).mean()
    kl = ((p - q) * (p / q).log()).sum(1).mean()  # both directions
    loss = IdentityConsistencyLoss()(first, second, labels)
    torch.testing.assert_close(loss, ce + kl / 2)
    plain = IdentityConsistencyLoss(consistency=0.0)(first, second, labels)
    torch.testing.assert_close(plain, ce)
    same = IdentityConsistencyLoss(consistency=9.0)(first, first, labels)
    torch.testing.assert_close(same, -2 * p[chosen].log().mean())


def test_identity_consistency_in_half_precision() -> None:
    logits = (100 * drawn(4, 6)).half()
    loss = IdentityConsistencyLoss()(logits, logits.flip(0), torch.arange(4))
    assert loss.dtype == torch.float32
    assert loss.isfinite()


def maps() -> tuple[Tensor, Tensor, Tensor]:
    is_ir = torch.tensor([False, True, True, False, True])
    inner, last = drawn(5, 4, 3, 2), drawn(5, 6, 2, 1, seed=1)
    return inner.requires_grad_(), last.requires_grad_(), is_ir


def domain_loss(weight: float = 1.0) -> FakeDomainLoss:
    torch.manual_seed(0)
    return FakeDomainLoss((4, 6), loss_weight=weight)


def test_domain_classifiers_that_know_nothing() -> None:
    """2 ln 2 for each path."""
    loss = domain_loss(0.1)
    for p in loss.parameters():
        nn.init.zeros_(p)
    assert loss(*maps()).item() == pytest.approx(0.1 * 4 * math.log(2))


def test_domain_loss_against_its_definition() -> None:
    loss, (inner, last, is_ir) = domain_loss(), maps()
    expected = 0
    for head, x in ((loss.inner, inner), (loss.last, last)):
        score = torch.sigmoid(head(x.mean((2, 3)))).flatten()
        expected -= score[is_ir].log().mean() + (1 - score[~is_ir]).log().mean()
    torch.testing.assert_close(loss(inner, last, is_ir), expected)


@pytest.mark.parametrize('rate', [1.0, 0.3])
def test_gradients_of_the_last_map_only_are_reversed(rate: float) -> None:
    loss, (inner, last, is_ir) = domain_loss(), maps()
    loss.reverse.rate = rate
    loss(inner, last, is_ir).backward()
    found = [inner.grad, last.grad, loss.inner.weight.grad, loss.last.weight.grad]
    plain, (inner, last, _) = domain_loss(), maps()
    plain.reverse = nn.Identity()
    plain(inner, last, is_ir).backward()
    torch.testing.assert_close(found[0], inner.grad)
    torch.testing.assert_close(found[1], -rate * last.grad)
    torch.testing.assert_close(found[2], plain.inner.weight.grad)
    torch.testing.assert_close(found[3], plain.last.weight.grad)


def test_a_path_without_views_adds_nothing() -> None:
    inner, last, is_ir = maps()
    loss = domain_loss()
    scores = [
        loss.inner(inner.mean((2, 3))).flatten(),
        loss.last(last.mean((2, 3))).flatten(),
    ]
    expected = sum(torch.nn.functional.softplus(-x).mean() for x in scores)
    torch.testing.assert_close(loss(inner, last, is_ir | True), expected)


def test_the_hook_raises_the_rate() -> None:
    loss = domain_loss()
    runner = SimpleNamespace(
        model=loss, iter=0, max_iters=100, message_hub=MessageHub('rates')
    )
    rates = []
    for runner.iter in (0, 10, 99):
        GradientReversalHook().before_train_iter(runner, 0)
        rates.append(loss.reverse.rate)
    expected = [math.tanh(5 * p) for p in (0, 0.1, 0.99)]
    assert rates == pytest.approx(expected)
