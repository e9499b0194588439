"""Pad test images to a multiple of the stride of a detector."""

import math

from mmcv.transforms import Pad
from mmengine.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PadToStride(Pad):
    """Pad the bottom and right to a multiple of the stride, plus half a stride.

    A side of `n` pixels becomes `ceil(n / divisor + extra) * divisor` pixels, the test
    shape of the published YOLOv7: 640x512 becomes 672x544. The border gives objects at
    the edge the context they had in training, where images are padded.

    Required and changed keys: those of mmcv's `Pad` (img, and gt_seg_map if present).

    Args:
        divisor (int): Coarsest stride of the network. Default: 32.
        extra (float): Border in units of `divisor`, before rounding up. Default: 0.5.
        pad_val (int | dict): Value of the border, as in mmcv's `Pad`. Default: 114.

    Raises:
        ValueError: `divisor` is below 1 or `extra` is negative.
    """

    def __init__(
        self, divisor: int = 32, extra: float = 0.5, pad_val: int | dict = 114
    ) -> None:
        if divisor < 1 or extra < 0:
            raise ValueError(
                f'PadToStride: divisor={divisor} must be at least 1 and extra={extra} '
                'must not be negative'
            )
        super().__init__(size_divisor=divisor, pad_val=pad_val)
        self.extra = extra

    def transform(self, results: dict) -> dict:
        """Pad `img`, and `gt_seg_map` if present.

        Args:
            results (dict): Data info with the image.

        Returns:
            dict: The same dictionary, padded.
        """
        height, width = results['img'].shape[:2]
        # mmcv's Pad takes a fixed size or a divisor, but this size differs per image
        step = self.size_divisor
        size = [math.ceil(n / step + self.extra) * step for n in (width, height)]
        return Pad(size=tuple(size), pad_val=self.pad_val).transform(results)

    def __repr__(self) -> str:
        """Show the options."""
        return (
            f'{type(self).__name__}(divisor={self.size_divisor}, extra={self.extra}, '
            f'pad_val={self.pad_val})'
        )
