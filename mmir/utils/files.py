"""Atomic writing of files; reading JSON."""

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmir.utils.errors import AnnotationError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` if the block succeeds.

    Readers see either the old or the new file. After an exception the temporary file is
    removed and the old file is unchanged. An OSError gets the name of the file: Python
    leaves it out where a disk is full.

    Args:
        path (str | PathLike): File or folder to write; its parent folder is created.

    Yields:
        Path: Unused hidden name in the same folder, with the same suffix.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = f'.{path.stem}.{uuid.uuid4().hex[:8]}.partial{path.suffix}'
    partial = path.with_name(name)
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        if error.filename in (None, str(partial)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        partial.unlink(missing_ok=True)


def remove_partials(folder: str | os.PathLike[str]) -> list[Path]:
    """Remove what :func:`atomic_path` leaves in a folder if the process is killed.

    Args:
        folder (str | PathLike): The folder; it need not exist.

    Returns:
        list[Path]: The removed files.
    """
    left = [path for path in Path(folder).glob('.*.partial*') if path.is_file()]
    for path in left:
        path.unlink(missing_ok=True)
    return left


def write_bytes(content: bytes, path: str | os.PathLike[str]) -> None:
    """Write a file atomically.

    Args:
        content (bytes): Content of the file.
        path (str | PathLike): The file; its folder is created.
    """
    with atomic_path(path) as partial:
        partial.write_bytes(content)


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write a text file (UTF-8) atomically.

    Args:
        text (str): Content of the file.
        path (str | PathLike): The file; its folder is created.
    """
    write_bytes(text.encode('utf-8'), path)


def write_json(
    content: object, path: str | os.PathLike[str], indent: int | None = None
) -> None:
    """Write a JSON file atomically.

    Args:
        content (object): Content of the file; JSON types only.
        path (str | PathLike): The file; its folder is created.
        indent (int, optional): As in `json.dumps`.
    """
    write_text(json.dumps(content, indent=indent) + '\n', path)


def read_json(path: str | os.PathLike[str]) -> object:
    """Read a JSON file.

    Args:
        path (str | PathLike): The file.

    Returns:
        object: Content of the file.

    Raises:
        FileNotFoundError: The file does not exist.
        AnnotationError: It is not valid JSON (often a truncated download).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'annotation file not found: {path}')
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AnnotationError(f'{path} is not a complete JSON file: {error}') from error


def few(names: Iterable[object], limit: int = 5) -> str:
    """Join the first names of a list, and say how many more there are.

    Args:
        names (Iterable): The names.
        limit (int): How many to write out.

    Returns:
        str: Text such as 'a, b and 7 more'.
    """
    items = [str(name) for name in names]
    more = len(items) - limit
    return ', '.join(items[:limit]) + (f' and {more} more' if more > 0 else '')
