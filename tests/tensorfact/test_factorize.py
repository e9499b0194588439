"""Whole models: which layers are factorized, widened, merged."""

import copy

import pytest
import torch
from mmcv.cnn import ConvModule
from torch import nn

from mmir.adapters import FrozenBatchNorm, freeze_, merge_
from mmir.tensorfact import TensorFactConv, augment_, factorize_


class Toy(nn.Module):
    """Stem, strided, 1x1, depthwise, one convolution used twice, and a head."""

    def __init__(self):
        super().__init__()
        self.stem = ConvModule(3, 16, 3, padding=1, norm_cfg={'type': 'BN'})
        self.body = nn.Sequential(
            nn.Conv2d(16, 16, 3, stride=2, padding=1),
            nn.Conv2d(16, 16, 1),
            nn.Conv2d(16, 16, 3, padding=1, groups=16),
        )
        self.shared = nn.Conv2d(16, 16, 3, padding=1)
        self.twice = nn.ModuleList([self.shared, nn.ReLU(), self.shared])
        self.bbox_head = nn.Conv2d(16, 5, 3, padding=1)

    def forward(self, x):
        x = self.body(self.stem(x))
        for layer in self.twice:
            x = layer(x)
        return self.bbox_head(x)


def relative(value, reference):
    return ((value - reference).abs().max() / reference.abs().max()).item()


def test_default_selection_and_report():
    model = Toy()
    before = sum(p.numel() for p in model.parameters())
    report = factorize_(model, 4)
    assert report.layers == ['stem.conv', 'body.0', 'shared']
    assert set(report.ranks.values()) == {4}
    assert 'full rank 1' in report.skipped['body.1']
    assert report.skipped['bbox_head'].startswith('excluded by')
    saved = (48 * 9 - 4 * 57) + 2 * (256 * 9 - 4 * 265)
    assert report.params_before == before
    assert report.params_after == before - saved
    assert report.params_after == sum(p.numel() for p in model.parameters())
    assert str(report).startswith('3 convolutions factorized, 3 left dense')


@pytest.mark.parametrize('rank', [1, 4])
def test_depthwise_is_left_unless_asked_for(rank):
    report = factorize_(Toy(), rank)
    assert report.skipped['body.2'].startswith('depthwise')
    assert 'body.2' in factorize_(Toy(), rank, skip_growing=False).layers


@pytest.mark.parametrize(
    ('options', 'layers'),
    [
        ({'factorize_stem': False}, ['body.0', 'shared']),
        ({'include': [r'^body\.']}, ['body.0']),
        ({'exclude': [r'^body', 'shared$']}, ['stem.conv', 'bbox_head']),
        ({'exclude': [r'twice']}, ['stem.conv', 'body.0', 'bbox_head']),
        ({'include': ['head'], 'exclude': []}, ['bbox_head']),
    ],
)
def test_selection_by_name(options, layers):
    report = factorize_(Toy(), 4, exclude=options.pop('exclude', None), **options)
    assert report.layers == layers


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_full_rank_model_equals_the_dense_one(dtype):
    torch.manual_seed(0)
    dense = Toy().to(dtype).eval()
    model = copy.deepcopy(dense)
    factorize_(model, 'full', skip_growing=False, exclude=[], mode='reconstruct')
    assert not any(m.training for m in model.modules())
    x = torch.randn(2, 3, 12, 10, dtype=dtype)
    assert relative(model(x), dense(x)) < (5e-6 if dtype == torch.float32 else 1e-12)


def test_sharing_survives_both_ways():
    model = Toy()
    factorize_(model, 4)
    assert model.shared is model.twice[0] is model.twice[2]
    merge_(model)
    assert type(model.shared) is nn.Conv2d
    assert model.shared is model.twice[0] is model.twice[2]


