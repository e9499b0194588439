"""Copies, files and averages of models in training hold all there is, bit for bit."""

import copy
import io
import math
import pickle

import pytest
import torch
from mmcv.cnn import ConvModule
from torch import nn

from mmir.adapters import freeze_, load_adapter, save_adapter
from mmir.tensorfact import SPLITS, TensorFactConv, augment_, factorize_

ALL = sorted(SPLITS)
X = torch.randn(2, 3, 10, 9, generator=torch.Generator().manual_seed(9))


class Net(nn.Module):
    """A block with a batch norm, and a head."""

    def __init__(self):
        super().__init__()
        self.block = ConvModule(3, 8, 3, norm_cfg={'type': 'BN'})
        self.neck = nn.Conv2d(8, 8, 3, bias=False)
        self.bbox_head = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.bbox_head(self.neck(self.block(x)))


def dense(seed=0):
    torch.manual_seed(seed)
    model = Net()
    model.block.bn.running_mean.normal_()
    return model


def widened(split='ts_dd', seed=1):
    """A factorized model with a delta that acts and one that is switched off."""
    model = dense()
    factorize_(model, 2, split)
    torch.manual_seed(seed)
    for name in ('ir', 'off'):
        augment_(model, name, 1)
    for layer in model.modules():
        if isinstance(layer, TensorFactConv):
            layer.enable_adapter('off', False)
            nn.init.normal_(layer.deltas['ir'].A, std=0.1)
    freeze_(model, 'ir')
    return model


def adamw(model):
    learning = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(learning, lr=0.02, weight_decay=0.1)


def train(model, optimizer=None, steps=2, seed=5):
    optimizer, generator = optimizer or adamw(model), torch.Generator()
    generator.manual_seed(seed)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        x = torch.randn(4, 3, 9, 9, generator=generator)
        (model(x) - 1).square().mean().backward()
        optimizer.step()
    return model


def assert_same(model, other):
    state, states = model.state_dict(), other.state_dict()
    assert list(state) == list(states)
    for key, value in state.items():
        assert torch.equal(value, states[key]), key


def by_pickle(model):
    return pickle.loads(pickle.dumps(model))


