"""Small modules outside of autocast."""

import pytest
import torch
from torch import Tensor, nn

from mmir.adapters.precision import own_precision


class Small(nn.Module):
    """A projection of the sum of two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3))

    @own_precision
    def forward(self, x: Tensor, other: Tensor, times: int) -> Tensor:
        return times * nn.functional.linear(x + other, self.weight)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_autocast_changes_nothing(dtype):
    module, x, other = Small(), torch.randn(5, 3).to(dtype), torch.randn(5, 3)
    expected = 2 * (x.float() + other) @ module.weight.T
    with torch.autocast('cpu', torch.bfloat16):
        found = module(x, other, 2)
        plain = nn.functional.linear(x, module.weight)
    assert plain.dtype == torch.bfloat16  # what autocast does otherwise
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert module.weight.grad.dtype == torch.float32


def test_without_autocast_the_input_keeps_its_dtype():
    module, x = Small().double(), torch.randn(5, 3).double()
    found = module(x, torch.zeros_like(x), 1)
    torch.testing.assert_close(found, x @ module.weight.T)
    assert found.dtype == torch.float64
