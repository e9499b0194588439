"""Errors of the machine and of the user's files are one line, with status 2."""

import errno
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import crash_toy
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from mmir.cli import cli
from mmir.cli.failures import explain, writing_to
from mmir.data.images import ImageReadError
from mmir.utils.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, 'argv', ['tool.py'])
    yield
    logging.raiseExceptions = True


def fails(error: BaseException) -> Callable:
    def main() -> None:
        raise error

    return main


def system(number: int, path: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), *([path] if path else []))


@pytest.mark.parametrize(
    ('error', 'message'),
    [
        (UserError('a key is wrong'), 'a key is wrong'),
        (FileNotFoundError('annotation file not found: a.json'),) * 2,
        (
            system(errno.ENOSPC, 'w/epoch_1.pth'),
            'w/epoch_1.pth: No space left on device; free some space or write to '
            'another folder',
        ),
        (
            system(errno.EROFS, '/mnt/w'),
            '/mnt/w: Read-only file system; write to another folder',
        ),
        (
            system(errno.EACCES, 'a.png'),
            'a.png: Permission denied; change the permissions, or name another file or '
            'folder',
        ),
        (
            system(errno.ENOTDIR, 'w/run'),
            'w/run: Not a directory; a file is where a folder is needed, or the '
            'reverse; name another path',
        ),
        (
            AssertionError('failed to load image: data/a.jpg'),
            'failed to load image: data/a.jpg; replace the file, or remove it from the '
            'annotations',
        ),
        (
            RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed. '),
            'process 7, which loads data, was killed by signal Killed, most often '
            'because memory ran out. Use fewer workers or smaller batches '
            '(--cfg-options train_dataloader.num_workers=N '
            'train_dataloader.batch_size=N), and continue a training with --resume',
        ),
        (
            RuntimeError('DataLoader worker (pid(s) 7, 8) exited unexpectedly'),
            'process 7, 8, which loads data, was killed, most often because memory ran '
            'out. Use fewer workers or smaller batches (--cfg-options '
            'train_dataloader.num_workers=N train_dataloader.batch_size=N), and '
            'continue a training with --resume',
        ),
    ],
)
def test_one_line_and_status_2(error, message, capsys) -> None:
    assert cli.run(fails(error)) == 2
    assert capsys.readouterr().err == f'error: {message}\n'


@pytest.mark.parametrize(
    'error',
    [ValueError('shapes'), RuntimeError('a bug'), AssertionError('x'), OSError()],
)
def test_faults_of_the_code_keep_their_traceback(error) -> None:
    with pytest.raises(type(error)):
        cli.run(fails(error))


def test_debug_shows_the_traceback_too(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, 'argv', ['tool.py', '--debug', 'x'])
    assert cli.run(fails(UserError('wrong'))) == 2
    err = capsys.readouterr().err
    assert err.startswith('Traceback')
    assert err.endswith('UserError: wrong\nerror: wrong\n')
    assert sys.argv == ['tool.py', 'x']  # tools need not know the option


def test_an_exit_code_is_passed_on() -> None:
    assert cli.run(lambda: 1) == 1
    assert cli.run(lambda: {'mAP': 0.5}) == 0


def test_a_disk_that_is_full_for_torch_too(tmp_path: Path) -> None:
    class Full:
        def write(self, data: bytes) -> int:
            raise system(errno.ENOSPC)

        def flush(self) -> None:
            pass

    with pytest.raises((OSError, RuntimeError)) as caught:
        torch.save({'x': torch.zeros(9)}, Full())
    assert explain(caught.value) == (
        'No space left on device; free some space or write to another folder'
    )


def test_a_disk_that_is_full_for_torch_itself(tmp_path: Path) -> None:
    """The limit of a file's size stands for a full disk; a child, as it stays."""
    code = (
        'import resource, torch\n'
        'from mmir.cli import cli\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n'
        'x = {"x": torch.zeros(9999)}\n'
        'raise SystemExit(cli.run(lambda: torch.save(x, "x.pth")))\n'
    )
    done = shell('-c', code, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        'error: a file could not be written in full; free some space or write to '
        'another folder\n'
    )


def test_errors_without_a_file_get_the_folder() -> None:
    with (
        pytest.raises(OSError, match="No space left on device: 'work'"),
        writing_to('work'),
    ):
        raise system(errno.ENOSPC)
    with pytest.raises(OSError, match="'mine'"), writing_to('work'):
        raise system(errno.ENOSPC, 'mine')


class Broken(Dataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        raise ImageReadError('image file is empty: a.png\nor so')


def test_an_error_of_a_worker_loses_the_worker_s_traceback() -> None:
    with pytest.raises(ImageReadError, match='Original Traceback') as caught:
        next(iter(DataLoader(Broken(), num_workers=1)))
    assert explain(caught.value) == 'image file is empty: a.png\nor so'


def test_once_connected_every_rank_speaks(capsys, monkeypatch) -> None:
    monkeypatch.setenv('RANK', '1')
    assert cli.run(fails(UserError('the same everywhere'))) == 2
    assert capsys.readouterr().err == ''
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: True)
    assert cli.run(fails(UserError('a.png'))) == 2
    assert capsys.readouterr().err == 'error: rank 1: a.png\n'


def shell(
    *arguments: object, cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(ROOT), str(ROOT / 'tests')])
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, 'PYTHONPATH': path, 'CUDA_VISIBLE_DEVICES': '', **variables},
        capture_output=True,
        text=True,
        cwd=cwd,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ('variables', 'message'),
    [
        ({'CRASH_WORKER': '3'}, r'error: process \d+, which loads data, was killed'),
        (
            {'CRASH_IMAGE': '3', 'CRASH_FILE': 'bad.png'},
            r'error: image file is truncated or not an image: bad.png',
        ),
        (
            {'CRASH_NAN': '3'},
            r'error: epoch 1, iteration \d: the loss or its gradients',
        ),
    ],
)
def test_a_training_from_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path('bad.png').write_bytes(b'no image')
    config = crash_toy.config(tmp_path, workers=2)
    done = shell(ROOT / 'tools/train.py', config, '--work-dir', 'w', **variables)
    assert done.returncode == 2
    assert 'Traceback' not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert re.match(message, last), done.stderr
    debug = shell(
        ROOT / 'tools/train.py', config, '--work-dir', 'w', '--debug', **variables
    )
    assert debug.returncode == 2
    assert 'Traceback' in debug.stderr


@pytest.mark.slow
def test_a_work_dir_that_cannot_be_made(tmp_path: Path) -> None:
    config = crash_toy.config(tmp_path)
    (tmp_path / 'file').write_text('')
    done = shell(ROOT / 'tools/train.py', config, '--work-dir', tmp_path / 'file/w')
    assert done.returncode == 2
    assert 'Traceback' not in done.stderr
    assert f'{tmp_path}/file' in done.stderr.splitlines()[-1]
    assert 'name another path' in done.stderr.splitlines()[-1]
