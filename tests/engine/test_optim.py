"""Optimizer groups: every trainable parameter once, with the right decay."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmir.adapters import AdapterLayer
from mmir.adapters.low_rank import LowRank
from mmir.engine.optim import CompleteOptimWrapperConstructor


class Factors(AdapterLayer):
    """Two factors of a convolution, with an adapter."""

    no_decay = ('B',)

    def __init__(self) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.ones(6, 2))
        self.B = nn.Parameter(torch.ones(2, 3, 3))
        self.bias = nn.Parameter(torch.ones(6))
        update = LowRank(torch.ones(6, 2), torch.ones(2, 3, 3))
        self.adapters = nn.ModuleDict(dict(ir=update))


class Net(nn.Module):
    """One of each kind of parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.factors = Factors()
        self.scale = nn.Parameter(torch.ones(()))
        self.add = nn.Module()
        self.add.implicit = nn.Parameter(torch.ones(1, 4, 1, 1))
        self.other = nn.Module()  # a method that has no say in decay
        self.other.B = nn.Parameter(torch.ones(2, 2))


DECAYED = {'conv.weight', 'factors.A', 'factors.adapters.ir.A', 'other.B'}


def build(model: nn.Module, paramwise: dict | None = None, **optimizer: object):
    optimizer = dict(type='SGD', lr=0.1, weight_decay=0.5) | optimizer
    cfg = dict(
        type='OptimWrapper',
        optimizer=optimizer,
        constructor='CompleteOptimWrapperConstructor',
        paramwise_cfg=paramwise,
    )
    return build_optim_wrapper(model, cfg)


def groups(model: nn.Module, *args: object, **kwargs: object) -> dict[str, set[str]]:
    """Names of the parameters of each group."""
    names = {id(p): n for n, p in model.named_parameters()}
    found = build(model, *args, **kwargs).optimizer.param_groups
    return {g['name']: {names[id(p)] for p in g['params']} for g in found}


