"""The check of re-identification data as a command."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / 'tools/dataset_converters'
sys.path.insert(0, str(FOLDER))

import check_reid  # noqa: E402

from mmir.testing.scenes.reid_layouts import write_regdb  # noqa: E402


@pytest.fixture
def root(tmp_path):
    return write_regdb(tmp_path / 'regdb', 3, 2, 2, size=(16, 32), progress=False)


def test_all_trials_of_regdb(root, capsys):
    assert check_reid.main(['RegDB', str(root), '--check']) == 0
    out = capsys.readouterr().out
    assert out.count('no problems') == 20
    assert 'RegDB (test, trial 10)' in out


def test_a_broken_image_is_named(root, capsys):
    name = (root / 'idx/test_thermal_2.txt').read_text().split()[0]
    (root / name).write_bytes(b'BM')
    options = ['--trials', '2', '--split', 'test']
    assert check_reid.main(['RegDB', str(root), *options]) == 1
    assert f'{name}: image cannot be read' in capsys.readouterr().out


def test_missing_data_is_one_message(tmp_path, capsys):
    assert check_reid.main(['LLCM', str(tmp_path)]) == 1
    assert 'error: no LLCM data (train)' in capsys.readouterr().err
