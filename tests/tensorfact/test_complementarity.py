"""Forms of the complementarity loss against their formulas."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmir.tensorfact import TensorFactConv
from mmir.tensorfact.complementarity import FORMS, Complementarity, complementarity_loss

FEATURE_FORMS = [form for form in FORMS if form != 'weight']
GEOMETRIES = [
    dict(kernel_size=3, padding=1),
    dict(kernel_size=(3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
    dict(kernel_size=3, groups=2, padding='same', padding_mode='reflect'),
]
SPLITS = {
    'ts_dd': ('tsq', 'qji'),
    'td_sd': ('tjq', 'qsi'),
    't_sdd': ('tq', 'qsji'),
    'tdd_s': ('tjiq', 'qs'),
}


def random_layer(seed: int = 0, **geometry) -> TensorFactConv:
    """A layer whose two deltas are not zero, in float64."""
    torch.manual_seed(seed)
    geometry = geometry or dict(kernel_size=3, padding=1)
    layer = TensorFactConv(4, 6, rank=3, dtype=torch.float64, **geometry)
    torch.nn.init.normal_(layer.bias)
    for name in ('ir', 'night'):
        layer.augment(name, 1)
        torch.nn.init.normal_(layer.deltas[name].A)
    return layer


def kernels(layer: TensorFactConv) -> tuple[Tensor, Tensor]:
    """K and dK, by the definition of the split."""
    fold = 'tsq,qji->tsji'
    deltas = [torch.einsum(fold, d.A, d.B) for d in layer.deltas.values()]
    return torch.einsum(fold, layer.A, layer.B), sum(deltas)


def features(layer: TensorFactConv, x: Tensor) -> tuple[Tensor, Tensor]:
    base, delta = kernels(layer)
    return layer._conv_forward(x, base, None), layer._conv_forward(x, delta, None)


def pair(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    u, v = torch.randn(2, *(shape or (3, 4, 5, 6)), dtype=torch.float64).to(dtype)
    return u, v.requires_grad_()


def cosine(u: Tensor, v: Tensor) -> float:
    return F.cosine_similarity(u.flatten(), v.flatten(), dim=0).item()


@pytest.mark.parametrize('p', [1, 2])
@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_paper_is_the_norm_of_the_difference_of_both_convolutions(geometry, p):
    layer = random_layer(**geometry)
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    u, v = features(layer, x)
    base, delta = kernels(layer)
    both = layer._conv_forward(x, base - delta, None)
    value = complementarity_loss(u, v, 'paper', p=p)
    direct = -(((u - v).abs() ** p).mean() ** (1 / p))
    torch.testing.assert_close(value, direct, rtol=1e-13, atol=0)
    whole = -((both.abs() ** p).mean() ** (1 / p))
    torch.testing.assert_close(value, whole, rtol=1e-13, atol=0)
    assert value < 0


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_the_bias_is_in_neither_branch(geometry):
    layer = random_layer(**geometry)
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    for found, expected in zip(layer.branches(x), features(layer, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_cos2_by_image():
    u, v = pair()
    expected = sum(cosine(*both) ** 2 for both in zip(u, v, strict=True)) / 3
    value = complementarity_loss(u, v)
    assert value.item() == pytest.approx(expected, rel=1e-7)
    assert complementarity_loss(u, 3 * u).item() == pytest.approx(1, rel=1e-7)
    assert complementarity_loss(u, -u).item() == pytest.approx(1, rel=1e-7)
    half = torch.zeros_like(u)
    half[:, :2] = u[:, :2]
    assert complementarity_loss(half, u - half) == 0


@pytest.mark.parametrize('split', SPLITS)
@pytest.mark.parametrize('ranks', [(1,), (2, 3)])
def test_weight_is_the_cosine_of_the_kernels_for_every_split(split, ranks):
    sizes = dict(t=5, s=4, j=3, i=2)
    torch.manual_seed(2)

    def factors(rank: int) -> tuple[Tensor, Tensor]:
        size = {**sizes, 'q': rank}
        left, right = ([size[k] for k in part] for part in SPLITS[split])
        return torch.randn(left).double(), torch.randn(right).double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.einsum(f'{",".join(SPLITS[split])}->tsji', a, b)

    base, deltas = factors(2), [factors(rank) for rank in ranks]
    value = Complementarity('weight').of_factors(base, deltas)
    expected = cosine(kernel(*base), sum(kernel(*d) for d in deltas)) ** 2
    assert value.item() == pytest.approx(expected, rel=1e-6)
    itself = Complementarity('weight').of_factors(base, [base])
    assert itself.item() == pytest.approx(1, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    base=st.floats(-12, 12),
    delta=st.floats(-12, 12),
    like=st.sampled_from([0.0, 0.5, 1.0]),
    p=st.sampled_from([1, 2]),
)
def test_bounds(seed, base, delta, like, p):
    torch.manual_seed(seed)
    u, v = torch.randn(2, 2, 3, 4, 4)
    u = u * 10**base
    v = ((1 - like) * v * 10**delta + like * u).requires_grad_()
    options = {'paper': dict(p=p)}
    high = {'cos2': 1, 'paper': 0}
    low = {'cos2': 0, 'paper': -10 * u.abs().mean()}
    for form in FEATURE_FORMS:
        loss = complementarity_loss(u, v, form, **options.get(form, {}))
        assert low[form] * (1 + 1e-5) <= loss <= high[form] * (1 + 1e-5)
        (grad,) = torch.autograd.grad(loss, v)
        assert grad.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize('form', FEATURE_FORMS)
@pytest.mark.parametrize('case', ['v=0', 'u=v', 'u=0', 'both=0', 'huge'])
def test_finite_where_norms_vanish(case, form, dtype):
    u, v = (t.detach() for t in pair(dtype=dtype))
    u, v = {
        'v=0': (u, v * 0),
        'u=v': (u, u),
        'u=0': (u * 0, v),
        'both=0': (u * 0, v * 0),
        'huge': (u * 1e4, v * 1e4),
    }[case]
    v = v.clone().requires_grad_()
    loss = complementarity_loss(u, v, form)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    loss.backward()
    assert v.grad.isfinite().all()
    if case == 'v=0' and form == 'cos2':
        assert loss == 0
        assert not v.grad.any()


@pytest.mark.parametrize('which', ['delta', 'base', 'both'])
def test_weight_is_finite_for_factors_of_zeros(which):
    layer = random_layer()
    pairs = [(d.A, d.B) for d in layer.deltas.values()]
    with torch.no_grad():
        if which != 'base':
            layer.deltas.ir.A.zero_(), layer.deltas.night.A.zero_()
        if which != 'delta':
            layer.A.zero_()
    loss = Complementarity('weight').of_factors((layer.A, layer.B), pairs)
    loss.backward()
    assert loss == 0
    for tensor in sum(pairs, ()):
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize('scale', [0.05, 0.5, 20, -3])
def test_cosines_do_not_depend_on_the_scale_of_the_base(scale):
    layer = random_layer()
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    pairs = [(d.A, d.B) for d in layer.deltas.values()]
    before = complementarity_loss(*features(layer, x))
    weight = Complementarity('weight').of_factors((layer.A, layer.B), pairs)
    with torch.no_grad():
        layer.A *= scale
    after = complementarity_loss(*features(layer, x))
    torch.testing.assert_close(after, before, rtol=1e-5, atol=0)
    scaled = Complementarity('weight').of_factors((layer.A, layer.B), pairs)
    torch.testing.assert_close(scaled, weight, rtol=1e-5, atol=0)


def test_only_the_delta_receives_a_gradient():
    layer = random_layer()
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    for form in FORMS:
        layer.zero_grad()
        if form == 'weight':
            pairs = [(d.A, d.B) for d in layer.deltas.values()]
            Complementarity(form).of_factors((layer.A, layer.B), pairs).backward()
        else:
            complementarity_loss(*features(layer, x), form).backward()
        assert layer.A.grad is None
        assert layer.B.grad is None
        assert layer.bias.grad is None
        for delta in layer.deltas.values():
            assert delta.A.grad.abs().sum() > 0, form
            assert delta.B.grad.abs().sum() > 0, form


def test_paper_ends_with_its_gradient():
    u, v = pair()
    v = (v.detach() * 100).requires_grad_()
    loss = complementarity_loss(u, v, 'paper', max_ratio=4)
    assert loss.item() == pytest.approx(-4 * u.abs().mean().item())
    loss.backward()
    assert not v.grad.any()


@pytest.mark.parametrize('form', FEATURE_FORMS)
def test_one_image_and_no_image(form):
    u, v = pair(1, 4, 5, 6)
    batch = complementarity_loss(u, v, form)
    assert complementarity_loss(u[0], v[0], form) == batch
    none = complementarity_loss(u[:0], v[:0], form)
    none.backward()
    assert none == 0
    assert not v.grad.any()


def test_precision_under_autocast():
    layer = random_layer().float()
    pairs = [(d.A, d.B) for d in layer.deltas.values()]
    u, v = pair(dtype=torch.bfloat16)
    exact = Complementarity('weight').of_factors((layer.A, layer.B), pairs)
    with torch.autocast('cpu', torch.bfloat16):
        inside = Complementarity('weight').of_factors((layer.A, layer.B), pairs)
        values = [complementarity_loss(u, v, form) for form in FEATURE_FORMS]
    assert torch.equal(inside, exact)
    for form, value in zip(FEATURE_FORMS, values, strict=True):
        assert value.dtype == torch.float32
        assert torch.equal(value, complementarity_loss(u.float(), v.float(), form))


def descend(form: str, **options) -> tuple[float, float, float]:
    """cos(u, v) before and after Adam on the loss alone, and |v| / |u| after it."""
    torch.manual_seed(3)
    layer = TensorFactConv(16, 16, 3, padding=1, rank=2).augment('ir', 2)
    torch.nn.init.normal_(layer.deltas.ir.A, std=0.05)
    x = torch.randn(2, 16, 8, 8)
    delta, loss = layer.deltas.ir, Complementarity(form, **options)
    optimizer = torch.optim.Adam(delta.parameters(), lr=0.01)
    angles = []
    for _ in range(300):
        optimizer.zero_grad()
        u, v = (
            F.conv2d(x, torch.einsum('tsq,qji->tsji', m.A, m.B), padding=1)
            for m in (layer, delta)
        )
        if form == 'weight':
            value = loss.of_factors((layer.A, layer.B), [(delta.A, delta.B)])
        else:
            value = loss.of_features(u, v)
        angles.append(cosine(u, v))
        value.backward()
        optimizer.step()
    return angles[0], angles[-1], (v.norm() / u.norm()).item()


@pytest.mark.parametrize('p', [1, 2])
def test_the_published_form_turns_the_delta_against_the_base_and_grows(p):
    before, after, ratio = descend('paper', max_ratio=1e6, p=p)
    assert abs(before) < 0.1
    assert after < -0.2
    assert ratio > 10
    _, after, ratio = descend('paper', p=p)
    assert after < -0.2
    assert 5 < ratio < 15


@pytest.mark.parametrize('form', ['cos2', 'weight'])
def test_the_cosines_make_the_delta_orthogonal(form):
    _, after, ratio = descend(form)
    # What is exact for features is so for kernels up to the statistics of the input.
    assert abs(after) < (1e-3 if form == 'cos2' else 0.1)
    assert ratio < 5


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(type='l2'), "unknown complementarity loss 'l2', available: cos2, paper"),
        (dict(p=3), 'p must be 1 or 2, not 3'),
        (dict(max_ratio=float('inf')), 'max_ratio must be positive and finite'),
        (dict(max_ratio=0), 'max_ratio must be positive and finite, not 0'),
        (dict(type='weight'), 'use of_factors'),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        complementarity_loss(*pair(), **options)


def test_wrong_arguments():
    u, v = pair()
    with pytest.raises(ValueError, match=r'\(3, 4, 5, 6\) and \(2, 4, 5, 6\)'):
        complementarity_loss(u, v[:2])
    with pytest.raises(ValueError, match='use of_features'):
        Complementarity('cos2').of_factors((u, v), [(u, v)])
    with pytest.raises(ValueError, match='no delta'):
        Complementarity('weight').of_factors((u, v), [])
