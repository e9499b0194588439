"""A second set of statistics for passes with one modality."""

import copy

import pytest
import torch
from torch import Tensor, nn

from mmir.layers import ModalityNorm, SoloStatistics
from mmir.layers.presence import ModalityRoute, Presence
from mmir.layers.solo_statistics import modality_norms


class Net(nn.Module):
    """A norm per modality and a plain one."""

    def __init__(self) -> None:
        super().__init__()
        self.route = ModalityRoute(('rgb', 'ir'))
        self.stage = nn.Sequential(ModalityNorm(nn.BatchNorm2d(2), self.route))
        self.norm = nn.BatchNorm2d(2)
        self.decoders = nn.ModuleDict(dict(ir=nn.BatchNorm2d(2), rgb=nn.Identity()))
        self.solo_statistics = SoloStatistics()
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        parts = dict(rgb=x, ir=x)
        presence = Presence.of(('rgb', 'ir'), len(x), only='ir')
        return self.route.run(self.stage, parts, presence)['ir'][0]


NORM = 'stage.0.copies.ir'


@pytest.fixture
def net() -> Net:
    return Net()


def record(net: Net) -> tuple[Tensor, Tensor]:
    mean, var = torch.tensor([1.0, -2.0]).double(), torch.tensor([4.0, 9.0]).double()
    net.solo_statistics.record('ir', {NORM: (mean, var)})
    return mean[:, None, None], var[:, None, None]


def images() -> Tensor:
    return torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)).double()


def test_norms_of_a_modality(net: Net) -> None:
    assert list(modality_norms(net, 'ir')) == [NORM, 'decoders.ir']
    assert list(modality_norms(net, 'rgb')) == ['stage.0.copies.rgb']
    assert modality_norms(net, 'depth') == {}
    plain = nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False))
    holder = nn.ModuleDict(dict(copies=nn.ModuleDict(dict(ir=plain))))
    assert modality_norms(holder, 'ir') == {}


def test_within_the_block_the_norm_uses_them(net: Net) -> None:
    x, before = images(), net(images())
    state = copy.deepcopy(net.state_dict())
    mean, var = record(net)
    assert net.solo_statistics.modalities == ('ir',)
    with net.solo_statistics.alone(net, 'ir'):
        eps = net.get_submodule(NORM).eps
        torch.testing.assert_close(net(x), (x - mean) / (var + eps).sqrt())
        inside = net.state_dict()
    assert torch.equal(net(x), before)
    assert torch.equal(inside[f'{NORM}.running_mean'], mean.flatten())
    assert all(
        torch.equal(net.state_dict()[key], value) for key, value in state.items()
    )


def test_an_error_within_the_block_restores_them(net: Net) -> None:
    before = net(images())
    record(net)
    with pytest.raises(KeyError), net.solo_statistics.alone(net, 'ir'):
        raise KeyError
    assert torch.equal(net(images()), before)


def test_other_modalities_and_training_leave_the_norms(net: Net) -> None:
    record(net)
    norm = net.get_submodule(NORM)
    own = norm.running_mean
    with net.solo_statistics.alone(net, 'rgb'):
        assert norm.running_mean is own
    net.train()
    with net.solo_statistics.alone(net, 'ir'):
        net(images())
    assert norm.running_mean is own
    assert norm.num_batches_tracked == 1
    stored = dict(net.solo_statistics.named_buffers())
    assert stored['sets.ir.stage/0/copies/ir/mean'].tolist() == [1, -2]


def test_what_is_recorded_is_a_copy(net: Net) -> None:
    value = torch.zeros(2).double()
    net.solo_statistics.record('ir', {NORM: (value, value)})
    value += 1
    buffers = dict(net.solo_statistics.sets.named_buffers())
    assert len(buffers) == 2
    assert all(not x.any() for x in buffers.values())


def test_checkpoints(net: Net) -> None:
    plain = Net()
    assert not [k for k in plain.state_dict() if 'solo' in k]
    record(net)
    plain.load_state_dict(net.state_dict())  # it had none
    assert plain.state_dict().keys() == net.state_dict().keys()
    with net.solo_statistics.alone(net, 'ir'), plain.solo_statistics.alone(plain, 'ir'):
        assert torch.equal(net(images()), plain(images()))
    plain.load_state_dict(Net().state_dict())  # and has none again
    assert plain.solo_statistics.modalities == ()


def test_copies_have_their_own(net: Net) -> None:
    record(net)
    other = copy.deepcopy(net)
    other.solo_statistics.record('ir', {NORM: (torch.zeros(2), torch.ones(2))})
    stored = dict(net.solo_statistics.named_buffers())
    assert stored['sets.ir.stage/0/copies/ir/var'].tolist() == [4, 9]
    assert net.float().solo_statistics.state_dict().popitem()[1].dtype == torch.float32
