"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

SWITCHES = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'


@pytest.fixture(autouse=True)
def loading_as_before() -> Iterator[None]:
    """Tools forbid torch to run code of checkpoints; the next test is free again."""
    before = {name: os.environ.get(name) for name in SWITCHES}
    yield
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(scope='session')
def real_data() -> Path:
    """Folder of real infrared images, named by the variable `MMIR_REAL_DATA`."""
    folder = os.environ.get('MMIR_REAL_DATA')
    if not folder:
        pytest.skip('set MMIR_REAL_DATA to the folder of real infrared images')
    path = Path(folder)
    assert path.is_dir(), f'MMIR_REAL_DATA={folder} is not a folder'
    return path


@pytest.fixture
def mmpretrain_scope(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Build what configs name in the scope of mmpretrain."""
    from mmengine.registry import DefaultScope

    known = DefaultScope._instance_dict
    monkeypatch.setattr(DefaultScope, '_instance_dict', known.copy())
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield
