"""Uniform soup at the end of a pretraining in two processes."""

import logging
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import SyncBuffersHook
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from two_ranks import RANKS, in_two_ranks

from mmir.registry import MODELS
from mmir.reid import UniformSoupHook, recalibrate_soup

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]

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


def drift(backbone: nn.Module, rank: int) -> None:
    """Statistics of norms as a process measured them on its own images."""
    gen = torch.Generator().manual_seed(10 + rank)
    for name, value in backbone.named_buffers():
        if 'running' in name:
            value += torch.rand(value.shape, generator=gen)


def runner_of(folder: str, rank: int) -> SimpleNamespace:
    """What the hooks read of a runner after its last step, the model in DDP."""
    model = nn.Module()
    model.backbone = pretrained()
    drift(model.backbone, rank)
    model.data_preprocessor = lambda batch, training: dict(inputs=batch)
    place = Path(folder, f'of_{rank}')
    place.mkdir()
    return SimpleNamespace(
        model=MMDistributedDataParallel(model, broadcast_buffers=False),
        work_dir=str(place),
        logger=logging.getLogger('soup'),
        train_dataloader=views(rank),
    )


def end_of_training(folder: str, recalibrate: bool, rank: int) -> dict[str, Tensor]:
    """Write a soup, each process in a folder of its own; returns its statistics."""
    runner = runner_of(folder, rank)
    own = {k: v.clone() for k, v in runner.model.module.backbone.named_buffers()}
    SyncBuffersHook().after_train_epoch(runner)
    hook = UniformSoupHook(recalibrate=recalibrate, batches=BATCHES)
    hook.after_train(runner)
    return own


def written(folder: Path) -> dict:
    """Content of the only file that both processes wrote."""
    files = sorted(path.relative_to(folder) for path in folder.glob('of_*/*'))
    assert files == [Path('of_0/soup.pth')]
    return torch.load(folder / files[0], weights_only=True)


@pytest.fixture(scope='module')
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What two processes wrote after they measured statistics."""
    folder = tmp_path_factory.mktemp('measured')
    in_two_ranks(partial(end_of_training, str(folder), True), folder)
    return written(folder)


def test_recalibration_on_two_ranks_is_that_of_one_process(measured: dict) -> None:
    """One process that reads the batches of both measures the same statistics."""
    assert measured['meta']['recalibrated']
    backbone, _ = pretrained().soup()
    batches = [batch for rank in range(RANKS) for batch in views(rank)]
    assert recalibrate_soup(backbone, batches) == RANKS * BATCHES
    expected, state = backbone.state_dict(), measured['state_dict']
    assert expected.keys() == state.keys()
    for key, value in expected.items():
        if 'num_batches' not in key:  # each process counts its own
            torch.testing.assert_close(state[key], value, msg=key)


def test_statistics_of_a_stem_are_means_over_all_batches(measured: dict) -> None:
    """Of the maps that its convolution makes of the views of its path."""
    state = measured['state_dict']
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


def test_plain_average_has_the_statistics_of_both_ranks(tmp_path: Path) -> None:
    """That of a process whose statistics are the means of those of both."""
    own = in_two_ranks(partial(end_of_training, str(tmp_path), False), tmp_path)
    content = written(tmp_path)
    assert not content['meta']['recalibrated']
    moved = [k for k, v in own[0].items() if not torch.equal(v, own[1][k])]
    assert len(moved) == sum('running' in key for key in own[0])
    backbone = pretrained()
    for name, value in backbone.named_buffers():
        value.copy_((own[0][name] + own[1][name]) / RANKS)
    expected, state = backbone.soup()[0].state_dict(), content['state_dict']
    assert expected.keys() == state.keys()
    for key, value in expected.items():
        torch.testing.assert_close(state[key], value, msg=key)


@pytest.mark.parametrize('name', ['top_mbv3l', 'top_mbv3l_mean'])
def test_configs_average_statistics_of_processes(name: str) -> None:
    cfg = Config.fromfile(ROOT / f'configs/toplight/{name}.py')
    assert cfg.default_hooks.sync_buffers.type == 'SyncBuffersHook'
    assert [hook.type for hook in cfg.custom_hooks].count('mmir.UniformSoupHook') == 1