def names(model: nn.Module) -> set[str]:
    return {n for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize('kind', ['SGD', 'Adam', 'AdamW'])
def test_kernels_and_mixing_factors_are_decayed(kind):
    model = Net()
    found = groups(model, type=kind)
    expected = names(model) - DECAYED
    assert found == {'decayed': DECAYED, 'not decayed': expected}
    decays = [g['weight_decay'] for g in build(model, type=kind).optimizer.param_groups]
    assert decays == [0.5, 0.0]


def test_options_change_what_is_decayed():
    model = Net()
    found = groups(model, dict(no_decay=[r'^conv\.', r'adapters']))
    rest = {'factors.A', 'other.B', 'add.implicit'}
    assert found['decayed'] == rest
    assert groups(model, dict(no_decay=[]))['decayed'] == DECAYED | {'add.implicit'}


def test_custom_keys_of_the_host():
    model = Net()
    keys = dict(
        conv=dict(lr_mult=0.1), factors=dict(decay_mult=2.0), bn=dict(decay_mult=1.0)
    )
    found = build(model, dict(custom_keys=keys)).optimizer.param_groups
    names = {id(p): n for n, p in model.named_parameters()}
    settings = {
        names[id(p)]: (g['lr'], g['weight_decay']) for g in found for p in g['params']
    }
    assert settings['conv.weight'] == pytest.approx((0.01, 0.5))
    assert settings['conv.bias'] == pytest.approx((0.01, 0.0))  # a vector, as usual
    assert settings['bn.weight'] == pytest.approx((0.1, 0.5))  # said explicitly
    assert settings['factors.A'] == settings['factors.B'] == pytest.approx((0.1, 1.0))
    assert settings['other.B'] == (0.1, 0.5)
    assert len(settings) == len(list(model.parameters()))


class Layered(nn.Module):
    """A backbone with layer depths, in the style of mmpretrain, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
        self.backbone.get_layer_depth = self.depth
        self.head = nn.Linear(2, 2)

    @staticmethod
    def depth(name: str, prefix: str) -> tuple[int, int]:
        return int(name.removeprefix(prefix).split('.')[1]), 3


def test_layer_decay_follows_the_depths_of_the_backbone():
    model = Layered()
    names = {id(p): n for n, p in model.named_parameters()}
    found = build(model, dict(layer_decay_rate=0.5)).optimizer.param_groups
    rates = {names[id(p)]: g['lr'] for g in found for p in g['params']}
    for index, factor in enumerate((0.25, 0.5, 1.0)):
        assert rates[f'backbone.layers.{index}.weight'] == pytest.approx(0.1 * factor)
        assert rates[f'backbone.layers.{index}.bias'] == pytest.approx(0.1 * factor)
    assert rates['head.weight'] == pytest.approx(0.1)
    with pytest.raises(ValueError, match='Net nor its backbone has get_layer_depth'):
        build(Net(), dict(layer_decay_rate=0.5))


def test_options_are_not_changed():
    options = dict(no_decay=['conv'], custom_keys=dict(bn=dict(lr_mult=2.0)))
    build(Net(), options)
    assert options == dict(no_decay=['conv'], custom_keys=dict(bn=dict(lr_mult=2.0)))


def test_only_decayed_parameters_shrink_without_a_gradient():
    model = Net()
    wrapper = build(model)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    wrapper.step()
    for name, p in model.named_parameters():
        factor = 1 - 0.1 * 0.5 if name in DECAYED else 1.0
        torch.testing.assert_close(p.detach(), before[name] * factor)


def test_every_trainable_parameter_is_optimised():
    model = Net()
    model.factors.A.requires_grad_(False)
    wrapper = build(model, weight_decay=0.0, type='Adam')
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    loss = sum((p**2).sum() + p.sum() for p in model.parameters())
    wrapper.update_params(loss)
    same = {n for n, p in model.named_parameters() if torch.equal(p, before[n])}
    assert same == {'factors.A'}


@given(frozen=st.sets(st.sampled_from(sorted(names(Net())))))
@settings(max_examples=40, deadline=None)
def test_groups_partition_what_is_trainable(frozen):
    model = Net()
    for name, p in model.named_parameters():
        p.requires_grad_(name not in frozen)
    if not names(model):
        with pytest.raises(ValueError, match='no parameter of the model is trainable'):
            groups(model)
        return
    found = groups(model)
    assert all(found.values())
    assert set.union(*found.values()) == names(model)
    assert sum(map(len, found.values())) == len(names(model))
    assert found.get('decayed', set()) == DECAYED - frozen


def test_empty_groups_are_dropped():
    vectors = nn.BatchNorm1d(3)
    assert groups(vectors) == {'not decayed': {'weight', 'bias'}}
    assert groups(nn.Linear(2, 2, bias=False)) == {'decayed': {'weight'}}


def test_shared_parameters_are_listed_once():
    model = nn.ModuleDict(dict(a=nn.Linear(3, 3), b=nn.Linear(3, 3)))
    model['b'].weight = model['a'].weight
    found = groups(model)
    assert found == {'decayed': {'a.weight'}, 'not decayed': {'a.bias', 'b.bias'}}


def test_wrapped_model_is_unwrapped():
    outer = nn.Module()
    outer.module = nn.Linear(2, 3)
    found = build(outer).optimizer.param_groups
    assert [p.shape for g in found for p in g['params']] == [(3, 2), (3,)]


def test_no_decay_of_the_optimizer_is_left_alone():
    wrapper = build(Net(), type='Adam', weight_decay=0)
    assert [g['weight_decay'] for g in wrapper.optimizer.param_groups] == [0, 0]


def test_unknown_option_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"\['decay_atoms'\].*'custom_keys'"):
        build(Net(), dict(decay_atoms=True))


def test_groups_a_subclass_spoils_are_refused():
    class Forgetful(CompleteOptimWrapperConstructor):
        def add_params(self, params, module, **kwargs):
            params.append(dict(params=[module.weight]))
            self._check(params, module)

    cfg = dict(optimizer=dict(type='SGD', lr=0.1))
    with pytest.raises(ValueError, match='1 listed, 2 trainable'):
        Forgetful(cfg)(nn.Linear(2, 2))


def test_groups_of_the_real_factorized_convolution():
    from mmir.tensorfact import TensorFactConv

    conv = TensorFactConv(8, 16, 3, rank=4)
    assert groups(conv) == {'decayed': {'A'}, 'not decayed': {'B', 'bias'}}