def by_torch(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize('clone', [copy.deepcopy, by_pickle, by_torch])
@pytest.mark.parametrize('split', ALL)
def test_a_copy_made_in_training_goes_on_like_the_original(clone, split):
    model = train(widened(split))
    model(X).sum().backward()  # a copy between backward and step
    other = clone(model)
    assert_same(other, model)
    for one, two in zip(model.modules(), other.modules(), strict=True):
        assert type(one) is type(two)
        if isinstance(one, TensorFactConv):
            names = ('split', 'mode', 'sigma', 'rank', 'kernel_shape', 'training')
            assert all(getattr(one, n) == getattr(two, n) for n in names)
            flags = [[d.enabled for d in m.deltas.values()] for m in (one, two)]
            assert flags == [[True, False], [True, False]]
    flags = [[p.requires_grad for p in m.parameters()] for m in (model, other)]
    assert flags[0] == flags[1]
    assert_same(train(other), train(model))
    assert torch.equal(other.eval()(X), model.eval()(X))


@pytest.mark.parametrize('split', ALL)
def test_state_dicts_of_every_split(split, tmp_path):
    model = train(widened(split))
    torch.save(model.state_dict(), tmp_path / 'model.pth')
    state = torch.load(tmp_path / 'model.pth', weights_only=True)
    again = widened(split, seed=3)
    again.load_state_dict(state)
    assert_same(again, model)
    assert torch.equal(again.eval()(X), model.eval()(X))
    plain = dense(4)
    factorize_(plain, 2, split)
    with pytest.warns(UserWarning, match="delta 'ir'"):
        plain.load_state_dict(state)
    assert_same(plain, model)
    reference = dense()
    factorize_(reference, 2, split)
    plain = dense(4)
    factorize_(plain, 2, split)
    plain.load_state_dict(dense().state_dict())
    assert_same(plain, reference)


@pytest.mark.parametrize('split', ALL)
def test_only_the_delta_is_written_and_read(split, tmp_path):
    torch.save(dense().state_dict(), tmp_path / 'rgb.pth')

    def rgb():
        model = dense(7)
        factorize_(model, 2, split)
        model.load_state_dict(torch.load(tmp_path / 'rgb.pth', weights_only=True))
        return model

    model = rgb()
    augment_(model, 'ir', 1)
    freeze_(model, 'ir')
    train(model, steps=3)
    save_adapter(model, tmp_path / 'ir.pth')
    written = torch.load(tmp_path / 'ir.pth', weights_only=True)['state_dict']
    assert not any(key.endswith(('conv.A', 'neck.A', 'neck.B')) for key in written)
    fresh = rgb()
    load_adapter(fresh, tmp_path / 'ir.pth')
    assert torch.equal(fresh.eval()(X), model.eval()(X))


@pytest.mark.parametrize('split', ALL)
def test_augmenting_before_or_after_loading_is_the_same(split):
    def build(first):
        model = dense(7)
        factorize_(model, 2, split)
        if first == 'load':
            model.load_state_dict(dense().state_dict())
        torch.manual_seed(11)
        augment_(model, 'ir', 2)
        freeze_(model, 'ir')
        if first == 'augment':
            result = model.load_state_dict(dense().state_dict(), strict=False)
            assert all('.deltas.ir.' in key for key in result.missing_keys)
            assert len(result.missing_keys) == 4
        return model

    one, two = build('load'), build('augment')
    assert_same(one, two)
    assert_same(train(one), train(two))


def test_exponential_average_of_parameters_and_buffers():
    average_of = pytest.importorskip('mmdet.models').layers.ExpMomentumEMA
    model = widened()
    options = {'momentum': 0.1, 'gamma': 5, 'update_buffers': True}
    average = average_of(model, **options)
    expected, optimizer = {}, adamw(model)
    for step in range(4):
        train(model, optimizer, 1, seed=step)
        average.update_parameters(model)
        weight = (1 - 0.1) * math.exp(-(1 + step) / 5) + 0.1
        for key, value in model.state_dict().items():
            old = expected.get(key, value)
            if step == 0:  # the first call copies
                expected[key] = value.clone()
            else:
                expected[key] = (1 - weight) * old + weight * value
    copied = average.module.state_dict()
    assert copied.keys() == expected.keys()
    for key, value in expected.items():
        if copied[key].is_floating_point():
            torch.testing.assert_close(copied[key], value, rtol=1e-5, atol=1e-6)
    layer, own = model.neck, average.module.neck
    assert torch.equal(own.A, layer.A)
    assert torch.equal(own.deltas['off'].B, layer.deltas['off'].B)
    assert not torch.equal(own.deltas['ir'].A, layer.deltas['ir'].A)
    moved = copied['block.bn.running_var'], model.block.bn.running_var
    assert not torch.equal(*moved)
    assert not own.deltas['off'].enabled
    restored = average_of(widened(seed=2), **options)
    restored.load_state_dict(average.state_dict())
    assert_same(restored.module, average.module)
    assert restored.steps == average.steps
    assert torch.equal(restored.eval()(X), average.eval()(X))


def test_training_resumes_from_a_file(tmp_path):
    def start():
        model = widened()
        optimizer = adamw(model)
        return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    def epoch(parts, seed):
        model, optimizer, schedule = parts
        train(model, optimizer, 2, seed)
        schedule.step()

    straight = start()
    epoch(straight, 1)
    torch.save([part.state_dict() for part in straight], tmp_path / 'epoch_1.pth')
    resumed = start()
    states = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    for part, state in zip(resumed, states, strict=True):
        part.load_state_dict(state)
    for parts in (straight, resumed):
        epoch(parts, 2)
    assert_same(resumed[0], straight[0])