def test_tied_weights_and_own_forwards_stay_dense():
    class Scaled(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    model = nn.Sequential(*[nn.Conv2d(8, 8, 3) for _ in range(3)], Scaled(8, 8, 3))
    model[1].weight = model[0].weight
    report = factorize_(model, 2)
    assert report.layers == ['2']
    assert 'shares its weight' in report.skipped['0']
    assert report.skipped['3'] == 'Scaled is not a plain nn.Conv2d'


def test_gradient_flags_are_taken_over():
    model = Toy()
    model.stem.requires_grad_(False)
    factorize_(model, 4)
    assert not model.stem.conv.A.requires_grad
    assert model.shared.A.requires_grad
    assert model.shared.bias.requires_grad


IMPOSSIBLE = [
    (nn.Sequential(nn.ReLU()), 4, {}, 'the model has no nn.Conv2d'),
    (nn.Sequential(nn.Conv2d(8, 8, 1)), 4, {}, r"too small to factorize.*'0'"),
    (Toy(), 16, {}, r"would grow at rank 9 \(skip_growing\), such as 'stem.conv'"),
    (Toy(), 4, {'include': ['nothing']}, 'matched by no include expression'),
    (nn.Conv2d(8, 8, 3), 4, {}, 'it is the model itself'),
    (Toy(), 0, {}, r'rank 0 for a kernel of 16x3x3x3'),
    (Toy(), 4, {'split': 'cp'}, "unknown split 'cp', available: ts_dd"),
    (Toy(), 4, {'mode': 'x'}, 'stem.conv: unknown mode'),
]


@pytest.mark.parametrize(('model', 'rank', 'options', 'message'), IMPOSSIBLE)
def test_what_cannot_be_factorized(model, rank, options, message):
    before = [type(m) for m in model.modules()]
    with pytest.raises(ValueError, match=message):
        factorize_(model, rank, **options)
    assert [type(m) for m in model.modules()] == before


def test_damaged_weights_name_the_layer_and_change_nothing():
    model = Toy()
    with torch.no_grad():
        model.shared.weight[0] = float('nan')
    with pytest.raises(ValueError, match=r'^shared: NaN or infinite'):
        factorize_(model, 4)
    assert not any(isinstance(m, TensorFactConv) for m in model.modules())
    with pytest.raises(TypeError, match="list of expressions, not 'body'"):
        factorize_(Toy(), 4, include='body')


def test_augment_counts_and_identity():
    model = Toy().eval()
    factorize_(model, 4, mode='reconstruct')
    x = torch.randn(1, 3, 8, 8)
    before, size = model(x), sum(p.numel() for p in model.parameters())
    assert augment_(model, 'ir', {'ratio': 0.5}) == {
        'stem.conv': 2,
        'body.0': 2,
        'shared': 2,
    }
    added = sum(p.numel() for p in model.parameters()) - size
    assert added == 2 * (57 + 265 + 265)
    assert torch.equal(model(x), before)
    assert augment_(model, 'nir', 1, include=['shared']) == {'shared': 1}
    assert augment_(model, 'uv', 0) == {}


def test_augment_errors():
    with pytest.raises(ValueError, match=r"no TensorFactConv for a delta 'ir'"):
        augment_(Toy(), 'ir', 1)
    pointwise = nn.Sequential(TensorFactConv(8, 8, 1, rank=1))
    with pytest.raises(ValueError, match='no TensorFactConv'):
        augment_(pointwise, 'ir', 1)
    model = Toy()
    factorize_(model, 4)
    with pytest.raises(ValueError, match=r'^stem.conv: delta rank -1 .*16x3x3x3'):
        augment_(model, 'ir', -1)
    augment_(model, 'ir', 1)
    with pytest.raises(ValueError, match=r"^stem.conv: there is an adapter 'ir'"):
        augment_(model, 'ir', 1)


def test_a_rank_above_what_a_layer_can_have_is_cut():
    model = Toy()
    report = factorize_(model, 16, skip_growing=False)
    assert set(report.ranks.values()) == {9}
    assert set(augment_(model, 'ir', 10).values()) == {9}


def test_merge_restores_a_stock_model_exactly():
    torch.manual_seed(1)
    dense = Toy()
    model = copy.deepcopy(dense)
    factorize_(model, 4, mode='reconstruct')
    augment_(model, 'ir', 1)
    freeze_(model, 'ir', norm='frozen')
    for layer in (model.shared, model.body[0]):
        nn.init.normal_(layer.deltas['ir'].A)
    model.eval()
    x = torch.randn(2, 3, 8, 8)
    expected = model(x)
    assert isinstance(model.stem.bn, FrozenBatchNorm)
    assert merge_(model) is model
    assert torch.equal(model(x), expected)
    assert list(model.state_dict()) == list(dense.state_dict())
    assert [type(m) for m in model.modules()] == [type(m) for m in dense.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    merge_(model)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_merge_of_a_layer_and_of_a_damaged_model():
    layer = TensorFactConv(4, 4, 3, rank=2)
    assert type(merge_(layer)) is nn.Conv2d
    model = Toy()
    factorize_(model, 4)
    with torch.no_grad():
        model.shared.B[0] = float('nan')
    with pytest.raises(ValueError, match=r'^shared: NaN or infinite weights, refusing'):
        merge_(model)
    assert type(model.body[0]) is TensorFactConv


@pytest.mark.parametrize('order', ['load first', 'augment first'])
def test_loading_and_augmenting_commute(order):
    torch.manual_seed(0)
    dense, model = Toy(), Toy()
    factorize_(model, 3, mode='reconstruct')
    reference = copy.deepcopy(dense)
    factorize_(reference, 3, mode='reconstruct')
    if order == 'augment first':
        augment_(model, 'ir', 1)
    result = model.load_state_dict(dense.state_dict(), strict=False)
    assert all('.deltas.ir.' in key for key in result.missing_keys)
    assert result.unexpected_keys == []
    if order == 'load first':
        augment_(model, 'ir', 1)
    x = torch.randn(1, 3, 8, 8)
    assert torch.equal(model.eval()(x), reference.eval()(x))


def test_training_a_low_rank_student_learns_its_teacher():
    torch.manual_seed(0)
    teacher = TensorFactConv(4, 8, 3, rank=2).requires_grad_(False)
    student = TensorFactConv(4, 8, 3, rank=2)
    optimizer = torch.optim.Adam(student.parameters(), 0.03)
    losses = []
    for _ in range(50):
        x = torch.randn(8, 4, 8, 8)
        loss = (student(x) - teacher(x)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
