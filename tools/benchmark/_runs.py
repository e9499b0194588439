"""Runs of a study, done once each by any number of processes."""

import fcntl
import json
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from mmir.utils.allocator import keep_freed_memory
from mmir.utils.errors import UserError

Run = TypeVar('Run', bound=Hashable)
RESULT = 'result.json'
"""File whose presence says that a run is finished."""


@contextmanager
def taken(folder: Path) -> Iterator[bool]:
    """Whether this process may do the run of a folder; no other may meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / 'lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield not (folder / RESULT).is_file()


def finished_runs(folder: Path) -> list[dict[str, Any]]:
    """Read the results of all finished runs of a study.

    Args:
        folder: Folder of all runs.

    Raises:
        UserError: There are none.
    """
    files = sorted(folder.glob(f'*/*/*/{RESULT}'))
    if not files:
        raise UserError(f'{folder} holds no finished runs of a study')
    return [json.loads(file.read_text()) for file in files]


def drain(
    ready: Callable[[], Iterable[Run]],
    total: int,
    folder: Callable[[Run], Path],
    execute: Callable[[Run], None],
) -> None:
    """Do all runs that no other process does; return when all are done.

    Args:
        ready: Lists the runs that can begin, the most urgent first. It is called again
            after each round, so a run may depend on the results of others.
        total: Number of all runs.
        folder: Folder of a run.
        execute: Does a run and writes its result.
    """
    keep_freed_memory()
    progress = tqdm(total=total, unit='run')
    finished: set[Path] = set()
    while len(finished) < total:
        before = len(finished)
        for run in ready():
            place = folder(run)
            if place in finished:
                continue
            with taken(place) as mine:
                if mine:
                    execute(run)
            if (place / RESULT).is_file():
                finished.add(place)
                progress.update()
        if len(finished) == before:
            time.sleep(2)  # all that is left is in the hands of others
