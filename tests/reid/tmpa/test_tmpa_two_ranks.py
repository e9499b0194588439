"""TMPA in two processes, one of which never sees RGB."""

from pathlib import Path

import pytest
import torch
from reid_models import tmpa, two_ddp_steps
from torch import Tensor
from two_ranks import in_two_ranks

pytestmark = pytest.mark.slow


def some_steps(rank: int) -> dict[str, Tensor]:
    """Two steps."""
    return two_ddp_steps(tmpa(), rank, (64, 32))


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
