"""Factored weights at rest: what is written, and what the dense network gets back."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.runner import load_checkpoint
from torch import nn

from mmir.layers import SPLITS, factorize_, merge_, merge_state_dict
from mmir.layers.at_rest import (
    SPLIT_KEY,
    dense_state_dict,
    factor_checkpoint,
    factor_state_dict,
)
from mmir.utils.checkpoint import CheckpointError


class Net(nn.Module):
    """Plain, grouped, depthwise, pointwise and transposed convolutions, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3)
        self.bn = nn.BatchNorm2d(16)
        self.body = nn.Sequential(
            nn.Conv2d(16, 16, 3, groups=4),
            nn.Conv2d(16, 16, 3, groups=16),
            nn.Conv2d(16, 24, 1),
            nn.ConvTranspose2d(24, 12, 4, bias=False),
        )
        self.head = nn.Conv2d(12, 12, 3)
        self.linear = nn.Linear(12, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.bn(self.stem(x))))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    net = Net()
    nn.init.normal_(net.bn.running_mean)
    return net


@pytest.fixture
def file(net: Net, tmp_path: Path) -> Path:
    """A checkpoint as of a training."""
    path = tmp_path / 'dense.pth'
    state = dict(meta=dict(epoch=3), state_dict=net.state_dict(), optimizer=dict(a=1))
    torch.save(state, path)
    return path


def test_kernels_of_which_factors_are_smaller_become_factors(net: Net) -> None:
    state, report = factor_state_dict(net.state_dict(), 2)
    assert report.ranks == {'stem': 2, 'body.0': 2, 'body.3': 2}
    assert set(report.skipped) == {'body.1', 'body.2', 'head'}
    assert 'depthwise' in report.skipped['body.1']
    assert state['stem.A'].shape == (16, 3, 2)
    assert state['body.3.B'].shape == (2, 4, 4)
    kept = state.keys() & net.state_dict().keys()
    assert all(state[k].equal(net.state_dict()[k]) for k in kept)
    saved = sum(
        w.numel() - 2 * (w.shape[0] * w.shape[1] + w.shape[2] * w.shape[3])
        for w in (net.stem.weight, net.body[0].weight, net.body[3].weight)
    )
    assert report.numbers_before - report.numbers_after == saved
    assert report.numbers_before == sum(t.numel() for t in net.state_dict().values())


@settings(max_examples=15, deadline=None)
@given(
    split=st.sampled_from(sorted(SPLITS)),
    rule=st.sampled_from([1, 3, {'alpha': 0.5}, {'energy': 0.8}, {'budget': 0.5}]),
    seed=st.integers(0, 99),
)
def test_reports_the_error_of_what_comes_back(split, rule, seed):
    torch.manual_seed(seed)
    dense = Net().state_dict()
    state, report = factor_state_dict(dense, rule, split)
    back = merge_state_dict(state, split)
    assert back.keys() == dense.keys()
    changed = {k.removesuffix('.weight') for k in dense if not back[k].equal(dense[k])}
    assert changed == set(report.ranks)
    for name, error in report.errors.items():
        kernel = dense[f'{name}.weight']
        gap = (back[f'{name}.weight'] - kernel).norm() / kernel.norm()
        assert error == pytest.approx(gap.item(), rel=1e-4, abs=1e-6)
    name, error = report.worst
    assert error == report.errors[name] == max(report.errors.values())
    assert f'{error:.4f} ({name})' in str(report)


def test_same_network_as_the_factorised_one(net: Net) -> None:
    """Ranks, factors and results are those of `factorize_` on the model."""
    options = dict(rank=2, exclude=['head', r'body\.3'])
    state, _ = factor_state_dict(net.state_dict(), **options)
    twin = Net()
    twin.load_state_dict(merge_state_dict(state))
    factorize_(net, **options)
    assert state.keys() == net.state_dict().keys()
    net.load_state_dict(state)
    x = torch.randn(1, 3, 12, 12)
    assert torch.equal(merge_(net).eval()(x), twin.eval()(x))


def test_full_rank_comes_back_exactly(net: Net) -> None:
    state, report = factor_state_dict(net.state_dict(), 'full', skip_growing=False)
    assert report.worst[1] < 1e-6
    for key, value in merge_state_dict(state).items():
        torch.testing.assert_close(value, net.state_dict()[key])


