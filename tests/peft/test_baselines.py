"""Baselines: what trains, and what their defaults say of normalization."""

import pytest
import torch
from torch import nn

from mmir.adapters import FrozenBatchNorm, adapt_, in_stage, stage_of
from mmir.peft import BitFit, Frozen, Full


class Attention(nn.Module):
    """Biases with names of their own, as in BEiT and `nn.MultiheadAttention`."""

    def __init__(self) -> None:
        super().__init__()
        self.q_bias = nn.Parameter(torch.zeros(4))
        self.in_proj_bias = nn.Parameter(torch.zeros(4))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(4, 2))


def model() -> nn.ModuleDict:
    return nn.ModuleDict(
        dict(
            backbone=nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
            norm=nn.LayerNorm(4),
            attention=Attention(),
            bbox_head=nn.Linear(4, 2),
        )
    )


HEAD = {'bbox_head.weight', 'bbox_head.bias'}
NORMS = {f'{n}.{k}' for n in ('backbone.1', 'norm') for k in ('weight', 'bias')}
BIASES = {
    'backbone.0.bias',
    'backbone.1.bias',
    'norm.bias',
    'attention.q_bias',
    'attention.in_proj_bias',
}


@pytest.mark.parametrize(
    ('method', 'options', 'expected'),
    [
        (Frozen, {}, HEAD),
        (Frozen, {'norm': 'all'}, HEAD | NORMS),
        (Frozen, {'trainable': ['^norm']}, {'norm.weight', 'norm.bias'}),
        (BitFit, {}, HEAD | BIASES),
        (BitFit, {'trainable': []}, BIASES | {'bbox_head.bias'}),
        (Full, {}, {name for name, _ in model().named_parameters()}),
    ],
)
def test_what_trains(method, options, expected):
    net = model()
    report = adapt_(net, method(), 'ir', **options)
    assert {n for n, p in net.named_parameters() if p.requires_grad} == expected
    assert (report.method, report.name) == (method.__name__, 'ir')
    frozen = isinstance(net['backbone'][1], FrozenBatchNorm)
    assert frozen == (method is not Full and options.get('norm') != 'all')


def test_full_fine_tuning_is_a_stage_of_everything():
    net = model()
    adapt_(net, Full(), 'ir')
    assert in_stage(net)
    assert stage_of(net).changed == tuple(net.state_dict())
    with pytest.raises(ValueError, match='Full freezes nothing here: leave out'):
        adapt_(model(), Full(), trainable=['head'])


def test_wrong_arguments_change_nothing():
    for options in ({'norm': 'off'}, {'trainable': ['neck']}):
        net = model()
        with pytest.raises(ValueError, match=r"'off'|'neck'"):
            adapt_(net, BitFit(), **options)
        assert all(p.requires_grad for p in net.parameters())
        assert not in_stage(net)
