"""The search for vision transformers, and the grids of their patches."""

import pytest
import torch
from torch import nn

from mmir.adapters.transformers import (
    find_transformers,
    grid_given,
    grid_of_embedding,
    the_transformer,
)


def block() -> nn.ModuleDict:
    parts = dict(norm1=nn.LayerNorm(4), norm2=nn.LayerNorm(4), mlp=nn.Linear(4, 4))
    return nn.ModuleDict(parts)


class Swinlike(nn.Module):
    """Two stages with two and one blocks, named as in timm."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 4, 4, 4)
        stages = [nn.ModuleList(block() for _ in range(n)) for n in (2, 1)]
        self.layers = nn.ModuleList(nn.ModuleDict(dict(blocks=s)) for s in stages)


def test_blocks_and_stages():
    found = the_transformer(nn.ModuleDict(dict(backbone=Swinlike())), 'test')
    assert (found.name, found.family) == ('backbone', 'Swin of timm')
    assert found.embed == 'backbone.patch_embed'
    names = [f'backbone.layers.{s}.blocks.{b}' for s, b in ((0, 0), (0, 1), (1, 0))]
    assert found.blocks == dict(zip(names, (0, 0, 1), strict=True))
    assert found.pyramid
    assert find_transformers(nn.Sequential(block())) == []


def test_none_and_several():
    with pytest.raises(ValueError, match='test: Linear has no vision transformer'):
        the_transformer(nn.Linear(2, 2), 'test')
    with pytest.raises(ValueError, match=r'several vision transformers \(0, 1\)'):
        the_transformer(nn.Sequential(Swinlike(), Swinlike()), 'test')


def test_only_sizes_are_a_grid():
    tables = torch.ones(4, 2), torch.ones(4, 2)
    sizes = torch.tensor(3), torch.tensor(5)  # in a trace
    assert grid_given((None, (3, 5))) == (3, 5)
    assert grid_given((tables, sizes)) is sizes
    assert grid_given((tables, 'x', (1, 2, 3))) is None


def test_grid_of_an_embedding():
    image, tokens = torch.ones(1, 3, 8, 12), torch.ones(1, 6, 4)
    module = nn.Identity()
    assert grid_of_embedding(module, image, (tokens, (2, 3))) == (2, 3)
    assert grid_of_embedding(module, image, torch.ones(1, 2, 3, 4)) == (2, 3)
    module.dynamic_feat_size = lambda size: (size[0] // 4, size[1] // 4)
    assert grid_of_embedding(module, image, tokens) == (2, 3)
