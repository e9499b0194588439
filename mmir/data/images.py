"""Image files on disk: listing them, and reading them unchanged."""

import os
from pathlib import Path

import numpy as np
from mmengine import fileio

from mmir.data.decoding import ImageFormatError, ImageReadError, decode

__all__ = [
    'SUFFIXES',
    'ImageFormatError',
    'ImageReadError',
    'list_images',
    'read_image',
]

SUFFIXES = ('.jpg', '.jpeg', '.png', '.tif', '.tiff', '.bmp')
"""Suffixes of image files, in lowercase."""


def read_image(
    path: str,
    backend_args: dict | None = None,
    planes: tuple[int, int] | None = None,
) -> np.ndarray:
    """Read an image with its original bit depth and planes, oriented as displayed.

    The EXIF orientation is applied, as by the hosts' loaders. Packed samples of 10, 12
    and 14 bits keep their values, as uint16.

    Args:
        path (str): File to read.
        backend_args (dict, optional): Arguments of mmengine's file backend.
        planes (tuple[int, int], optional): Planes to return, as a half-open range.
            Pages of a TIFF file count as planes, in the order of the file. Default:
            all planes of a file of one page.

    Returns:
        np.ndarray: Pixels (H, W) or (H, W, C) with C in BGR order.

    Raises:
        ImageReadError: The file is missing, empty, truncated, not an image, or not a
            regular file (a pipe would block).
        ImageFormatError: It has several pages or too few planes, or samples of a type
            that cannot be read.
    """
    if not os.path.isfile(path) and os.path.exists(path):
        raise ImageReadError(
            f'image is no regular file, but a folder or device: {path}'
        )
    try:
        data = fileio.get(path, backend_args=backend_args)
    except FileNotFoundError as error:
        raise ImageReadError(f'image file is missing: {path}') from error
    except OSError as error:
        raise ImageReadError(f'image file cannot be opened: {path} ({error})') from None
    if not data:
        raise ImageReadError(f'image file is empty: {path}')
    return decode(data, path, planes)


def list_images(folder: str | Path) -> list[Path]:
    """List the images of a folder and its subfolders, sorted.

    Args:
        folder (str | Path): Folder to search.

    Returns:
        list[Path]: Paths relative to `folder`.

    Raises:
        FileNotFoundError: There is no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f'image folder not found: {folder}')
    images = sorted(
        path.relative_to(folder)
        for path in folder.rglob('*')
        if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    if not images:
        raise FileNotFoundError(f'no images ({", ".join(SUFFIXES)}) in {folder}')
    return images
