"""`MFT` and its block: parameters, closed forms, an independent local attention."""

import pytest
import torch
from torch import Tensor

from mmir.reid import MFT
from mmir.reid.tmpa.transfer_block import TransferBlock
from mmir.utils.errors import UserError


def block(channels: int = 16, **cfg: object) -> TransferBlock:
    torch.manual_seed(0)
    return TransferBlock(channels, **cfg)


def maps(channels: int = 16, size: tuple[int, int] = (6, 5)) -> Tensor:
    return torch.randn(2, 3, channels, *size, generator=torch.Generator())


def test_parameters_are_those_of_acmix() -> None:
    count = sum(p.numel() for p in block(64, reach='local').parameters())
    assert count == 17822


def test_one_tap_returns_the_first_head_of_the_query() -> None:
    module, (asking, answering) = block(), maps()
    module.rates.data.copy_(torch.tensor([0.0, 1.0]))
    module.mix.weight.data.zero_()
    module.mix.weight.data[4, 0] = 1  # centre of the kernel
    expected = module.query(asking)[:, :4].repeat_interleave(4, 1)
    assert torch.equal(module(asking, answering), expected)


def test_a_tap_shifts() -> None:
    module, (asking, answering) = block(paths=['convolution']), maps()
    module.mix.weight.data.zero_()
    module.mix.weight.data[0, 9] = 1  # upper left, second head of the value
    value = module.value(answering)[:, 4:8].repeat_interleave(4, 1)
    expected = torch.zeros_like(value)
    expected[..., 1:, 1:] = value[..., :-1, :-1]
    assert torch.equal(module(asking, answering), expected)


@pytest.mark.parametrize('reach', ['global', 'local'])
def test_rates_combine_the_paths(reach: str) -> None:
    module, (asking, answering) = block(reach=reach), maps()
    both = module(asking, answering)
    parts = []
    for rates in ((1, 0), (0, 1), (0, 0)):
        module.rates.data.copy_(torch.tensor(rates))
        parts.append(module(asking, answering))
    torch.testing.assert_close(both, (parts[0] + parts[1]) / 2)
    assert not parts[2].any()
    order = [2, 0, 1]
    module.rates.data.fill_(0.5)
    torch.testing.assert_close(module(asking[order], answering[order]), both[order])


def heads(module: TransferBlock, asking: Tensor, answering: Tensor) -> list[Tensor]:
    """Query, key and value (N, heads, width, H, W)."""
    q, k, v = module.query(asking), module.key(answering), module.value(answering)
    return [x.view(len(x), 4, -1, *x.shape[-2:]) for x in (q, k, v)]


def test_global_attention_by_definition() -> None:
    module, (asking, answering) = block(paths=['attention']), maps()
    q, k, v = (x.flatten(3) for x in heads(module, asking, answering))
    weights = (torch.einsum('nhcq,nhck->nhqk', q, k) / 2).softmax(-1)
    expected = torch.einsum('nhqk,nhck->nhcq', weights, v).reshape(asking.shape)
    torch.testing.assert_close(module(asking, answering), expected)


def test_local_attention_position_by_position() -> None:
    module = block(paths=['attention'], reach='local')
    asking, answering = maps()
    q, k, v = heads(module, asking, answering)
    rows, cols = asking.shape[-2:]

    def place(row: int, col: int) -> Tensor:
        xy = torch.tensor([2 * col / (cols - 1) - 1, 2 * row / (rows - 1) - 1])
        return module.position.weight[:, :, 0, 0] @ xy + module.position.bias

    def inside(at: int, size: int) -> int:
        return size - 1 - abs(size - 1 - abs(at))  # mirrored at the border

    expected = torch.empty_like(q)
    for row in range(rows):
        for col in range(cols):
            near = [
                (inside(row + i, rows), inside(col + j, cols))
                for i in range(-3, 4)
                for j in range(-3, 4)
            ]
            keys = torch.stack(
                [k[..., r, c] + place(row, col) - place(r, c) for r, c in near], -1
            )
            values = torch.stack([v[..., r, c] for r, c in near], -1)
            scores = (q[..., row, col, None] * keys).sum(2) / 2
            weights = scores.softmax(-1)[:, :, None]
            expected[..., row, col] = (weights * values).sum(-1)
    torch.testing.assert_close(module(asking, answering), expected.flatten(1, 2))


@pytest.mark.parametrize('reach', ['global', 'local'])
def test_attention_received_is_the_gradient_of_the_values(reach: str) -> None:
    module, (asking, answering) = block(paths=['attention'], reach=reach), maps()
    module.rates.data.fill_(1)
    found = module.received(asking, answering)
    caught = []
    module.value.register_forward_hook(lambda *_: caught.append(_[2]) or _[2])
    out = module(asking, answering)
    (grad,) = torch.autograd.grad(out.sum(), caught)  # weights, summed over queries
    torch.testing.assert_close(found, grad.mean(1) / found[0].numel())
    torch.testing.assert_close(found.sum((1, 2)), torch.ones(3))
    with torch.autocast('cpu', torch.bfloat16):
        assert module.received(asking, answering).shape == found.shape
    with pytest.raises(UserError, match='no attention'):
        block(paths=['convolution']).received(asking, answering)


def test_transfer_begins_at_the_shared_map_and_needs_both() -> None:
    torch.manual_seed(0)
    module = MFT(32, 16, heads=4)
    shared, specific = maps(32).requires_grad_()
    shared.retain_grad()
    module.norm.weight.data.zero_()
    assert torch.equal(module(shared, specific), shared)
    module.norm.weight.data.fill_(1)
    out = module(shared, specific)
    mean = (out - shared).mean((0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(32), atol=1e-5, rtol=0)
    for wrong in (shared + specific, specific.flip(0)):
        assert not torch.allclose(module(shared, wrong), out)
    out.square().sum().backward()
    assert [n for n, p in module.named_parameters() if p.grad is None] == []


def test_double_precision_gradients() -> None:
    module = block(4, heads=2, reach='local').double()
    x = maps(4, (4, 4)).double()[:, :1].requires_grad_()
    assert torch.autograd.gradcheck(lambda pair: module(*pair), (x,))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(UserError, match='multiple of heads=4'):
        MFT(8, 6)
    with pytest.raises(UserError, match="'attention', 'convolution'"):
        MFT(8, 8, paths=['both'])
    with pytest.raises(UserError, match="'global', 'local'"):
        MFT(8, 8, reach='near')
    small = maps(size=(3, 5))
    with pytest.raises(UserError, match="reach='global'"):
        block(reach='local')(*small)