def test_tied_kernels_stay_one_tensor(tmp_path: Path) -> None:
    conv = nn.Conv2d(16, 16, 3)
    tied = nn.ModuleDict({'a': conv, 'b': conv, 'c': nn.Conv2d(16, 16, 3)})
    state, report = factor_state_dict(tied.state_dict(), 2)
    assert report.ranks == {'a': 2, 'b': 2, 'c': 2}
    assert state['a.A'].data_ptr() == state['b.A'].data_ptr() != state['c.A'].data_ptr()
    assert report.numbers_after == 2 * (2 * (256 + 9) + 16)


@pytest.mark.parametrize('split', SPLITS)
def test_a_dense_network_loads_the_file(net, file, tmp_path, split):
    small = tmp_path / 'small.pth'
    report = factor_checkpoint(file, small, 2, split)
    assert small.stat().st_size < file.stat().st_size
    content = torch.load(small, weights_only=True)
    assert content.keys() == {'meta', 'state_dict'}
    assert content['meta'] == {'epoch': 3, SPLIT_KEY: split}
    twin = Net()
    loaded = load_checkpoint(twin, f'factors://{small}', strict=True)
    assert loaded['meta'] == {'epoch': 3}
    expected = dense_state_dict(content)
    for key, value in twin.state_dict().items():
        assert value.equal(expected[key]), key
    gap = (twin.stem.weight - net.stem.weight).norm() / net.stem.weight.norm()
    assert gap.item() == pytest.approx(report.errors['stem'], rel=1e-4)
    assert all(
        type(m) is type(n) for m, n in zip(twin.modules(), net.modules(), strict=True)
    )


def test_dense_files_read_the_same_by_the_scheme(net: Net, file: Path) -> None:
    twin = Net()
    load_checkpoint(twin, f'factors://{file}', strict=True)
    assert twin.stem.weight.equal(net.stem.weight)


def test_half_precision_stays(net: Net) -> None:
    state, _ = factor_state_dict(net.half().state_dict(), 2)
    assert state['stem.A'].dtype is torch.float16
    assert merge_state_dict(state)['stem.weight'].dtype is torch.float16


def test_what_cannot_be_done_writes_nothing(
    net: Net, file: Path, tmp_path: Path
) -> None:
    target = tmp_path / 'out.pth'
    with pytest.raises(ValueError, match='nothing to factorise at rank 99'):
        factor_checkpoint(file, target, 99)
    with pytest.raises(ValueError, match='nothing to factorise'):
        factor_state_dict({'weight': torch.ones(2, 2, 3, 3)}, 1)
    state, _ = factor_state_dict(net.state_dict(), 2)
    with pytest.raises(ValueError, match='stem has factors already'):
        factor_state_dict(state, 2)
    nn.init.constant_(net.body[0].weight, float('nan'))
    with pytest.raises(ValueError, match=r'body\.0: NaN'):
        factor_state_dict(net.state_dict(), 2)
    assert not target.exists()
    with pytest.raises(FileNotFoundError, match=r'out\.pth'):
        load_checkpoint(net, f'factors://{target}')
    target.write_bytes(b'no checkpoint')
    with pytest.raises(CheckpointError, match='damaged'):
        load_checkpoint(net, f'factors://{target}')


def test_yolov7_l_is_as_small_as_the_specification_says() -> None:
    pytest.importorskip('mmdet')
    from mmir.det.yolov7 import YOLOv7Backbone, YOLOv7HeadModule, YOLOv7Neck

    net = nn.ModuleDict(
        dict(
            backbone=YOLOv7Backbone('l'),
            neck=YOLOv7Neck('l'),
            bbox_head=YOLOv7HeadModule(3, 'l'),
        )
    )
    buffers = {key for key, _ in net.named_buffers()}
    state, report = factor_state_dict(net.state_dict(), 4)
    count = {
        name: sum(t.numel() for k, t in s.items() if k not in buffers)
        for name, s in (('dense', net.state_dict()), ('factors', state))
    }
    assert count == {'dense': 37_207_344, 'factors': 23_353_800}
    assert len(report.ranks) == 46
    back = merge_state_dict(state)
    assert back.keys() == net.state_dict().keys()
    net.load_state_dict(back)
