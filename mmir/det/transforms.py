"""Augmentation of detection samples that differs from mmdet's."""

import numpy as np
from mmdet.datasets.transforms import RandomAffine

from mmir.registry import TRANSFORMS


@TRANSFORMS.register_module()
class CenteredRandomAffine(RandomAffine):
    """mmdet's `RandomAffine` about the center of the image.

    mmdet scales and rotates about the upper left corner and then takes the upper left
    part of the result. Half of a mosaic's samples are then mostly padding, and the
    images of its lower right are rarely seen. YOLOv7's recipe, followed here, puts the
    center of the mosaic in the center of the sample.

    Required keys: img, gt_bboxes, gt_bboxes_labels, gt_ignore_flags.
    Changed keys: img, img_shape, gt_bboxes, gt_bboxes_labels, gt_ignore_flags.

    Args:
        *args: Arguments of mmdet's `RandomAffine`; ratios of translation are relative
            to the size of the output.
        **kwargs: Arguments of mmdet's `RandomAffine`.
    """

    def _get_random_homography_matrix(self, height: int, width: int) -> np.ndarray:
        """Draw the matrix from the input image to the output.

        Args:
            height (int): Height of the output in pixels.
            width (int): Width of the output in pixels.

        Returns:
            np.ndarray: (3, 3) float32.
        """
        size = np.array([width, height])
        to_origin, to_middle = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
        to_origin[:2, 2] = np.array(self.border) - size / 2  # minus half of the input
        to_middle[:2, 2] = size / 2
        about_corner = super()._get_random_homography_matrix(height, width)
        return to_middle @ about_corner @ to_origin
