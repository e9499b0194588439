"""Mixed precision on a CPU, and the channels-last memory format."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import HOOKS, OPTIM_WRAPPERS
from torch import nn

from mmir.engine import AutocastOptimWrapper, ChannelsLastHook, autocast


def wrapper(model: nn.Module, **options: object) -> AutocastOptimWrapper:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    cfg = dict(type='AutocastOptimWrapper', optimizer=optimizer, **options)
    return OPTIM_WRAPPERS.build(cfg)


@pytest.fixture
def with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any CPU computes in bfloat16, if only slowly."""
    monkeypatch.setattr(autocast, 'has_bfloat16', lambda device: True)


@pytest.mark.usefixtures('with_bfloat16')
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


def test_it_stays_in_float32_without_instructions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: False)
    monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: False)
    said = []
    monkeypatch.setattr(autocast, 'print_log', lambda text, *_, **__: said.append(text))
    model = nn.Linear(4, 2, bias=False)
    nn.init.constant_(model.weight, 1 + 2**-12)
    optim = wrapper(model)
    for _ in range(3):
        with optim.optim_context(model):
            y = model(torch.ones(1, 4))
        assert y.tolist() == [[4 * (1 + 2**-12)] * 2]
    assert len(said) == 1
    assert 'no bfloat16 instructions' in said[0]


@pytest.mark.parametrize(
    ('capability', 'bf16', 'amx', 'expected'),
    [
        ('AVX512', False, False, False),
        ('AVX512', True, False, True),
        ('AVX512', False, True, True),
        ('AVX2', True, True, False),  # torch was limited by ATEN_CPU_CAPABILITY
        ('DEFAULT', False, False, False),
    ],
)
def test_which_cpus_compute_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
    capability: str,
    bf16: bool,
    amx: bool,
    expected: bool,
) -> None:
    cpu = torch.backends.cpu
    monkeypatch.setattr(cpu, 'get_cpu_capability', lambda: capability)
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: bf16)
    monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: amx)
    assert autocast.has_bfloat16('cpu') is expected


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
