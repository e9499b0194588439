"""Two processes that see different modalities train one model."""

from pathlib import Path

import pytest
import torch
from reid_models import IDS, WIDTH, two_ddp_steps, vireid
from torch import Tensor
from two_ranks import in_two_ranks

from mmir.reid import CenterLoss

pytestmark = pytest.mark.slow


def some_steps(rank: int) -> dict[str, Tensor]:
    """Two steps; the second process never sees RGB."""
    center = dict(type='mmir.CenterLoss', num_classes=IDS, in_channels=WIDTH)
    return two_ddp_steps(vireid(metric=dict(center=center)), rank, (32, 16))


def test_processes_agree(tmp_path: Path) -> None:
    first, second = in_two_ranks(some_steps, tmp_path)
    before = vireid().state_dict()
    for key in first:
        same = torch.equal(first[key], second[key])
        assert same or 'running' in key or 'num_batches' in key, key
    for name in ('rgb', 'ir'):
        key = f'backbone.backbone.conv1.copies.{name}.weight'
        assert not torch.equal(first[key], before[key])


def centers(rank: int) -> Tensor:
    """Centres after a step with the samples of a process."""
    loss = CenterLoss(2, 1)
    loss(SAMPLES[rank], torch.tensor([0, 1]))
    return loss.centers


SAMPLES = torch.tensor([[[1.0], [2.0]], [[3.0], [6.0]]])


def test_centers_move_by_the_samples_of_all_processes(tmp_path: Path) -> None:
    found = in_two_ranks(centers, tmp_path)
    alone = CenterLoss(2, 1)
    alone(SAMPLES.flatten(0, 1), torch.tensor([0, 1, 0, 1]))
    assert torch.equal(found[0], found[1])
    torch.testing.assert_close(found[0], alone.centers)
