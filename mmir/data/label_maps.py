"""Label maps of segmentation: how they are decoded, and what is wrong with them."""

import struct
from collections.abc import Iterable, Sequence

import cv2
import mmcv.image
import numpy as np
from mmengine import fileio
from PIL import Image

from mmir.data.images import ImageReadError

IGNORED = 255
"""Label that is ignored in training and evaluation."""

_BROKEN = (
    OSError,
    SyntaxError,  # of Pillow, for broken PNG chunks
    ValueError,
    EOFError,
    struct.error,
    cv2.error,
    Image.DecompressionBombError,
)
_LISTED = 5  # values named in a message


def read_label_map(
    path: str, backend: str = 'pillow', backend_args: dict | None = None
) -> np.ndarray:
    """Decode a label map as `LoadAnnotations` of the hosts does, before it casts.

    Args:
        path (str): File to read.
        backend (str): `imdecode_backend` of the transform. The default keeps the
            indices of a palette; 'cv2' turns them into colors.
        backend_args (dict, optional): Arguments of mmengine's file backend.

    Returns:
        np.ndarray: Values as stored, (H, W), or (H, W, C) for colors.

    Raises:
        ImageReadError: The file is missing, truncated or not an image.
    """
    try:
        data = fileio.get(path, backend_args=backend_args)
        stored = mmcv.image.imfrombytes(data, flag='unchanged', backend=backend)
    except FileNotFoundError as error:
        raise ImageReadError(f'label map is missing: {path}') from error
    except _BROKEN as error:
        raise ImageReadError(f'label map cannot be decoded: {path} ({error})') from None
    if stored is None:
        raise ImageReadError(f'label map is truncated or not an image: {path}')
    return stored.squeeze()


def gray_mask(mask: np.ndarray) -> np.ndarray:
    """Reduce a mask to one plane; colors become gray, alpha is dropped.

    Args:
        mask (np.ndarray): (H, W) or (H, W, C) uint8, BGR.

    Returns:
        np.ndarray: (H, W) uint8.
    """
    if mask.ndim == 2:
        return mask
    if mask.shape[2] < 3:
        return mask[..., 0]
    return cv2.cvtColor(mask[..., :3], cv2.COLOR_BGR2GRAY)


def color_fault(stored: np.ndarray, indices: bool = False) -> str:
    """Tell what a label map in color is, and what to do.

    Args:
        stored (np.ndarray): (H, W, C), see :func:`read_label_map`.
        indices (bool): Whether Pillow reads indices from the file.

    Returns:
        str: Detail for a problem.
    """
    if indices:
        return (
            "a palette, of which imdecode_backend='cv2' reads the colors: set "
            "imdecode_backend='pillow' in LoadAnnotations"
        )
    planes = stored.shape[2]
    if all(np.array_equal(stored[..., 0], stored[..., k]) for k in range(1, planes)):
        return f'{planes} equal planes: store one of them'
    colors = len(np.unique(stored.reshape(-1, planes), axis=0))
    return (
        f'{planes} planes, {colors} colors: store the index of the class in place of '
        'its color'
    )


def depth_fault(stored: np.ndarray) -> str:
    """Tell which values of a label map get lost when a host casts them to 8 bits.

    Args:
        stored (np.ndarray): (H, W), see :func:`read_label_map`.

    Returns:
        str: Detail for a problem; empty if all values stay.
    """
    if stored.dtype in (np.uint8, bool):
        return ''
    with np.errstate(invalid='ignore'):  # NaN
        kept = stored.astype(np.uint8)
    lost = stored[kept != stored]
    if not lost.size:
        return ''
    values = np.unique(lost)
    with np.errstate(invalid='ignore'):
        becomes = ', '.join(
            f'{v} becomes {v.astype(np.uint8)}' for v in values[:_LISTED]
        )
    return (
        f'{stored.dtype}: mmseg would keep only the lowest 8 bits, {becomes}; store '
        'class indices of 0 to 255'
    )


def strange_fault(values: np.ndarray, counts: np.ndarray, classes: int) -> str:
    """Tell which values of a label map are no classes.

    Args:
        values (np.ndarray): (N,) values of the file that are no class.
        counts (np.ndarray): (N,) number of pixels of each.
        classes (int): Number of values that are.

    Returns:
        str: Detail for a problem.
    """
    named = zip(values[:_LISTED], counts[:_LISTED], strict=True)
    more = f' and {len(values) - _LISTED} more values' * (len(values) > _LISTED)
    text = ', '.join(f'{value} in {count} pixels' for value, count in named)
    return f'{text}{more}; of {classes}'


def unlearnable(values: Iterable[int], by_class: Sequence[int], ignored: int) -> str:
    """Tell whether the label maps of a dataset hold nothing that can be learned.

    Args:
        values (Iterable[int]): Values that occur in the files.
        by_class (Sequence[int]): Number of pixels of each class, of all files.
        ignored (int): Number of pixels that are ignored.

    Returns:
        str: Detail for a problem; empty if there is none.
    """
    if ignored and not any(by_class):
        return f'all {ignored} pixels are ignored ({IGNORED}, or 0 if that is left out)'
    if len(by_class) < 2 or not ignored or not set(values) <= {0, IGNORED}:
        return ''
    return (
        f'{ignored} pixels are {IGNORED} and all others 0. {IGNORED} is ignored, so '
        'one class at most is left. If it means the second of two classes, use '
        'mmir.LoadSaliencyMask in place of LoadAnnotations (128 and above is 1), or '
        'store class indices'
    )
