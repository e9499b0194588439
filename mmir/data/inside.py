"""Files that an annotation names must lie below the data folder.

An annotation file is often downloaded; one that names `/etc/...` or `../../...` must
not decide what is opened. Links are followed: who can place a link in the data folder
may decide where its files are.
"""

import os
from collections.abc import Iterable
from pathlib import PurePath


def outside(
    names: Iterable[str],
    folder: str | os.PathLike[str],
    below: str | os.PathLike[str] | None = None,
) -> list[str]:
    """Find names that lead out of the data.

    Args:
        names (Iterable[str]): File names relative to `folder`, or absolute.
        folder (str | PathLike): Folder that the names are relative to.
        below (str | PathLike, optional): Folder that also may hold the files, such as
            the root of the dataset; '/' allows every file.

    Returns:
        list[str]: Names of files that are neither below `folder` nor below `below`.
    """
    odd = [name for name in names if name[:1] == os.sep or '..' in PurePath(name).parts]
    roots = [os.path.abspath(root) for root in (folder, below) if root is not None]
    return [name for name in odd if not _is_inside(os.path.join(folder, name), roots)]


def _is_inside(path: str, roots: list[str]) -> bool:
    """Tell whether a path is below a root, with and without resolving links."""
    plain = os.path.abspath(path)
    if not any(os.path.commonpath([plain, root]) == root for root in roots):
        return False
    # `link/..` is another folder for the system than for the eye
    return os.path.realpath(path) == os.path.realpath(plain)
