"""Globals that `weights_only=True` allows, and no others."""

import io
from pickle import UnpicklingError

import mmengine.logging
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint

from mmir.compat import safe_globals
from mmir.utils.checkpoint import CheckpointError


class Call:
    """Pickles as a call of `function(*args)`."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.fixture(autouse=True)
def only_ours():
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    safe_globals.install()
    yield
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(before)


def through_a_file(content, edit=None):
    """Save and load safely; `edit` replaces bytes, which only the old format takes."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=edit is None)
    raw = file.getvalue()
    if edit is not None:
        assert edit[0] in raw
        raw = raw.replace(*edit)
    return torch.load(io.BytesIO(raw), weights_only=True)


def test_history_buffer_round_trip():
    history = HistoryBuffer([1.0, 4.0], [1, 1])
    history.update(7.0, 2)
    loaded = through_a_file({'loss': history})['loss']
    assert [loaded.min(), loaded.max(), loaded.current()] == [1, 7, 7]
    assert loaded.mean() == history.mean()
    assert loaded.statistics('mean', 2) == history.statistics('mean', 2)


@pytest.mark.parametrize(
    'dtype', ['?', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2', 'f4', 'f8']
)
def test_numpy_numbers_round_trip(dtype):
    array = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype)
    loaded = through_a_file({'array': array, 'scalar': array[1, 2]})
    assert loaded['array'].dtype == array.dtype
    np.testing.assert_array_equal(loaded['array'], array)
    assert loaded['scalar'] == array[1, 2]


def test_files_of_the_other_numpy():
    content = {'array': np.arange(3.0), 'scalar': np.float64(0.5)}
    names = [b'cnumpy.core.multiarray\n', b'cnumpy._core.multiarray\n']
    if np.empty(0).__reduce__()[0].__module__ == 'numpy._core.multiarray':
        names.reverse()
    loaded = through_a_file(content, names)
    np.testing.assert_array_equal(loaded['array'], content['array'])
    assert loaded['scalar'] == 0.5


@pytest.mark.parametrize(
    ('owner', 'name'),
    [
        (HistoryBuffer, '__init__'),
        (HistoryBuffer, 'register_statistics'),
        (HistoryBuffer, '__subclasses__'),
        (np.ndarray, 'tofile'),
        (np.ndarray, 'min'),
    ],
)
def test_getattr_reaches_nothing_else(owner, name):
    with pytest.raises(UnpicklingError, match=r'getattr of .* is not allowed'):
        safe_globals.history_getattr(owner, name)
    with pytest.raises(UnpicklingError, match='is not allowed in a checkpoint'):
        through_a_file(Call(getattr, owner, name))


@pytest.mark.parametrize('name', ['min', 'max', 'mean', 'current'])
def test_getattr_gives_the_statistics(name):
    assert through_a_file(Call(getattr, HistoryBuffer, name)) is getattr(
        HistoryBuffer, name
    )


def test_object_arrays_and_own_statistics_are_refused():
    with pytest.raises(UnpicklingError):
        through_a_file(np.array([{}, None], dtype=object))
    with pytest.raises(UnpicklingError, match='print'):
        through_a_file(Call(print, 'ran'))


def test_a_load_of_mmengine_uses_and_keeps_the_restriction(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    before = set(torch.serialization.get_safe_globals())
    good, bad = tmp_path / 'good.pth', tmp_path / 'bad.pth'
    torch.save({'loss': HistoryBuffer([2.0], [1])}, good)
    torch.save(Call(getattr, mmengine.logging.HistoryBuffer, '__init__'), bad)
    loaded = checkpoint.CheckpointLoader.load_checkpoint(str(good), 'cpu')
    assert loaded['loss'].current() == 2
    with pytest.raises(CheckpointError, match=r'contains: builtins\.getattr'):
        checkpoint.CheckpointLoader.load_checkpoint(str(bad), 'cpu')
    assert set(torch.serialization.get_safe_globals()) == before


def test_installing_twice_adds_nothing():
    before = set(torch.serialization.get_safe_globals())
    safe_globals.install()
    assert set(torch.serialization.get_safe_globals()) == before
