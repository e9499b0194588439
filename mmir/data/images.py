"""Image files on disk: listing them, and reading them unchanged."""

from pathlib import Path

import cv2
import numpy as np
from mmengine import fileio

SUFFIXES = ('.jpg', '.jpeg', '.png', '.tif', '.tiff', '.bmp')
"""Suffixes of image files, in lowercase."""


class ImageReadError(OSError):
    """An image file is missing, empty, truncated or not what it is said to be."""


def read_image(path: str, backend_args: dict | None = None) -> np.ndarray:
    """Read an image with its original bit depth and channels.

    Args:
        path (str): File to read.
        backend_args (dict, optional): Arguments of mmengine's file backend.

    Returns:
        np.ndarray: Pixels as stored, (H, W) or (H, W, C) with C in BGR order.

    Raises:
        ImageReadError: The file is missing, empty, truncated or not an image.
    """
    try:
        data = fileio.get(path, backend_args=backend_args)
    except FileNotFoundError as error:
        raise ImageReadError(f'image file is missing: {path}') from error
    except OSError as error:
        raise ImageReadError(f'image file cannot be opened: {path} ({error})') from None
    if not data:
        raise ImageReadError(f'image file is empty: {path}')
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_ANYDEPTH
    try:
        img = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        img = None
    if img is None:
        raise ImageReadError(f'image file is truncated or not an image: {path}')
    return img


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
        if path.suffix.lower() in SUFFIXES
    )
    if not images:
        raise FileNotFoundError(f'no images ({", ".join(SUFFIXES)}) in {folder}')
    return images
