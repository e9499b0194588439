"""Adapter layers compute on CUDA what they do on a CPU."""

import copy
import shutil
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from gpu_compare import BOUNDS, assert_close, relative
from torch import Tensor, nn

from mmir.adapters import AdapterLayer, merge_
from mmir.peft.conv_lora import LoRAConv2d
from mmir.tensorfact import SPLITS, TensorFactConv
from mmir.tensorfact.execution import MODES

pytestmark = pytest.mark.gpu
DTYPES = pytest.mark.parametrize('dtype', [torch.float64, torch.float32], ids=str)


def images(dtype: torch.dtype = torch.float32) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(2, 8, 12, 11, generator=draw, dtype=torch.float64).to(dtype)


def conv() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(8, 12, 3, padding=1)


def factors(split: str = 'ts_dd', mode: str = 'auto') -> TensorFactConv:
    """A layer with a delta that acts."""
    layer = TensorFactConv.from_conv(conv(), 3, split=split, mode=mode)
    layer.augment('ir', 1)
    nn.init.normal_(layer.deltas['ir'].A, std=0.1)
    return layer


def lora() -> LoRAConv2d:
    """A layer with an update that acts."""
    layer = LoRAConv2d.from_base(conv())
    layer.add_adapter('ir', rank=4)
    nn.init.normal_(layer.adapters['ir'].A, std=0.1)
    return layer


LAYERS = pytest.mark.parametrize('make', [factors, lora])


def step(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Output and gradients of a layer in training."""
    x = x.clone().requires_grad_()
    y = layer(x)
    y.square().sum().backward()
    gradients = {k: p.grad for k, p in layer.named_parameters() if p.grad is not None}
    return dict(output=y, input=x.grad, **gradients)


def distances(layer: AdapterLayer, device: str, dtype: torch.dtype) -> dict[str, float]:
    """Relative distances of outputs and gradients to the CPU's."""
    layer, x = layer.to(dtype), images(dtype)
    expected = step(copy.deepcopy(layer), x)
    found = step(copy.deepcopy(layer).to(device), x.to(device))
    assert {value.device.type for value in found.values()} == {device}
    assert all(value.any() for value in expected.values())
    return {key: relative(found[key], value) for key, value in expected.items()}


@DTYPES
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('split', sorted(SPLITS))
def test_factors_in_every_mode(device, split, mode, dtype):
    apart = distances(factors(split, mode), device, dtype)
    assert apart.keys() >= {'output', 'input', 'A', 'deltas.ir.A', 'deltas.ir.B'}
    assert max(apart.values()) <= BOUNDS[dtype]


@DTYPES
def test_low_rank_updates(device, dtype):
    apart = distances(lora(), device, dtype)
    assert apart.keys() >= {'output', 'input', 'adapters.ir.A', 'adapters.ir.B'}
    assert max(apart.values()) <= BOUNDS[dtype]


@LAYERS
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
def test_autocast(device, make, dtype):
    layer = make()
    expected = step(copy.deepcopy(layer), images())
    with torch.autocast(device, dtype):
        found = step(layer.to(device), images().to(device))
    assert found['output'].dtype == dtype
    for key, value in expected.items():
        assert_close(found[key], value, 2 * BOUNDS[dtype])


@LAYERS
@torch.no_grad()
def test_a_kept_kernel_follows_the_layer_to_another_device(device, make):
    layer = make().eval().requires_grad_(False)
    expected = layer(images())
    assert layer._cache is not None
    for place in (device, 'cpu', device):
        layer.to(place)
        first = layer(images().to(place))
        kept = layer._cache[1]
        assert kept.device.type == place
        assert_close(first, expected, BOUNDS[torch.float32])
        assert torch.equal(layer(images().to(place)), first)
        assert layer._cache[1] is kept


@LAYERS
@torch.no_grad()
def test_a_kept_kernel_follows_what_changes_in_place(device, make):
    layer = make().to(device).eval()
    x = images().to(device)
    before = layer(x)
    layer.enable_adapter('ir', False)
    off = layer(x)
    assert not torch.equal(off, before)
    layer.enable_adapter('ir')
    assert_close(layer(x), before, 1e-6)
    next(iter(layer.active())).A.mul_(2)
    # twice the update: as far from what was as that is from the base
    assert_close(layer(x) - before, before - off, BOUNDS[torch.float32])


@LAYERS
@torch.no_grad()
def test_merge_on_the_device(device, make):
    layer = make().to(device).eval()
    if isinstance(layer, TensorFactConv):
        layer.mode = 'reconstruct'
    x = images().to(device)
    expected = layer(x)
    plain = merge_(nn.Sequential(layer))[0]
    assert type(plain) is nn.Conv2d
    assert plain.weight.device.type == device
    assert torch.equal(plain.weight, layer.kernel())
    assert_close(plain(x), expected, 1e-6)


def test_factorizing_on_the_device(device):
    expected = TensorFactConv.from_conv(conv(), 3)
    found = TensorFactConv.from_conv(conv().to(device), 3)
    assert found.A.device.type == device
    assert_close(found.kernel(), expected.kernel(), BOUNDS[torch.float32])


def _why_not_compile(device: str) -> str | None:
    """What the compiler of torch lacks here."""
    if not any(map(shutil.which, ('cc', 'gcc', 'g++', 'clang'))):
        return 'torch.compile needs a C compiler'
    if device == 'cuda' and find_spec('triton') is None:
        return 'torch.compile needs triton on CUDA'
    if not (Path(sysconfig.get_paths()['include']) / 'Python.h').is_file():
        return 'torch.compile needs the headers of Python'
    return None


@pytest.mark.parametrize('mode', ['reconstruct', 'two_conv'])
def test_compiled_forward(device, mode):
    reason = _why_not_compile(device)
    if reason:
        pytest.skip(reason)
    torch.compiler.reset()
    layer = factors(mode=mode).to(device)
    compiled = torch.compile(layer, fullgraph=True)
    x = images().to(device)
    with torch.no_grad():
        assert_close(compiled(x), layer(x), BOUNDS[torch.float32])
