"""IV-tuning in half precision: gradients of a scaled loss against float32."""

import math

import pytest
import torch
from torch import nn
from transformers import image, network

from mmir.adapters import adapt_
from mmir.ivtuning import (
    HybridAdapter,
    InternalPromptAdapter,
    IVTuning,
    PromptGenerator,
    PromptMixer,
)

BOUNDS = {torch.float16: 0.02, torch.bfloat16: 0.05}
"""Most relative error by the rounding of the frozen part, 2**-11 and 2**-8 per step."""

SCALE = 2.0**16
"""First scale of the loss in mmengine and torch."""


def tuned(name: str, variant: str) -> nn.Module:
    """Adapted network in training mode, without what is random in it."""
    model = network(name)
    torch.manual_seed(1)
    adapt_(model, IVTuning(variant, rank=8, prompt_rank=4), trainable=[])
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, 'drop_prob'):  # of whole paths
            module.drop_prob = 0.0
    return model


def projected(out: torch.Tensor) -> torch.Tensor:
    """A loss with large gradients: squares of maps that end with a norm hardly vary."""
    generator = torch.Generator().manual_seed(5)
    return (out.float() * torch.randn(out.shape, generator=generator)).mean()


def gradients(
    name: str, variant: str, dtype: torch.dtype | None, scale: float = 1.0
) -> dict[str, torch.Tensor]:
    """Gradients of the adapters by the steps of `AmpOptimWrapper`, which wants CUDA."""
    model, x = tuned(name, variant), image(name)
    trained = {k: p for k, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(trained.values(), lr=0.0)
    scaler = torch.amp.GradScaler('cpu', init_scale=scale, enabled=dtype is not None)
    with torch.autocast('cpu', dtype, enabled=dtype is not None):
        loss = sum(projected(out) for out in model(x))
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    if dtype is not None:
        assert scaler.get_scale() == scale  # nothing was infinite
    return {k: p.grad for k, p in trained.items()}


def relative(found: dict, expected: dict) -> float:
    """Distance of all gradients together, relative to their norm."""
    pairs = [(found[k] - value, value) for k, value in expected.items()]
    return math.sqrt(
        sum(d.square().sum().item() for d, _ in pairs)
        / sum(v.square().sum().item() for _, v in pairs)
    )


@pytest.mark.parametrize('variant', ['hybrid', 'mp'])
@pytest.mark.parametrize('name', ['vit', 'clip', 'eva02', 'beit', 'swin', 'vitdet'])
@pytest.mark.parametrize('dtype', BOUNDS, ids=str)
def test_gradients_are_those_of_float32(name, variant, dtype):
    expected = gradients(name, variant, None)
    found = gradients(name, variant, dtype, scale=SCALE)
    assert found.keys() == expected.keys()
    assert all(g.dtype == torch.float32 for g in found.values())
    assert all(g.isfinite().all() for g in found.values())
    assert relative(found, expected) < BOUNDS[dtype]


GRID = ((4, 6),)


@pytest.mark.parametrize(
    ('kind', 'number', 'grid'),
    [
        (PromptGenerator, 2, GRID),
        (PromptMixer, 2, GRID),
        (HybridAdapter, 1, GRID),
        (InternalPromptAdapter, 1, ()),
    ],
)
def test_tokens_whose_squares_overflow(kind, number, grid):
    """A pretrained transformer has a few tokens of huge norm; 2**16 is infinite."""
    torch.manual_seed(0)
    module = kind(16, rank=4)
    module.eval()
    tokens = [torch.randn(2, 24, 16) * 2**7 for _ in range(number)]
    for x in tokens:
        x[:, 5] *= 2**5
    tokens = [x.half() for x in tokens]
    assert all(x.isfinite().all() for x in tokens)
    assert not any(x.square().isfinite().all() for x in tokens)
    expected = module(*[x.float() for x in tokens], *grid)
    with torch.autocast('cpu', torch.float16):
        found = module(*tokens, *grid)
    found.square().mean().backward()
    assert torch.equal(found, expected)
    assert all(p.grad.isfinite().all() for p in module.parameters())
