"""Trainable parameters of a stage; everything else stays frozen."""

import copy
import pickle

import pytest
import torch
from torch import nn

from mmir.adapters import FrozenBatchNorm, freeze_
from mmir.tensorfact import augment_, factorize_


def toy(delta=1):
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {
            'backbone': nn.Sequential(
                nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GroupNorm(2, 8)
            ),
            'bbox_head': nn.Sequential(nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4)),
        }
    )
    factorize_(model, 3)
    augment_(model, 'ir', delta)
    return model


def run(model, x):
    return model['bbox_head'](model['backbone'](x))


def train(model, steps=3):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        run(model, torch.randn(4, 3, 9, 9) + 1).square().mean().backward()
        optimizer.step()


def changes(model, steps=3):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    train(model, steps)
    after = model.state_dict()
    return {k for k, v in before.items() if not torch.equal(v, after[k])}


HEAD = {
    *(f'bbox_head.0.{k}' for k in ('weight', 'bias')),
    *(f'bbox_head.1.{k}' for k in ('weight', 'bias', 'running_mean', 'running_var')),
    'bbox_head.1.num_batches_tracked',
}
DELTA = {f'backbone.0.deltas.ir.{k}' for k in 'AB'}
AFFINE = {f'backbone.{i}.{k}' for i in (1, 2) for k in ('weight', 'bias')}
STATS = {
    f'backbone.1.{k}' for k in ('running_mean', 'running_var', 'num_batches_tracked')
}


@pytest.mark.parametrize(
    ('bn', 'extra'),
    [('all', AFFINE | STATS), ('affine', AFFINE), ('stats', STATS), ('frozen', set())],
)
def test_exactly_the_declared_tensors_change(bn, extra):
    model = toy()
    keys = list(model.state_dict())
    stage = freeze_(model, 'ir', norm=bn)
    expected = HEAD | DELTA | extra
    assert stage.name == 'ir'
    assert set(stage.changed) == expected
    # The batch norm after it cancels the bias of the head's convolution.
    assert changes(model) | {'bbox_head.0.bias'} == expected
    assert list(model.state_dict()) == keys
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (name in expected)
        assert parameter.requires_grad or parameter.grad is None


@pytest.mark.parametrize(
    'clone', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_policy_survives_copies_and_modes(clone):
    model = toy()
    freeze_(model, 'ir', norm='frozen')
    model = clone(model.eval().train())
    assert isinstance(model['backbone'][1], FrozenBatchNorm)
    assert not model['backbone'][1].training
    assert model['bbox_head'][1].training
    assert model._mmir.stage.name == 'ir'
    assert not changes(model) - HEAD - DELTA


def test_frozen_batch_norm_equals_evaluation_and_thaws():
    bn = nn.BatchNorm2d(4, eps=0.01)
    bn.running_mean.normal_()
    bn.running_var.uniform_(0.5, 2)
    nn.init.normal_(bn.weight)
    x = torch.randn(2, 4, 5, 5)
    expected = bn.eval()(x)
    frozen = FrozenBatchNorm(bn).train()
    assert torch.equal(frozen(x), expected)
    assert list(frozen.state_dict()) == list(bn.state_dict())
    assert 'was=BatchNorm2d' in repr(frozen)
    thawed = frozen.thaw()
    assert type(thawed) is nn.BatchNorm2d
    assert repr(thawed) == repr(bn)
    thawed.train()(x)
    assert thawed.num_batches_tracked == 1


def test_frozen_statistics_outlive_conversion_to_sync_bn():
    model = toy()
    freeze_(model, 'ir', norm='frozen')
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert isinstance(converted['backbone'][1], FrozenBatchNorm)
    assert isinstance(converted['bbox_head'][1], nn.SyncBatchNorm)
    assert 'bbox_head.1.running_mean' in model._mmir.stage.changed


def test_policy_can_be_changed_again():
    model = toy()
    freeze_(model, 'ir', norm='frozen')
    stage = freeze_(model, 'ir', norm='stats', trainable=['bbox_head'])
    assert type(model['backbone'][1]) is nn.BatchNorm2d
    assert set(stage.changed) == HEAD | DELTA | STATS


def test_named_parts_and_older_deltas():
    model = toy()
    augment_(model, 'nir', 2)
    stage = freeze_(model, 'nir', trainable=[r'backbone\.2\.'], norm='frozen')
    expected = {'backbone.2.weight', 'backbone.2.bias'}
    expected |= {f'backbone.0.deltas.nir.{k}' for k in 'AB'}
    assert set(stage.changed) == expected
    assert changes(model) == expected


def test_head_only_when_the_delta_has_rank_zero():
    model = toy(delta=0)
    assert set(freeze_(model, 'ir', norm='frozen').changed) == HEAD


class NormAndActivation(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


def test_batch_norm_with_a_forward_of_its_own_keeps_it(caplog):
    model, x = toy(), torch.randn(2, 3, 9, 9)
    model['backbone'][1] = norm = NormAndActivation(8)
    expected = model.eval()['backbone'](x)
    stage = freeze_(model, 'ir', norm='frozen')
    assert model['backbone'][1] is norm
    assert torch.equal(model.eval()['backbone'](x), expected)
    assert set(stage.changed) >= STATS
    assert changes(model) <= set(stage.changed)


def test_vectors_of_spectral_norm_change_and_are_declared():
    model = toy()
    model['backbone'][2] = nn.utils.spectral_norm(nn.Conv2d(8, 8, 1))
    nn.utils.parametrizations.spectral_norm(model['bbox_head'][0])
    stage = freeze_(model, 'ir', norm='frozen', trainable=[r'bbox_head\.1\.'])
    vectors = {f'backbone.2.weight_{k}' for k in 'uv'}
    vectors |= {f'bbox_head.0.parametrizations.weight.0._{k}' for k in 'uv'}
    assert vectors <= changes(model) <= set(stage.changed)


def test_batch_norm_without_statistics():
    model = toy()
    model['backbone'][1] = nn.BatchNorm2d(8, track_running_stats=False)
    assert set(freeze_(model, 'ir', norm='frozen').changed) == HEAD | DELTA
    assert type(model['backbone'][1]) is nn.BatchNorm2d


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (
            {'norm': 'off'},
            ValueError,
            "norm 'off', available: all, affine, ",
        ),
        ({'trainable': ['rpn']}, ValueError, "'rpn' matches no parameter name"),
        ({'trainable': 'bbox_head'}, TypeError, 'give a list of expressions'),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        freeze_(toy(), 'ir', **arguments)


def test_empty_stages():
    with pytest.raises(ValueError, match="nothing is left to train in stage 'ir'"):
        freeze_(toy(delta=0), 'ir', trainable=[], norm='frozen')


def test_stages_a_host_freezes_in_train_do_not_freeze_deltas() -> None:
    from mmpretrain.models import ResNet

    model = nn.Sequential(ResNet(18, frozen_stages=1, out_indices=(3,)))
    factorize_(model, 2)
    augment_(model, 'ir')
    freeze_(model, 'ir', norm='affine')
    model.train()
    layer = model[0].layer1[0].conv1
    assert layer.deltas['ir'].A.requires_grad
    assert not layer.A.requires_grad
    assert model[0].bn1.weight.requires_grad
    assert not any(
        m.training for m in model.modules() if isinstance(m, FrozenBatchNorm)
    )
