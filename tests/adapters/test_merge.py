"""Merged checkpoints are those of the merged model."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mmir.adapters import merge_, merge_checkpoint, merge_state_dict
from mmir.tensorfact import augment_, factorize_


def network(deltas: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3, groups=4)
    ).to(dtype)
    factorize_(net, rank=2)
    for name in ('ir', 'night')[:deltas]:
        augment_(net, name, 1)
        for layer in (net[0], net[2]):
            nn.init.normal_(layer.deltas[name].A, std=0.1)
    return net


@pytest.mark.parametrize('deltas', [0, 1, 2])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16])
def test_equals_the_merged_model(deltas: int, dtype: torch.dtype) -> None:
    net = network(deltas, dtype)
    merged = merge_state_dict(net.state_dict())
    expected = merge_(net).state_dict()
    assert list(merged.keys() - expected.keys()) == []
    assert merged.keys() == expected.keys()
    for key, value in expected.items():
        assert merged[key].dtype == value.dtype
        assert merged[key].equal(value), key


def test_dense_weights_pass_through() -> None:
    dense = nn.Conv2d(3, 4, 3).state_dict()
    assert merge_state_dict(dense) == dense


def test_other_parameters_called_a_and_b_are_kept() -> None:
    state = {'lora.A': torch.ones(2), 'x.deltas.ir.B': torch.ones(1)}
    assert merge_state_dict(state) == state


def test_file_holds_weights_and_meta_only(tmp_path: Path) -> None:
    net = network(1)
    source, target = tmp_path / 'a.pth', tmp_path / 'b.pth'
    torch.save(
        dict(meta=dict(epoch=3), state_dict=net.state_dict(), optimizer={}), source
    )
    assert merge_checkpoint(source, target) == 2
    written = torch.load(target, weights_only=True)
    assert written.keys() == {'meta', 'state_dict'}
    assert written['meta'] == dict(epoch=3)
    assert written['state_dict'].keys() == merge_(net).state_dict().keys()


def test_nothing_to_merge_writes_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / 'a.pth', tmp_path / 'b.pth'
    torch.save(dict(state_dict=nn.Conv2d(3, 4, 3).state_dict()), source)
    with pytest.raises(ValueError, match='holds no factors'):
        merge_checkpoint(source, target)
    assert not target.exists()
