"""Attention and gated MLPs whose activations are computed again."""

import pytest
import torch
from torch import nn

from mmir.adapters.lean import CORES, instead, lean

D, HIDDEN, HEADS, LENGTH, BATCH = 32, 40, 2, 17, 3
GRID = 4, 4


def eva_block() -> tuple[nn.Module, torch.Tensor, tuple]:
    """Block of EVA-02 with sub-layer norm, its tokens and further arguments."""
    pytest.importorskip('mmpretrain')
    from mmpretrain.models.backbones.vit_eva02 import EVA02EndcoderLayer
    from mmpretrain.models.utils import RotaryEmbeddingFast

    rope = RotaryEmbeddingFast(D // HEADS, GRID)
    block = EVA02EndcoderLayer(D, HEADS, HIDDEN, sub_ln=True, rope=rope, attn_drop=0.3)
    return block, torch.randn(BATCH, LENGTH, D), (GRID,)


def swin_block() -> tuple[nn.Module, torch.Tensor, tuple]:
    """Block of Swin with shifted windows, its tokens and further arguments."""
    pytest.importorskip('mmpretrain')
    from mmpretrain.models.backbones.swin_transformer import SwinBlock

    block = SwinBlock(
        D, HEADS, window_size=2, shift=True, attn_cfgs=dict(proj_drop=0.3)
    )
    return block, torch.randn(BATCH, 16, D), (GRID,)


def results(
    block: nn.Module, x: torch.Tensor, more: tuple, save: bool
) -> tuple[list[torch.Tensor], int]:
    """Output and gradients, and the bytes that autograd saves beside parameters."""
    own = {t.data_ptr() for t in (*block.parameters(), *block.buffers())}
    saved = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes(), tensor.detach()
        return tensor

    x = x.clone().requires_grad_()
    torch.manual_seed(5)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        if save:
            out = block(x, *more)
        else:
            with lean(block):
                out = block(x, *more)
    out.square().mean().backward()
    gradients = [p.grad for p in block.parameters() if p.grad is not None]
    block.zero_grad()
    return [out, x.grad, *gradients], sum(size for size, _ in saved.values())


@pytest.mark.parametrize('make', [eva_block, swin_block])
@pytest.mark.parametrize('trains', [False, True])
def test_values_are_the_same_and_less_is_saved(make, trains):
    torch.manual_seed(0)
    block, x, more = make()
    block.double().train().requires_grad_(trains)
    (expected, much), (found, few) = (
        results(block, x.double(), more, save) for save in (True, False)
    )
    assert len(found) == (2 + len(list(block.parameters())) if trains else 2)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert few < much
    assert all('forward' not in vars(module) for module in block.modules())


def test_what_a_frozen_block_of_eva02_saves():
    torch.manual_seed(0)
    block, x, more = eva_block()
    block.attn.attn_drop.p = 0.0
    block.train().requires_grad_(False)
    _, few = results(block, x, more, save=False)
    tokens, rows = 4 * x.numel(), 4 * BATCH * LENGTH
    norms = 2 * (tokens + 2 * rows)
    # queries, keys and values; both halves of the gate
    assert few == norms + 3 * tokens + 2 * rows * HIDDEN


def test_the_drawn_numbers_of_dropout_are_the_same_again():
    torch.manual_seed(0)
    block, x, more = eva_block()
    block.double().train()
    first, second = (results(block, x.double(), more, False)[0] for _ in range(2))
    assert all(map(torch.equal, first, second))
    block.eval()
    assert not torch.equal(results(block, x.double(), more, False)[0][0], first[0])


def test_an_mlp_that_adds_its_input_is_left_alone():
    ffn = pytest.importorskip('mmpretrain.models.utils').SwiGLUFFN
    for adds in (False, True):
        part = ffn(D, HIDDEN, add_identity=adds)
        assert CORES['SwiGLUFFN'].fits(part) != adds
        block = nn.Sequential(part)
        x = torch.randn(2, D)
        with lean(block):
            assert ('forward' in vars(part)) != adds
            out = block(x)
        assert torch.equal(out, block(x))


def test_another_forward_for_a_while():
    inner = nn.Identity()
    with instead(inner, lambda x: x + 1):
        with instead(inner, lambda x: x + 2):
            assert inner(1) == 3
        assert inner(1) == 2
    assert inner(1) == 1
    with pytest.raises(RuntimeError), instead(inner, lambda x: x + 1):
        raise RuntimeError
    assert 'forward' not in vars(inner)
