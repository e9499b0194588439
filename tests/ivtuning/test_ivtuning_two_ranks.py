"""IV-tuning in two processes: equal adapters, frozen backbone."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import network
from two_ranks import in_two_ranks

from mmir.adapters import adapt_
from mmir.ivtuning import IVTuning

pytestmark = pytest.mark.slow


def tuned(name: str, variant: str) -> nn.Module:
    torch.manual_seed(0)
    model = network(name)
    adapt_(model, IVTuning(variant=variant), name='ir')
    model.train()  # returns nothing in mmpretrain
    return model


def train(rank: int, name: str, variant: str) -> dict[str, Tensor]:
    """Two steps with weight decay; each rank has images of its own."""
    model = tuned(name, variant)
    wrapped = DistributedDataParallel(model, find_unused_parameters=False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.1)
    rng = torch.Generator().manual_seed(rank)
    for _ in range(2):
        optimizer.zero_grad()
        maps = wrapped(torch.randn(2, 6, 64, 64, generator=rng))
        sum(x.square().mean() for x in maps).backward()
        optimizer.step()
    return model.state_dict()


def vit(rank: int) -> dict[str, Tensor]:
    return train(rank, 'vit', 'hybrid')


def vit_mp(rank: int) -> dict[str, Tensor]:
    return train(rank, 'vit', 'mp')


def swin(rank: int) -> dict[str, Tensor]:
    return train(rank, 'swin', 'hybrid')


@pytest.mark.parametrize('work', [vit, vit_mp, swin])
def test_two_ranks_learn_the_same(work, tmp_path: Path) -> None:
    first, second = in_two_ranks(work, tmp_path)
    name, variant = dict(vit_mp=('vit', 'mp')).get(
        work.__name__, (work.__name__, 'hybrid')
    )
    model = tuned(name, variant)
    before = model.state_dict()
    trains = {n for n, p in model.named_parameters() if p.requires_grad}
    for key, _ in model.named_parameters():
        assert torch.equal(first[key], second[key]), key
        assert torch.equal(first[key], before[key]) is (key not in trains), key
