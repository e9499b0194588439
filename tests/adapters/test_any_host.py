"""Models of the hosts' own configs are factorized, adapted and merged."""

import copy

import pytest
import torch
from any_host import HOSTS, features, outputs
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from torch import nn

from mmir.adapters import merge_
from mmir.adapters.walk import is_head
from mmir.tensorfact import TensorFactConv

FACTORIZED = {
    'rtmdet': 20,
    'faster_rcnn': 17 + 4,  # 7x7 stem, 16 bottlenecks, 4 of the pyramid
    'dino': 17 + 1,
    'deeplabv3plus': 3 + 16,
    'segformer': 4 + 6,  # patch embeddings, reductions of the keys
    'resnet50': 17,
    'mobilenet_v3': 1 + 40,  # stem, and under t_sdd the 1x1
    'convnext': 4,  # stem and the three reductions
}
"""Convolutions with factors at rank 2, by the split of `HOSTS`."""


@pytest.fixture(params=HOSTS)
def host(request):
    """A model of a host, skipped if the host is not installed."""
    host = HOSTS[request.param]
    pytest.importorskip(host.scope)
    host.name = request.param
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(host.scope):
        yield host


def build(host, adapt):
    """Build from the flat config: the host's own, with two more keys."""
    cfg = host.model_config()
    target = f'{host.scope}.{cfg.pop("type")}'
    if adapt is not None:
        adapt = dict(type='TensorFact', **adapt)
    return MODELS.build(dict(type='mmir.Adapted', target=target, adapt=adapt, **cfg))


def randomise(model):
    """Give batch norms random statistics, as after training."""
    for name, parameter in model.named_parameters():
        if name.endswith('level_embed'):  # the host leaves it uninitialized
            nn.init.normal_(parameter)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.1)
    return model


def test_dense_checkpoint_gives_the_dense_outputs_at_full_rank(host, tmp_path):
    dense = randomise(build(host, None))
    torch.save(dense.state_dict(), tmp_path / 'dense.pth')
    model = build(
        host, dict(rank='full', delta=None, split=host.split, skip_growing=False)
    )
    layers = [m for m in model.modules() if isinstance(m, TensorFactConv)]
    assert layers
    load_checkpoint(model, str(tmp_path / 'dense.pth'), strict=True)
    data = dense.data_preprocessor(host.batch())
    expected, got = features(dense, data['inputs']), features(model, data['inputs'])
    for a, b in zip(expected, got, strict=True):
        assert (a - b).norm() <= 1e-5 * a.norm()
        assert a.norm() > 0


def test_a_stage_changes_deltas_and_heads_only_and_merges(host):
    dense = randomise(build(host, None))
    stage = dict(rank=2, split=host.split, delta=1, name='ir', norm='frozen')
    model = build(host, stage)
    keys = model.load_state_dict(dense.state_dict(), strict=False)
    assert keys.unexpected_keys == []
    assert all('.deltas.ir.' in key for key in keys.missing_keys)
    assert len(keys.missing_keys) == 2 * FACTORIZED[host.name]
    before = copy.deepcopy(model.state_dict())
    wrapper = build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            constructor='mmir.CompleteOptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.05),
        ),
    )
    losses = model.train().train_step(host.batch(), wrapper)
    assert losses['loss'].isfinite()
    after = model.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed <= set(model._mmir.stage.changed)
    assert {k for k in before if k.endswith('deltas.ir.A')} <= changed
    assert any(is_head(key) for key in changed)
    assert all(is_head(key) or '.deltas.ir.' in key for key in changed)

    for layer in model.modules():
        if isinstance(layer, TensorFactConv):
            layer.mode = 'reconstruct'
    expected = outputs(model, host.batch())
    merge_(model)
    assert model.state_dict().keys() == dense.state_dict().keys()
    assert not any(isinstance(m, TensorFactConv) for m in model.modules())
    got = outputs(model, host.batch())
    assert len(got) == len(expected) > 0
    for a, b in zip(expected, got, strict=True):
        assert torch.equal(a, b)


def test_of_mobilenet_the_default_split_finds_the_stem_only():
    """The rest is 1x1 or depthwise; `t_sdd` factorizes the 1x1, see `FACTORIZED`."""
    pytest.importorskip('mmpretrain')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = build(HOSTS['mobilenet_v3'], dict(rank=2, delta=None))
    layers = [n for n, m in model.named_modules() if isinstance(m, TensorFactConv)]
    assert layers == ['backbone.layer0.conv']
