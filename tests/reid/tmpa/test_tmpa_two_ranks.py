"""TMPA in two processes, one of which never sees RGB."""

from pathlib import Path

import pytest
import torch
from reid_models import people, tmpa
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from two_ranks import in_two_ranks

pytestmark = pytest.mark.slow
MODALITIES = (['rgb', 'rgb', 'ir', 'ir'], ['ir'] * 4)


def some_steps(rank: int) -> dict[str, Tensor]:
    """Two steps."""
    model = tmpa().train()
    wrapped = DistributedDataParallel(model, broadcast_buffers=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    images = torch.rand(4, 3, 64, 32, generator=torch.Generator().manual_seed(rank))
    for _ in range(2):
        losses = wrapped(images, people(MODALITIES[rank], [0, 1, 0, 1]), 'loss')
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    return model.state_dict()


def test_processes_agree(tmp_path: Path) -> None:
    first, second = in_two_ranks(some_steps, tmp_path)
    model = tmpa()
    before = model.state_dict()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    for key in trained:
        assert torch.equal(first[key], second[key]), key
    for name in ('rgb', 'ir'):
        key = f'backbone.transfer.copies.{name}.expand.weight'
        assert not torch.equal(first[key], before[key])
