"""Distillation losses against their formulas in NumPy, and by hand."""

import numpy as np
import pytest
import torch

from mmir.registry import MODELS
from mmir.seg import SpectralDistillLoss
from mmir.utils.errors import UserError

KINDS = ('cos', 'mse', 'l1', 'kl', 'cwd', 'at')


def log_softmax(x):
    x = x - x.max()
    return x - np.log(np.exp(x).sum())


def reference(kind, a, b, t=None):
    """The formulas of the docstring, pixel by pixel, in float64."""
    n, c, h, w = a.shape
    pixels = [
        (i, slice(None), y, x) for i in range(n) for y in range(h) for x in range(w)
    ]
    planes = [(i, k) for i in range(n) for k in range(c)]

    def divergence(u, v, temperature):
        u, v = log_softmax(u / temperature), log_softmax(v / temperature)
        return temperature**2 * (np.exp(v) * (v - u)).sum()

    if kind == 'cos':
        dots = [
            a[p] @ b[p] / np.linalg.norm(a[p]) / np.linalg.norm(b[p]) for p in pixels
        ]
        return 2 - 2 * np.mean(dots)
    if kind == 'mse':
        return np.mean((a - b) ** 2)
    if kind == 'l1':
        return np.mean(abs(a - b))
    if kind == 'kl':
        return np.mean([divergence(a[p], b[p], t or 1) for p in pixels])
    if kind == 'cwd':
        per = [divergence(a[p].ravel(), b[p].ravel(), t or 4) for p in planes]
        return np.sum(per) / c / n
    total = 0.0
    for i in range(n):
        one, two = (x[i].__pow__(2).mean(0) for x in (a, b))
        one, two = (x / np.sqrt((x**2).sum()) for x in (one, two))
        total += ((one - two) ** 2).sum() / (h * w)
    return total / n


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, 5, 3, 4)), rng.normal(size=(2, 5, 3, 4))


@pytest.mark.parametrize('kind', KINDS)
def test_equals_the_formula(maps, kind):
    a, b = map(torch.tensor, maps)
    got = SpectralDistillLoss(kind)(a, b)
    assert got.item() == pytest.approx(reference(kind, *maps), rel=1e-12)
    half = SpectralDistillLoss(kind, weight=0.5)([a, b], [b, b])
    assert half.item() == pytest.approx(got.item() / 4, rel=1e-12)


@pytest.mark.parametrize('kind', ['kl', 'cwd'])
def test_temperature(maps, kind):
    a, b = map(torch.tensor, maps)
    got = SpectralDistillLoss(kind, temperature=2.5)(a, b)
    assert got.item() == pytest.approx(reference(kind, *maps, t=2.5), rel=1e-12)


def test_by_hand():
    """Right angle: 2. KL of (1/2, 1/2) to (3/4, 1/4): ln(4/3) / 2."""
    a = torch.tensor([3.0, 0.0]).view(1, 2, 1, 1)
    b = torch.tensor([0.0, 0.1]).view(1, 2, 1, 1)
    assert SpectralDistillLoss('cos')(a, b).item() == pytest.approx(2, rel=1e-6)
    assert SpectralDistillLoss('l1')(a, b).item() == pytest.approx(1.55, rel=1e-6)
    logits = torch.tensor([3.0, 1.0]).log().view(1, 2, 1, 1)
    got = SpectralDistillLoss('kl')(logits, torch.zeros(1, 2, 1, 1))
    assert got.item() == pytest.approx(np.log(4 / 3) / 2, rel=1e-6)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('fill', ['random', 'zero'])
def test_equal_maps_have_exactly_no_loss_and_no_gradient(maps, kind, fill):
    a = torch.tensor(maps[0], dtype=torch.float32).relu()
    if fill == 'zero':
        a[:, :, 0] = 0
    a.requires_grad_()
    got = SpectralDistillLoss(kind)(a, a.detach().clone())
    got.backward()
    assert got.item() == 0.0
    assert a.grad.abs().max() < 1e-7


@pytest.mark.parametrize('kind', KINDS)
def test_gradients(maps, kind):
    a, b = map(torch.tensor, maps)
    loss = SpectralDistillLoss(kind)
    assert torch.autograd.gradcheck(lambda x: loss(x, b), a.requires_grad_())


def test_a_zero_vector_has_no_direction_and_no_gradient():
    student = torch.zeros(1, 3, 1, 2)
    student[0, 0, 0, 1] = 1e-3
    student.requires_grad_()
    got = SpectralDistillLoss('cos')(student, torch.ones(1, 3, 1, 2))
    got.backward()
    assert got.item() == pytest.approx((1 + 2 - 2 / 3**0.5) / 2, rel=1e-6)
    assert (student.grad[..., 0] == 0).all()
    assert student.grad[..., 1].abs().max() > 100


@pytest.mark.parametrize('kind', ['cos', 'at'])
def test_scale_does_not_matter(maps, kind):
    a, b = map(torch.tensor, maps)
    loss = SpectralDistillLoss(kind)
    assert loss(a * 7, b * 0.2).item() == pytest.approx(loss(a, b).item(), rel=1e-12)


def test_teacher_gets_no_gradient(maps):
    a, b = (torch.tensor(x, requires_grad=True) for x in maps)
    SpectralDistillLoss()(a, b).backward()
    assert b.grad is None
    assert (a.grad != 0).all()


@pytest.mark.parametrize('kind', KINDS)
def test_autocast_and_half_precision(maps, kind):
    """The squares of 300 overflow in float16."""
    a, b = (torch.tensor(x * 300, dtype=torch.float16) for x in maps)
    with torch.autocast('cpu', torch.bfloat16):
        got = SpectralDistillLoss(kind)(a, b)
    wanted = reference(kind, a.double().numpy(), b.double().numpy())
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(wanted, rel=1e-5)


def test_refusals(maps):
    a = torch.tensor(maps[0])
    for wrong in (a[:, :4], a[..., :2], a[:1]):
        with pytest.raises(
            UserError, match=r'\(2, 5, 3, 4\).*architecture of the'
        ) as e:
            SpectralDistillLoss()(a, wrong)
        assert str(tuple(wrong.shape)) in str(e.value)
    with pytest.raises(UserError, match='architecture'):
        SpectralDistillLoss()([a, a], [a])
    with pytest.raises(UserError, match='architecture'):
        SpectralDistillLoss()([], [])
    with pytest.raises(UserError, match='same way'):
        SpectralDistillLoss()(a, [a])
    with pytest.raises(ValueError, match=r"one of .*'cwd'.* got 'fitnet'"):
        SpectralDistillLoss('fitnet')
    with pytest.raises(ValueError, match=r"only \['kl', 'cwd'\]"):
        SpectralDistillLoss('mse', temperature=2)
    for temperature in (0, -1.0):
        with pytest.raises(ValueError, match='positive'):
            SpectralDistillLoss('kl', temperature=temperature)


def test_builds_from_a_config():
    built = MODELS.build(dict(type='mmir.SpectralDistillLoss', kind='cwd', weight=2.0))
    assert (built.kind, built.weight, built.temperature) == ('cwd', 2.0, 4.0)
