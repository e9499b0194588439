"""EXIF orientation of images: how the camera was held.

OpenCV applies it to TIFF files always, and to others unless depth and planes are kept.
"""

import numpy as np

from mmir.data.tiff import ORIENTATION, first, read_pages

_PNG = b'\x89PNG\r\n\x1a\n'


def orientation(data: bytes) -> int:
    """Get the EXIF orientation of a JPEG or PNG file.

    Args:
        data (bytes): Content of the file.

    Returns:
        int: 1 to 8, as in EXIF; 1 (as stored) if the file has none or a broken one.
    """
    exif = b''
    if data[:2] == b'\xff\xd8':
        exif = _jpeg_exif(data)
    elif data[:8] == _PNG:
        exif = _png_exif(data)
    pages = read_pages(exif)
    value = first(pages[0], ORIENTATION, 1) if pages else 1
    return value if 1 <= value <= 8 else 1


def _jpeg_exif(data: bytes) -> bytes:
    """Get the EXIF block of a JPEG file, from the segments before its pixels."""
    place = 2
    while data[place : place + 1] == b'\xff' and (kind := data[place + 1 : place + 2]):
        if kind == b'\xff':  # fill byte
            place += 1
            continue
        if kind == b'\xda':  # start of the pixels
            break
        end = place + 2 + max(int.from_bytes(data[place + 2 : place + 4], 'big'), 2)
        if kind == b'\xe1' and data[place + 4 : place + 10] == b'Exif\0\0':
            return data[place + 10 : end]
        place = end
    return b''


def _png_exif(data: bytes) -> bytes:
    """Get the EXIF chunk of a PNG file, which may come before or after its pixels."""
    place = 8
    while len(kind := data[place + 4 : place + 8]) == 4:
        length = int.from_bytes(data[place : place + 4], 'big')
        if kind == b'eXIf':
            return data[place + 8 : place + 8 + length]
        place += 12 + length
    return b''


def oriented(img: np.ndarray, value: int) -> np.ndarray:
    """Turn an image as its EXIF orientation says.

    Args:
        img (np.ndarray): Pixels as stored, (H, W) or (H, W, C).
        value (int): EXIF orientation, 1 to 8.

    Returns:
        np.ndarray: Pixels as displayed, contiguous; (W, H) or (W, H, C) for 5 to 8.
    """
    if value >= 5:
        img = img.swapaxes(0, 1)
    if value in (2, 3, 6, 7):
        img = img[:, ::-1]
    if value in (3, 4, 7, 8):
        img = img[::-1]
    return np.ascontiguousarray(img)
