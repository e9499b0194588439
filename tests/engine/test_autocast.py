"""Mixed precision on a CPU, and the channels-last memory format."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import HOOKS, OPTIM_WRAPPERS
from torch import nn

from mmir.engine import AutocastOptimWrapper, ChannelsLastHook


def wrapper(model: nn.Module, **options: object) -> AutocastOptimWrapper:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    cfg = dict(type='AutocastOptimWrapper', optimizer=optimizer, **options)
    return OPTIM_WRAPPERS.build(cfg)


def test_forward_is_bfloat16_and_the_rest_stays_float32() -> None:
    model = nn.Linear(4, 2, bias=False)
    nn.init.constant_(model.weight, 1 + 2**-12)  # rounds to 1 in bfloat16
    optim, x = wrapper(model), torch.ones(1, 4)
    with optim.optim_context(model):
        y = model(x)
    assert y.dtype == torch.bfloat16
    assert y.tolist() == [[4.0, 4.0]]
    loss = y.float().sum()
    assert torch.autograd.grad(loss, model.weight, retain_graph=True)[0].dtype == (
        torch.float32
    )
    optim.update_params(loss)
    assert model.weight.dtype == torch.float32
    # the gradient of the sum is x: one step of 0.5
    assert torch.equal(model.weight, torch.full((2, 4), 1 + 2**-12 - 0.5))
    assert not torch.is_autocast_enabled('cpu')


def test_gradient_accumulation_of_the_host_still_works() -> None:
    model = nn.Linear(2, 1, bias=False)
    optim = wrapper(model, accumulative_counts=2)
    optim.initialize_count_status(model, 0, 4)
    before = model.weight.detach().clone()
    for changed in (False, True):
        with optim.optim_context(model):
            loss = model(torch.ones(1, 2)).sum()
        optim.update_params(loss)
        assert (not torch.equal(before, model.weight)) == changed


@pytest.mark.parametrize('name', ['ChannelsLastHook', 'mmir.ChannelsLastHook'])
def test_channels_last_changes_strides_alone(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3))
    x = torch.rand(2, 3, 9, 9)
    expected = model(x)
    hook = HOOKS.build(dict(type=name))
    assert isinstance(hook, ChannelsLastHook)
    hook.before_run(SimpleNamespace(model=model))
    y = model(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, expected)
