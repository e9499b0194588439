"""Atomic writing of files; reading text, lists and JSON."""

import codecs
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmir.utils.errors import AnnotationError

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@contextmanager
def atomic_path(path: str | os.PathLike[str], durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` if the block succeeds.

    Readers see either the old or the new file. After an exception the temporary file is
    removed and the old file is unchanged. An OSError gets the name of the file: Python
    leaves it out where a disk is full.

    Args:
        path (str | PathLike): File or folder to write; its parent folder is created.
        durable (bool): Whether the file must survive a power failure right afterwards:
            its content reaches the disk before it replaces the old one. This takes as
            long as the disk needs. Defaults to False.

    Yields:
        Path: Unused hidden name in the same folder, with the same suffix.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = f'.{path.stem}.{uuid.uuid4().hex[:8]}.partial{path.suffix}'
    partial = path.with_name(name)
    try:
        yield partial
        if durable:
            _to_disk(partial, os.O_RDWR)
        os.replace(partial, path)
        if durable and os.name == 'posix':  # Windows cannot open folders
            _to_disk(path.parent, os.O_RDONLY)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(partial)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        partial.unlink(missing_ok=True)


def _to_disk(path: Path, flags: int) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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


def decode(content: bytes, source: object) -> str:
    """Decode a text in UTF-8, with or without a byte order mark.

    Other encodings are refused: GBK and its relatives cannot be told apart by their
    bytes, and a wrong guess would only show as class names that match nothing.

    Args:
        content (bytes): The text.
        source (object): Name of the file, for error messages.

    Returns:
        str: The text without its mark.

    Raises:
        AnnotationError: It is in another encoding; names the line.
    """
    try:
        text = content.decode('utf-8-sig')
        end = text.find('\0')
        if end < 0:
            return text
        before, why = text[:end], 'has NUL bytes, as UTF-16 and binary files do'
    except UnicodeDecodeError as error:
        before, why = (
            content[: error.start].decode('utf-8', 'ignore'),
            str(error.reason),
        )
        why = 'UTF-16' if content.startswith(_UTF16) else why
    line = before.count('\n') + 1
    raise AnnotationError(
        f'{source}:{line}: not UTF-8 text ({why}). Save the file as UTF-8'
    )


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a text file; see :func:`decode`.

    Args:
        path (str | PathLike): The file.

    Returns:
        str: Its text.

    Raises:
        FileNotFoundError: The file does not exist.
        AnnotationError: It is in an unknown encoding; names the line.
    """
    return decode(Path(path).read_bytes(), path)


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """Read the lines of a text file that are not empty.

    Args:
        path (str | PathLike): The file.

    Returns:
        list[str]: Lines without the spaces around them.

    Raises:
        FileNotFoundError: The file does not exist.
        AnnotationError: It is in an unknown encoding; names the line.
    """
    lines = (line.strip() for line in read_text(path).splitlines())
    return [line for line in lines if line]


def read_json(path: str | os.PathLike[str]) -> object:
    """Read a JSON file.

    Args:
        path (str | PathLike): The file.

    Returns:
        object: Content of the file.

    Raises:
        FileNotFoundError: The file does not exist.
        AnnotationError: It is not valid JSON (often a truncated download) or not in a
            known encoding.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'annotation file not found: {path}')
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
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
