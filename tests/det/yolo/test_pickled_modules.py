"""Files of pickled modules are read without running their code, or refused."""

import os
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from mmir.det.yolo.pickled_modules import Foreign, module_weights, read_pickled
from mmir.det.yolo.released import read_weights
from mmir.utils.checkpoint import CheckpointError


class Block(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.act = nn.SiLU()
        self.up = nn.Upsample(None, 2, 'nearest')
        self.register_buffer('grid', torch.arange(6).view(2, 3).t())
        self.names = ['person', 'car']
        self.unused = None


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *args) -> None:
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Save objects of a package `models` that is gone afterwards."""
    package = ModuleType('models')
    package.Block = Block
    monkeypatch.setattr(Block, '__module__', 'models')

    def _save(content, **options):
        path = tmp_path / 'file.pt'
        sys.modules['models'] = package
        try:
            torch.save(content, path, **options)
        finally:
            del sys.modules['models']
        return path

    return _save


def test_modules_become_their_weights(save):
    torch.manual_seed(0)
    block = Block()
    found = module_weights(read_pickled(save(block)))
    assert 'models' not in sys.modules
    expected = block.state_dict()
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert type(found[key]) is torch.Tensor
        assert torch.equal(found[key], value), key
        assert found[key].dtype == value.dtype


@pytest.mark.parametrize(
    'dtype', [torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.bool]
)
def test_every_kind_of_tensor(save, dtype):
    base = torch.arange(24).reshape(2, 3, 4).to(dtype)
    content = dict(a=base, view=base[1:, :, ::2], empty=base[:0], one=base[1, 1, 1])
    found = read_pickled(save(content))
    for key, value in content.items():
        assert torch.equal(found[key], value)
        assert found[key].dtype == dtype
    # views share their storage and are writable
    found['a'].zero_()
    assert not found['view'].any()


def test_what_lies_beside_the_weights_stays_inert(save):
    content = dict(
        best=np.float64(0.5),
        results=np.arange(3.0),
        size=torch.Size([1, 2]),
        device=torch.device('cpu'),
        some={1, 2},
        none=None,
        block=Block(),
        kind=Block,
    )
    found = read_pickled(save(content))
    assert {k for k, v in found.items() if isinstance(v, Foreign)} == {
        'best',
        'results',
        'size',
        'device',
        'block',
    }
    assert (found['some'], found['none']) == ({1, 2}, None)
    assert found['block'].state['names'] == ['person', 'car']
    assert found['block'].state['unused'] is None
    assert module_weights(found['best']) == {}


@pytest.mark.parametrize('protocol', [2, 4])
def test_calls_are_refused_and_not_run(save, tmp_path, protocol):
    proof = tmp_path / 'proof'
    attack = dict(model=Block(), extra=Call(os.system, f'touch {proof}'))
    path = save(attack, pickle_protocol=protocol)
    with pytest.raises(CheckpointError, match=r'nothing in it was run.*call \w+\.sys'):
        read_pickled(path)
    assert not proof.exists()


@pytest.mark.parametrize(
    'attack',
    [
        Call(eval, '1'),
        Call(getattr, 'a', 'upper'),
        Call(Block, 3),
        Call(torch.load, 'file'),
        Call(torch._utils._rebuild_tensor_v2, 'text', 0, (1,), (1,), False, None),
    ],
)
def test_so_are_all_others(save, attack):
    with pytest.raises(CheckpointError, match='was not read, nothing in it was run'):
        read_pickled(save(attack))


def test_a_view_outside_its_storage_is_refused(save):
    storage = torch.zeros(4).storage()._untyped_storage
    typed = torch.storage.TypedStorage(
        wrap_storage=storage, dtype=torch.float32, _internal=True
    )
    args = (typed, 0, (100,), (1,), False, None)
    path = save(Call(torch._utils._rebuild_tensor_v2, *args))
    with pytest.raises(CheckpointError, match='was not read'):
        read_pickled(path)


def test_modules_that_contain_themselves_are_refused(save):
    block = Block()
    block.__dict__['_modules']['again'] = block
    with pytest.raises(CheckpointError, match='contain themselves'):
        module_weights(read_pickled(save(block)))


def test_other_formats_are_refused(save, tmp_path):
    path = save(Block(), _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r'not a zip file: .* by torch < 1\.6'):
        read_pickled(path)
    text = tmp_path / 'text.pt'
    text.write_text('hello')
    with pytest.raises(CheckpointError, match=r'text\.pt is not a zip file'):
        read_pickled(text)
    archive = tmp_path / 'a.npz'
    np.savez(archive, a=np.ones(2))
    with pytest.raises(CheckpointError, match=r'not from torch\.save'):
        read_pickled(archive)
    whole = save(Block()).read_bytes()
    (tmp_path / 'cut.pt').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r'cut\.pt'):
        read_pickled(tmp_path / 'cut.pt')


@pytest.mark.parametrize('protocol', [2, 4, 5])
@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
def test_weights_of_any_protocol_are_read(protocol, tmp_path):
    """torch reads protocol 4 only unsafely; the reader of modules does not need it."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    path = tmp_path / 'y.pt'
    for content in ({'model': model, 'ema': None}, model.state_dict()):
        torch.save(content, path, pickle_protocol=protocol)
        found = read_weights(path)
        assert found.keys() == model.state_dict().keys()
        assert all(torch.equal(found[k], v) for k, v in model.state_dict().items())
    path.write_text('<html>Not found</html>')
    with pytest.raises(CheckpointError, match=r'y\.pt.*a web page'):
        read_weights(path)
