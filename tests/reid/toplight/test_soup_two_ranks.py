"""Uniform soup at the end of a pretraining in two processes."""

import logging
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from two_ranks import RANKS, in_two_ranks

from mmir.registry import MODELS
from mmir.reid import UniformSoupHook

pytestmark = pytest.mark.slow

BATCHES = 3  # of each process


def views(rank: int) -> list[tuple[Tensor, Tensor]]:
    """Both views of four images, for each batch of a process."""
    gen = torch.Generator().manual_seed(rank)
    shape = (BATCHES, 2, 4, 3, 32, 32)
    return [tuple(batch) for batch in torch.rand(shape, generator=gen) * (1 + rank)]


def pretrained() -> nn.Module:
    """A network whose paths differ, the same in all processes."""
    cfg = dict(
        type='mmir.DualPathBackbone',
        backbone=dict(type='mmir.LightMobileNetV3', arch='small_050'),
        network='mobilenetv3_small_050',
    )
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg)
    with torch.no_grad():
        for value in model.parameters():
            value += 0.05 * torch.randn_like(value)
    return model


def end_of_training(folder: str, rank: int) -> dict[str, Tensor]:
    """Write a soup; returns what a process averaged, without measured statistics."""
    model = nn.Module()
    model.backbone = pretrained()
    model.data_preprocessor = lambda batch, training: dict(inputs=batch)
    place = Path(folder, f'of_{rank}')
    place.mkdir()
    runner = SimpleNamespace(
        model=model,
        work_dir=str(place),
        logger=logging.getLogger('soup'),
        train_dataloader=views(rank),
    )
    UniformSoupHook(batches=BATCHES).after_train(runner)
    return model.backbone.soup()[0].state_dict()


def test_one_file_with_statistics_of_all_processes(tmp_path: Path) -> None:
    plain = in_two_ranks(partial(end_of_training, str(tmp_path)), tmp_path)[0]
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.glob('of_*/*'))
    assert files == [Path('of_0/soup.pth')]
    content = torch.load(tmp_path / files[0], weights_only=True)
    state = content['state_dict']
    assert content['meta']['recalibrated']
    assert state.keys() == plain.keys()
    measured = {k for k, v in plain.items() if not torch.equal(v, state[k])}
    assert all('running' in key or 'num_batches' in key for key in measured)
    stem = pretrained().backbone.layer0.copies
    for k, name in enumerate(('rgb', 'ir')):
        batches = [batch[k] for rank in range(RANKS) for batch in views(rank)]
        with torch.no_grad():
            maps = [stem[name].conv(batch) for batch in batches]
        start = f'backbone.layer0.copies.{name}.bn.running'
        mean = torch.stack([x.mean((0, 2, 3)) for x in maps]).mean(0)
        variance = torch.stack([x.var((0, 2, 3)) for x in maps]).mean(0)
        torch.testing.assert_close(state[f'{start}_mean'], mean)
        torch.testing.assert_close(state[f'{start}_var'], variance)
