"""Random augmentation of salient-object detection: crop of the border, enhancement."""

from collections.abc import Sequence

import numpy as np
from mmcv.image import (
    adjust_brightness,
    adjust_color,
    adjust_contrast,
    adjust_sharpness,
)
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

Interval = Sequence[float]


@TRANSFORMS.register_module()
class RandomCenterCrop(BaseTransform):
    """Crop a centered window of random size: the image loses part of its border.

    Salient objects are mostly near the center and stay in the window. The window loses
    fewer than `border` pixels of the height and of the width, drawn independently.
    Part of the published recipe of IV-tuning (arXiv 2412.16654). Wrap it in
    `PairedTransform` for pairs.

    Required keys: img (H, W) or (H, W, C); the maps in seg_fields.
    Changed keys: img, img_shape, the maps in seg_fields.

    Args:
        border (int): Upper limit of the pixels lost in each direction, both sides
            together. At most half of a small image is lost.

    Raises:
        ValueError: The border is not positive.
    """

    def __init__(self, border: int = 30) -> None:
        if border < 1:
            raise ValueError(f'RandomCenterCrop: border must be positive, got {border}')
        self.border = border

    def transform(self, results: dict) -> dict:
        """Crop the image and its maps.

        Args:
            results (dict): A sample.

        Returns:
            dict: The sample.
        """
        size = results['img'].shape[:2]
        lost = [
            np.random.randint(0, min(self.border, length // 2) or 1)  # noqa: NPY002
            for length in size
        ]
        window = tuple(
            slice(gone // 2, gone // 2 + length - gone)
            for gone, length in zip(lost, size, strict=True)
        )
        for key in ('img', *results.get('seg_fields', ())):
            results[key] = results[key][window]
        results['img_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        """Show the border."""
        return f'{type(self).__name__}(border={self.border})'


@TRANSFORMS.register_module()
class RandomEnhance(BaseTransform):
    """Change brightness, contrast, color and sharpness by random factors, in turn.

    A factor of 1 changes nothing; 0 gives a black, a gray, a colorless or a blurred
    image. The defaults are those of the published recipe of IV-tuning (arXiv
    2412.16654), for the visible image only: `OnModality('rgb', ...)`.

    Required keys: img, (H, W, 3) uint8.
    Changed keys: img.

    Args:
        brightness (Sequence[float]): Lowest and highest factor.
        contrast (Sequence[float]): Likewise.
        color (Sequence[float]): Likewise.
        sharpness (Sequence[float]): Likewise.

    Raises:
        ValueError: Factors are negative or not in order.
        TypeError: The image is not uint8.
    """

    def __init__(
        self,
        brightness: Interval = (0.5, 1.5),
        contrast: Interval = (0.5, 1.5),
        color: Interval = (0.0, 2.0),
        sharpness: Interval = (0.0, 3.0),
    ) -> None:
        self.factors = dict(
            brightness=tuple(brightness),
            contrast=tuple(contrast),
            color=tuple(color),
            sharpness=tuple(sharpness),
        )
        for name, span in self.factors.items():
            if len(span) != 2 or not 0 <= span[0] <= span[1]:
                raise ValueError(
                    f'RandomEnhance: {name} must be two factors in order, not '
                    f'negative, got {span}'
                )

    def transform(self, results: dict) -> dict:
        """Change the image.

        Args:
            results (dict): A sample.

        Returns:
            dict: The sample.
        """
        img = results['img']
        if img.dtype != np.uint8:
            raise TypeError(f'RandomEnhance takes uint8 images, got {img.dtype}')
        drawn = {
            name: np.random.uniform(*span)  # noqa: NPY002
            for name, span in self.factors.items()
        }
        # the pillow backend, which a user may have chosen, takes RGB
        img = adjust_brightness(img, drawn['brightness'], backend='cv2')
        img = adjust_contrast(img, drawn['contrast'], backend='cv2')
        img = adjust_color(img, drawn['color'], backend='cv2')
        results['img'] = adjust_sharpness(img, drawn['sharpness'])
        return results

    def __repr__(self) -> str:
        """Show the factors."""
        return f'{type(self).__name__}({self.factors})'
