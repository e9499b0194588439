"""Outputs of transformer blocks as maps."""

import pytest
import torch
from torch import Tensor, nn

from mmir.adapters.block_maps import block_maps, tokens_to_map
from mmir.adapters.transformers import the_transformer


class Block(nn.Module):
    """Block of timm's names that scales the tokens."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.norm2, self.mlp = nn.LayerNorm(2), nn.Identity()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Embedding(nn.Module):
    """Pixels as tokens, and their grid."""

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        return x.flatten(2).transpose(1, 2), tuple(x.shape[2:])


class Network(nn.Module):
    """Transformer with a class token and two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = Embedding()
        self.blocks = nn.ModuleList([Block(2.0), Block(5.0)])

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch_embed(x)[0]
        tokens = torch.cat([torch.full_like(tokens[:, :1], 9), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


def test_maps_of_the_latest_pass():
    model = Network()
    found = the_transformer(model, 'test')
    x = torch.arange(12.0).view(1, 2, 2, 3)
    with block_maps(model, found) as maps:
        assert maps == {}
        model(-x[..., :2])
        model(x)
    assert list(maps) == ['blocks.0', 'blocks.1']
    assert torch.equal(maps['blocks.0'], 2 * x)
    assert torch.equal(maps['blocks.1'], 10 * x)
    maps['blocks.1'].sum().backward()
    assert model.blocks[1].factor.grad == 2 * x.sum()
    model(x + 1)  # no hook is left
    assert torch.equal(maps['blocks.0'], 2 * x)


def test_chosen_blocks_without_graph():
    model = Network()
    found = the_transformer(model, 'test')
    with block_maps(model, found, ['blocks.1'], detach=True) as maps:
        model(torch.ones(1, 2, 2, 2))
    assert list(maps) == ['blocks.1']
    assert not maps['blocks.1'].requires_grad


def test_tokens_and_maps():
    tokens = torch.arange(14.0).view(1, 7, 2)
    x = tokens_to_map(tokens, (2, 3))
    assert x[0, 0].tolist() == [[2, 4, 6], [8, 10, 12]]  # one token before them
    same = tokens_to_map(tokens[:, 1:].view(1, 2, 3, 2), (9, 9))
    assert torch.equal(x, same)
    with pytest.raises(RuntimeError, match='7 tokens for a grid of 2 x 4 patches'):
        tokens_to_map(tokens, (2, 4))
