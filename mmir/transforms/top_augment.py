"""`TOPAugment`: augmentations of task-oriented pretraining.

[1] "TOPLight: lightweight neural networks with task-oriented pretraining for
visible-infrared recognition", CVPR 2023.
[2] P. Y. Simard, D. Steinkraus and J. C. Platt, "Best practices for convolutional
neural networks applied to visual document analysis", ICDAR 2003.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from mmir.utils.errors import UserError

Range = tuple[float, float]

_SHARP = np.full((3, 3), -1.0)
_SHARP[1, 1] = 9.0


def deform(img: np.ndarray, alpha: float, sigma: float) -> np.ndarray:
    """Move each pixel by a smooth random field [2].

    Args:
        img (ndarray): Image (H, W, 3), uint8.
        alpha (float): Factor of the smoothed field, whose values are from -1 to 1 px
            before.
        sigma (float): Standard deviation of the smoothing in px.
    """
    size = img.shape[:2]
    fields = np.random.uniform(-1, 1, (2, *size)).astype(np.float32)  # noqa: NPY002
    dx, dy = (alpha * cv2.GaussianBlur(field, (0, 0), sigma) for field in fields)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    border = cv2.BORDER_REFLECT_101
    return cv2.remap(img, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=border)


def shuffle(img: np.ndarray) -> np.ndarray:
    """Permute the color channels at random."""
    return img[..., np.random.permutation(3)]  # noqa: NPY002


def shift(img: np.ndarray, most: float) -> np.ndarray:
    """Add a random number from -most to most to each color channel."""
    added = np.random.uniform(-most, most, 3)  # noqa: NPY002
    return np.clip(np.rint(img + added), 0, 255).astype(np.uint8)


def compress(img: np.ndarray, quality: Range) -> np.ndarray:
    """Encode as JPEG and decode.

    Args:
        img (ndarray): Image (H, W, 3), uint8.
        quality (tuple[int, int]): Least and highest quality, both may be drawn.
    """
    drawn = int(np.random.randint(quality[0], quality[1] + 1))  # noqa: NPY002
    _, data = cv2.imencode('.jpg', img, [cv2.IMWRITE_JPEG_QUALITY, drawn])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def defocus(img: np.ndarray, radius: Range) -> np.ndarray:
    """Average over a disk, as a lens out of focus does.

    Args:
        img (ndarray): Image (H, W, 3), uint8.
        radius (tuple[int, int]): Least and largest radius in px, both may be drawn.
    """
    drawn = int(np.random.randint(radius[0], radius[1] + 1))  # noqa: NPY002
    y, x = np.mgrid[-drawn : drawn + 1, -drawn : drawn + 1]
    disk = (x**2 + y**2 <= drawn**2).astype(np.float32)
    return cv2.filter2D(img, -1, disk / disk.sum())


def sharpen(img: np.ndarray, alpha: Range) -> np.ndarray:
    """Blend with a sharpened image.

    Args:
        img (ndarray): Image (H, W, 3), uint8.
        alpha (tuple[float, float]): Least and largest share of the sharpened image.
    """
    drawn = np.random.uniform(*alpha)  # noqa: NPY002
    kernel = drawn * _SHARP
    kernel[1, 1] += 1 - drawn
    return cv2.filter2D(img, -1, kernel)


STEPS: dict[str, Callable[..., np.ndarray]] = {
    step.__name__: step for step in (deform, shuffle, shift, compress, defocus, sharpen)
}
"""Steps in the order in which they run."""


@TRANSFORMS.register_module()
class TOPAugment(BaseTransform):
    """Augmentations of [1] that mmpretrain does not have.

    [1] names them: deform for both paths; channel shuffle and RGB shift for path 1;
    compress, defocus and sharpen for path 2. Their strengths in the configs are ours.

    Required keys: img, (H, W, 3), uint8.
    Changed keys: img.

    Args:
        **steps: Name of a step -> its probability `prob` and its arguments, such as
            `shift=dict(prob=0.5, most=30)`. The steps are the functions of this module.

    Raises:
        UserError: A step or one of its arguments is unknown or missing.
    """

    def __init__(self, **steps: Mapping[str, Any]) -> None:
        if not steps or not {*steps} <= {*STEPS}:
            raise UserError(f'steps {[*steps]}: give some of {[*STEPS]}')
        for name, options in steps.items():
            wanted = {'prob', *inspect.signature(STEPS[name]).parameters} - {'img'}
            if {*options} != wanted or not 0 <= options['prob'] <= 1:
                raise UserError(
                    f'{name}={dict(options)}: give {sorted(wanted)}, with prob from 0 '
                    'to 1'
                )
        self.steps = {name: dict(steps[name]) for name in STEPS if name in steps}

    def transform(self, results: dict) -> dict:
        """Augment the image.

        Args:
            results (dict): A sample.

        Returns:
            dict: The sample.

        Raises:
            UserError: The image has other channels or another type.
        """
        img = results['img']
        if img.ndim != 3 or img.shape[2] != 3 or img.dtype != np.uint8:
            raise UserError(
                f'TOPAugment needs color images (H, W, 3) of uint8, got {img.shape} of '
                f'{img.dtype}'
            )
        for name, options in self.steps.items():
            options = dict(options)
            if np.random.rand() < options.pop('prob'):  # noqa: NPY002
                img = STEPS[name](img, **options)
        results['img'] = np.ascontiguousarray(img)
        return results

    def __repr__(self) -> str:
        """Show the steps."""
        return f'{type(self).__name__}({self.steps})'
