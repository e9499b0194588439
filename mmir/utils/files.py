"""Writing files so that they are there in full or not at all; reading JSON."""

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
    """Give a path to write to, which is moved to its place when all went well.

    Readers see the old file or the new one. After an exception nothing is left of the
    new one, and the old one stays as it was.

    Args:
        path (str | PathLike): The file or folder to write; its folder is made.

    Yields:
        Path: A hidden name in the same folder, with the same suffix, where nothing is
        yet.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = f'.{path.stem}.{uuid.uuid4().hex[:8]}.partial{path.suffix}'
    partial = path.with_name(name)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        partial.unlink(missing_ok=True)


def write_bytes(content: bytes, path: str | os.PathLike[str]) -> None:
    """Write a file in full or not at all.

    Args:
        content (bytes): What it holds.
        path (str | PathLike): The file; its folder is made.
    """
    with atomic_path(path) as partial:
        partial.write_bytes(content)


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write a text file (UTF-8) in full or not at all.

    Args:
        text (str): What it holds.
        path (str | PathLike): The file; its folder is made.
    """
    write_bytes(text.encode('utf-8'), path)


def write_json(
    content: object, path: str | os.PathLike[str], indent: int | None = None
) -> None:
    """Write a JSON file in full or not at all.

    Args:
        content (object): Plain types only.
        path (str | PathLike): The file; its folder is made.
        indent (int, optional): As in `json.dumps`.
    """
    write_text(json.dumps(content, indent=indent) + '\n', path)


def read_json(path: str | os.PathLike[str]) -> object:
    """Read a JSON file.

    Args:
        path (str | PathLike): File.

    Returns:
        object: Its content.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It is not JSON (often a download that was cut off).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'annotation file not found: {path}')
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AnnotationError(f'{path} is not a complete JSON file: {error}') from error


def few(names: Iterable[object], limit: int = 5) -> str:
    """Write the first names of a list, and how many more there are.

    Args:
        names (Iterable): What to list.
        limit (int): How many to write out.

    Returns:
        str: Such as 'a, b and 7 more'.
    """
    items = [str(name) for name in names]
    more = len(items) - limit
    return ', '.join(items[:limit]) + (f' and {more} more' if more > 0 else '')
