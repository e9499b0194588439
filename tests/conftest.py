"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope='session')
def real_data() -> Path:
    """Folder of real infrared images, named by the variable `MMIR_REAL_DATA`."""
    folder = os.environ.get('MMIR_REAL_DATA')
    if not folder:
        pytest.skip('set MMIR_REAL_DATA to the folder of real infrared images')
    path = Path(folder)
    assert path.is_dir(), f'MMIR_REAL_DATA={folder} is not a folder'
    return path
