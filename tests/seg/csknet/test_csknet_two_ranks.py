"""CSK-Net in two processes that see different modalities."""

from pathlib import Path

import pytest
import torch
from small_csknet import CHANNELS, EXCHANGE, batch, csk_net
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from two_ranks import in_two_ranks

pytestmark = pytest.mark.slow
ABSENT = [[('rgb',), ('rgb',)], [('ir',), ()]]  # by rank


def some_steps(rank: int) -> dict[str, Tensor]:
    """Two steps; the first rank never sees RGB."""
    model = csk_net(shared=EXCHANGE, contrast=dict(channels=CHANNELS)).train()
    wrapped = DistributedDataParallel(model, find_unused_parameters=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        losses = wrapped(*batch(*ABSENT[rank]), mode='loss')
        model.parse_losses(losses)[0].backward()
        optimizer.step()
    return model.state_dict()


def test_two_ranks_learn_the_same(tmp_path: Path) -> None:
    first, second = in_two_ranks(some_steps, tmp_path)
    before = csk_net(shared=EXCHANGE, contrast=dict(channels=CHANNELS))
    changed = {}
    for key, value in before.named_parameters():
        assert torch.equal(first[key], second[key]), key
        changed[key] = not torch.equal(first[key], value)
    for name in ('rgb', 'ir'):
        assert any(moved for key, moved in changed.items() if f'copies.{name}' in key)
        assert all(
            moved
            for key, moved in changed.items()
            if f'decoders.{name}.conv_seg' in key
        )
