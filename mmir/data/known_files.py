"""Cache of image files that passed a check, so they need not be read again."""

import json
import os
from pathlib import Path

from mmir.utils.files import write_json


class KnownFiles:
    """Sizes of image files that passed a check, kept in a JSON file.

    Args:
        path: The JSON file, read if it exists; None keeps nothing on disk.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.path = None if path is None else Path(path)
        self.rows: dict[str, list] = {}
        if self.path is not None and self.path.is_file():
            try:
                self.rows = dict(json.loads(self.path.read_text(encoding='utf-8')))
            except ValueError:  # a cache is no reason to stop
                self.rows = {}

    def get(self, path: str, wanted: str) -> tuple[int, int] | None:
        """Get the size of a file that passed a check and has not changed since.

        Args:
            path: The image file.
            wanted: What it was checked for.

        Returns:
            Height and width; None if the file is new or has changed.
        """
        row = self.rows.get(f'{path}|{wanted}')
        stamp = _stamp(path)
        return tuple(row[1]) if row and stamp and row[0] == stamp else None

    def put(self, path: str, wanted: str, size: tuple[int, int]) -> None:
        """Record a file that passed the check, with its height and width."""
        stamp = _stamp(path)
        if stamp:
            self.rows[f'{path}|{wanted}'] = [stamp, list(size)]

    def save(self) -> None:
        """Write the JSON file."""
        if self.path is not None:
            write_json(self.rows, self.path)


def _stamp(path: str) -> list[int] | None:
    """Size and modification time of a file; None if it does not exist."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]
