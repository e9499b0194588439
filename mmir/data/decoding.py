"""Decoding of image files: original values and planes, oriented as displayed."""

import cv2
import numpy as np

from mmir.data.orientation import orientation, oriented
from mmir.data.tiff import (
    BITS,
    SAMPLE_FORMAT,
    SUB_IMAGES,
    Page,
    as_signed,
    describe_samples,
    first,
    full_pages,
    is_tiff,
    is_whole,
    read_pages,
)

_WHOLE = {
    b'\x89PNG\r\n\x1a\n': (b'IEND\xaeB`\x82', 'damaged'),
    b'\xff\xd8\xff': (b'\xff\xd9', 'damaged, or a 12-bit or lossless JPEG'),
}
"""Start of a file -> its end, and what is wrong if it has that end."""

_NO_IMAGE = {
    b'version https://git-lfs': 'a Git LFS pointer (run `git lfs pull`)',
    b'<': 'a web page or XML text (download it again)',
}


class ImageReadError(OSError):
    """An image file is missing, empty, truncated or not what it is said to be."""


class ImageFormatError(ImageReadError):
    """A whole image file is not what the pipeline or the annotation expects."""


def decode(data: bytes, path: str, planes: tuple[int, int] | None = None) -> np.ndarray:
    """Decode an image file with its original values and planes.

    Args:
        data (bytes): Content of the file.
        path (str): Name of the file, for error messages.
        planes (tuple[int, int], optional): Planes to return, as a half-open range.
            Pages of a TIFF file count as planes, in the order of the file. Default:
            all planes of a file of one page.

    Returns:
        np.ndarray: Pixels (H, W) or (H, W, C), C in BGR order, oriented as displayed.

    Raises:
        ImageReadError: The file is truncated, damaged or not an image.
        ImageFormatError: It has several pages or too few planes, or samples of a type
            that cannot be read.
    """
    if is_tiff(data):
        images = _decode_tiff(data, path, planes)
    else:
        img = _decode(data)
        if img is None:
            raise ImageReadError(f'image file is {_fault(data)}: {path}')
        turn = orientation(data)
        images = [img if turn == 1 else oriented(img, turn)]
    if planes is None:
        return images[0]
    return select_planes(images, planes, path)


def _decode(data: bytes) -> np.ndarray | None:
    """Decode one image; None if OpenCV cannot."""
    try:
        # as stored: 10 to 14 packed bits and alpha too
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def _fault(data: bytes) -> str:
    """Tell why a file that is no TIFF cannot be decoded."""
    for start, what in _NO_IMAGE.items():
        if data[:64].lstrip(b'\xef\xbb\xbf \r\n\t').startswith(start):
            return what
    for start, (end, what) in _WHOLE.items():
        if data.startswith(start):
            return what if end in data[-64:] else 'truncated'
    return 'truncated or not an image'


def _decode_tiff(
    data: bytes, path: str, planes: tuple[int, int] | None
) -> list[np.ndarray]:
    """Decode the full pages of a TIFF file."""
    pages = read_pages(data)
    full = full_pages(pages)
    if not full and any(SUB_IMAGES in page for page in pages):
        raise ImageFormatError(
            f'{path} is a camera raw file of which only a preview could be read: '
            'convert it to TIFF or PNG'
        )
    if len(full) > 1 and planes is None:
        raise ImageFormatError(
            f'{path} holds {len(full)} pages, and an image is one: set planes=(0, 1) '
            'where it is loaded to read the first page, planes=(1, 2) the second, '
            '(0, 3) three pages as blue, green and red; split a recorded sequence into '
            'one file per frame'
        )
    full, pages = full or [0], pages or [{}]
    if any(_is_uint32(pages[k]) for k in full):  # OpenCV has no such type
        data = as_signed(data)
    images = [_decode(data)] if full == [0] else _all_pages(data, full)
    if any(img is None for img in images):
        page = pages[full[0]]
        if not is_whole(data, page):
            raise ImageReadError(f'image file is truncated: {path}')
        raise ImageFormatError(
            f'{path} holds {describe_samples(page)}, which cannot be read here, '
            'or is damaged: save it with samples of 8 or 16 bits or of 32-bit float, '
            'uncompressed or with LZW or deflate'
        )
    return [_stored(img, pages[k]) for img, k in zip(images, full, strict=True)]


def _all_pages(data: bytes, full: list[int]) -> list[np.ndarray | None]:
    """Decode the given pages."""
    try:
        done, images = cv2.imdecodemulti(
            np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED
        )
    except cv2.error:
        done, images = False, ()
    known = dict(enumerate(images if done else ()))
    return [known.get(k) for k in full]


def _is_uint32(page: Page) -> bool:
    return first(page, BITS, 1) == 32 and first(page, SAMPLE_FORMAT, 1) == 1


def _stored(img: np.ndarray, page: Page) -> np.ndarray:
    """Turn what OpenCV decoded into the samples that the file holds."""
    if img.dtype == np.int32 and _is_uint32(page):
        return img.view(np.uint32)
    bits = first(page, BITS, 1)
    if img.dtype == np.uint16 and bits in (10, 12, 14):  # scaled to 16 bits
        return img >> (16 - bits)
    return img


def select_planes(
    images: list[np.ndarray], planes: tuple[int, int], path: str
) -> np.ndarray:
    """Select planes of an image or of several pages.

    Args:
        images (list[np.ndarray]): Pages (H, W) or (H, W, C).
        planes (tuple[int, int]): Half-open range over the planes of all pages.
        path (str): Name of the image, for error messages.

    Returns:
        np.ndarray: The planes, (H, W) or (H, W, C).

    Raises:
        ImageFormatError: There are too few planes, or they differ in size or type.
    """
    if len(images) == 1:
        img = images[0]
        held = img.shape[2] if img.ndim == 3 else 1
        if planes[1] <= held:
            return img if img.ndim == 2 else img[..., slice(*planes)]
    else:
        every = [
            plane for img in images for plane in np.atleast_3d(img).transpose(2, 0, 1)
        ]
        held, chosen = len(every), every[slice(*planes)]
        if planes[1] <= held:
            if len({(plane.shape, plane.dtype) for plane in chosen}) > 1:
                raise ImageFormatError(
                    f'planes={planes} of {path} differ in size or type'
                )
            return np.dstack(chosen)
    raise ImageFormatError(f'{path} holds {held} planes, but planes={planes} was set')
