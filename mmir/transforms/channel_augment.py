"""`ChannelAugment`: gray images from random color channels.

[1] M. Ye, W. Ruan, B. Du and M. Z. Shou, "Channel augmented joint learning for
visible-infrared recognition", ICCV 2021 (CAJ).
"""

import numpy as np
from mmcv.image import bgr2gray
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmengine.registry import TRANSFORMS

from mmir.utils.errors import UserError

KEEP, GRAY = 'keep', 'gray'


@TRANSFORMS.register_module()
class ChannelAugment(BaseTransform):
    """Channel augmentation [1]: color no longer tells who a person is.

    - With probability 1/4 each, all channels become the blue, the green or the red one.
    - With probability 1/8, they become the luminance.
    - With probability 1/8, the image stays as it is.

    Infrared images of three equal channels do not change, so one pipeline serves both
    modalities. The published code copies channels after normalization. Here, images
    are not normalized yet, so that a copied channel is later normalized in the same way
    as an infrared image.

    Required keys: img, (H, W, 3) in BGR order.
    Changed keys: img.
    """

    @cache_randomness
    def draw(self) -> int | str:
        """Draw what all channels become: index of a channel, 'gray' or 'keep'."""
        choice = int(np.random.randint(4))  # noqa: NPY002
        if choice < 3:
            return choice
        return GRAY if np.random.rand() < 0.5 else KEEP  # noqa: NPY002

    def transform(self, results: dict) -> dict:
        """Augment the image.

        Args:
            results (dict): A sample.

        Returns:
            dict: The sample.

        Raises:
            UserError: The image does not have three channels.
        """
        img, drawn = results['img'], self.draw()
        if img.ndim != 3 or img.shape[2] != 3:
            raise UserError(
                f'ChannelAugment needs images (H, W, 3), got {img.shape}; load them '
                'with three channels'
            )
        if drawn != KEEP:
            source = bgr2gray(img) if drawn == GRAY else img[..., drawn]
            results['img'] = np.repeat(source[..., None], 3, 2)
        return results

    def __repr__(self) -> str:
        """Show the name."""
        return f'{type(self).__name__}()'
