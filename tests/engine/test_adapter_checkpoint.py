"""The adapter file holds the weights of the checkpoint next to it."""

from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from mmir.adapters import freeze_, load_adapter
from mmir.engine import AdapterCheckpointHook
from mmir.tensorfact import augment_, factorize_


def staged() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3))
    factorize_(net, rank=2)
    augment_(net, 'ir', 1)
    freeze_(net, 'ir', trainable=[])
    return net


def test_averaged_weights_are_written(tmp_path: Path) -> None:
    net = staged()
    average = {
        k: v + 1 if '.deltas.' in k else v.clone() for k, v in net.state_dict().items()
    }
    runner = SimpleNamespace(model=net, work_dir=str(tmp_path))
    AdapterCheckpointHook().before_save_checkpoint(runner, dict(state_dict=average))
    base = staged()
    load_adapter(base, tmp_path / 'adapter.pth')
    for key, value in base.state_dict().items():
        assert value.equal(average[key]), key
    assert not net.state_dict()['0.deltas.ir.A'].equal(average['0.deltas.ir.A'])


def test_a_model_in_no_stage_writes_nothing(tmp_path: Path) -> None:
    net = nn.Conv2d(3, 4, 3)
    runner = SimpleNamespace(model=net, work_dir=str(tmp_path))
    AdapterCheckpointHook().before_save_checkpoint(
        runner, dict(state_dict=net.state_dict())
    )
    assert list(tmp_path.iterdir()) == []


def test_the_adapted_part_of_a_model_is_written(tmp_path: Path) -> None:
    net = nn.ModuleDict(dict(backbone=staged(), head=nn.Conv2d(16, 2, 1)))
    average = {k: v + 1 for k, v in net.state_dict().items()}
    runner = SimpleNamespace(model=net, work_dir=str(tmp_path))
    AdapterCheckpointHook().before_save_checkpoint(runner, dict(state_dict=average))
    base = staged()
    load_adapter(base, tmp_path / 'adapter.pth')
    assert base.state_dict()['0.deltas.ir.A'].equal(average['backbone.0.deltas.ir.A'])


def test_several_parts_are_written_to_their_own_files(tmp_path: Path) -> None:
    net = nn.ModuleDict(dict(rgb=staged(), ir=nn.ModuleList([staged()])))
    runner = SimpleNamespace(model=net, work_dir=str(tmp_path))
    state = dict(state_dict=net.state_dict())
    AdapterCheckpointHook('a.pth').before_save_checkpoint(runner, state)
    assert {p.name for p in tmp_path.iterdir()} == {'a.rgb.pth', 'a.ir.0.pth'}
