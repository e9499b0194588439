"""Errors outside the code, in one line that says what to do."""

import errno
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from mmir.data.images import ImageReadError
from mmir.utils.errors import UserError

_FULL = 'free some space or write to another folder'
_FORBIDDEN = 'change the permissions, or name another file or folder'
_KIND = 'a file is where a folder is needed, or the reverse; name another path'
_ADVICE = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EROFS: 'write to another folder',
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.ENOTDIR: _KIND,
    errno.EISDIR: _KIND,
    errno.EEXIST: _KIND,
    errno.EMFILE: 'raise the limit of open files (ulimit -n) or use fewer workers',
    errno.EIO: 'the disk or its connection fails',
}
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_CUT_OFF = re.compile('PytorchStreamWriter failed writing|inline_container.*unexpected')
_WORKER = re.compile(
    r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) '
    r'(?:is killed by signal: ([\w ]+)|exited unexpectedly)'
)
_UNREADABLE = re.compile(r'failed to load image: .+')


def run(main: Callable[[], Any]) -> int:
    """Run a tool; report errors the user can fix without a traceback.

    With `--debug` on the command line of any tool, the traceback is printed too.

    Args:
        main (callable): The tool. An int it returns is the exit code.

    Returns:
        int: Exit code: 2 after an error in the user's input (options, config,
        annotations, images, checkpoints) or of the machine (full disk, folder that
        cannot be written, killed worker process). Other errors are raised.
    """
    debug = '--debug' in sys.argv
    if debug:
        sys.argv.remove('--debug')
    # on a full disk logging would print a traceback per line
    logging.raiseExceptions = debug
    try:
        result = main()
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        if _speaks():
            if debug:
                traceback.print_exc()
            print(f'error: {_rank()}{message}', file=sys.stderr)
        return 2
    return result if isinstance(result, int) else 0


def explain(error: BaseException) -> str | None:
    """Describe an error that is not a fault of the code.

    Args:
        error (BaseException): The error.

    Returns:
        str, optional: What happened and what to do; None for any other error.
    """
    worker = _WORKER.search(str(error))
    if worker:
        signal = f' by signal {worker[2].strip()}' if worker[2] else ''
        return (
            f'process {worker[1]}, which loads data, was killed{signal}, most often '
            'because memory ran out. Use fewer workers or smaller batches '
            '(--cfg-options train_dataloader.num_workers=N '
            'train_dataloader.batch_size=N), and continue a training with --resume'
        )
    if isinstance(error, UserError | ImageReadError):
        return _own_words(error)
    if isinstance(error, OSError):
        return _explain_os_error(error)
    unreadable = _UNREADABLE.search(str(error))
    if isinstance(error, AssertionError) and unreadable:  # mmcv's loader
        return f'{unreadable[0]}; replace the file, or remove it from the annotations'
    # torch.save reports a full disk as an error of its own
    behind = error.__cause__ or error.__context__
    if isinstance(behind, OSError) and behind.errno in _DISK:
        return _explain_os_error(behind)
    if isinstance(error, RuntimeError) and _CUT_OFF.search(str(error)):
        return f'a file could not be written in full; {_FULL}'
    return None


def _explain_os_error(error: OSError) -> str | None:
    """Describe a failure of the file system."""
    if isinstance(error, FileNotFoundError):
        return _own_words(error)
    if error.errno is None:
        # mmengine's registry repeats an error as text
        known = PermissionError | NotADirectoryError | FileExistsError
        return _own_words(error) if isinstance(error, known) else None
    name = f'{error.filename}: ' if error.filename else ''
    advice = _ADVICE.get(error.errno)
    return f'{name}{error.strerror}' + (f'; {advice}' if advice else '')


def _own_words(error: Exception) -> str:
    """Message of an error, without the traceback that a worker process adds."""
    text, name = str(error), type(error).__qualname__
    if 'Original Traceback' not in text:
        return text
    line = re.compile(rf'^(?:\w+\.)*{re.escape(name)}: ', re.MULTILINE)
    return line.split(text)[-1].strip()


def _speaks() -> bool:
    """Whether this process reports an error.

    Until the processes of a distributed run are connected, they all fail alike, and the
    first one speaks. Afterwards an error may concern one of them only.
    """
    distributed = torch.distributed.is_available()
    connected = distributed and torch.distributed.is_initialized()
    return connected or int(os.environ.get('RANK', 0)) == 0


def _rank() -> str:
    """Name the process, if there are several."""
    rank = int(os.environ.get('RANK', 0))
    return f'rank {rank}: ' if rank else ''


@contextmanager
def writing_to(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Name a folder in errors of the disk that do not say where they occurred.

    Args:
        folder (str | PathLike): Where the block writes.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _ADVICE and error.filename is None:
            error.filename = os.fspath(folder)
        raise
