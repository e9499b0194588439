"""Comparison of the same computation on two devices."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

BOUNDS = {
    torch.float64: 1e-10,
    torch.float32: 1e-4,
    torch.float16: 5e-3,
    torch.bfloat16: 3e-2,
}
"""Largest relative distance of results by the precision of the inputs."""


def relative(found: Tensor, expected: Tensor) -> float:
    """Distance of two tensors by the norm of the second, in float64 on the CPU."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    assert found.shape == expected.shape
    return float((found - expected).norm() / expected.norm().clamp(min=1e-30))


def assert_close(found: Tensor, expected: Tensor, bound: float) -> None:
    """Compare by `relative`; the expected tensor must not vanish."""
    assert expected.any(), 'nothing but zeros to compare'
    distance = relative(found, expected)
    assert distance <= bound, f'{distance:.2e} apart, {bound:.0e} allowed'


def moved(value: Any, device: str) -> Any:
    """Tensors of nested lists and tuples on a device; the rest as it is."""
    if isinstance(value, Tensor):
        return value.detach().clone().to(device)
    if isinstance(value, (list, tuple)):
        return type(value)(moved(item, device) for item in value)
    return copy.deepcopy(value)


def with_gradients(
    function: Callable[..., Tensor], inputs: Sequence[Any], device: str
) -> list[Tensor]:
    """Result on a device, then the gradients by the floating inputs.

    The sum that is derived has weights, so that no gradient is the same everywhere.
    """
    own = [moved(each, device) for each in inputs]
    leaves = [
        each.requires_grad_()
        for each in own
        if isinstance(each, Tensor) and each.is_floating_point()
    ]
    result = function(*own)
    assert result.device.type == device
    weights = torch.linspace(-1, 2, result.numel(), dtype=torch.float64)
    weights = weights.view(result.shape).to(result)
    return [result, *torch.autograd.grad((result * weights).sum(), leaves)]


def farthest(
    function: Callable[..., Tensor], inputs: Sequence[Any], device: str
) -> float:
    """Largest relative distance to the CPU of the value and the gradients."""
    expected = with_gradients(function, inputs, 'cpu')
    found = with_gradients(function, inputs, device)
    assert all(each.any() for each in expected), 'nothing but zeros to compare'
    return max(map(relative, found, expected))
