"""`ImageFolder`: a folder of images per class, with errors that name the file."""

import os
from typing import Any

import cv2
from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset

from mmir.registry import DATASETS
from mmir.utils.errors import AnnotationError, UserError


@DATASETS.register_module()
class ImageFolder(CustomDataset):
    """Images in a folder per class, as those of ImageNet.

    mmpretrain's `CustomDataset` without a list, and with clear errors.

    Args:
        data_root (str): Folder of the dataset.
        data_prefix (str): Folder of the split in it, such as 'train'.
        **kwargs: Arguments of mmpretrain's `CustomDataset`.

    Raises:
        UserError: There is no such folder, or it has fewer than two classes of images.
    """

    def __init__(
        self, data_root: str = '', data_prefix: str = '', **kwargs: Any
    ) -> None:
        super().__init__(data_root=data_root, data_prefix=data_prefix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images.

        Returns:
            list[dict]: Data infos with `img_path` and `gt_label`.
        """
        if not os.path.isdir(self.img_prefix):
            raise UserError(
                f'{self.img_prefix} is no folder; set data_root and data_prefix to a '
                'folder that has a folder of images per class'
            )
        folders = [e.name for e in os.scandir(self.img_prefix) if e.is_dir()]
        if len(folders) < 2:
            raise UserError(
                f'{self.img_prefix} has {len(folders)} folders of classes '
                f'({folders}); a classifier needs two or more. Is the folder of the '
                'split missing in data_prefix?'
            )
        infos = super().load_data_list()
        if len({info['gt_label'] for info in infos}) < 2:
            raise UserError(
                f'only one of the {len(folders)} folders in {self.img_prefix} has '
                f'images ({", ".join(sorted(self.extensions))})'
            )
        return infos

    def prepare_data(self, idx: int) -> Any:
        """Load and transform a sample.

        Args:
            idx (int): Number of the sample.

        Returns:
            Any: What the pipeline returns.

        Raises:
            AnnotationError: The file is no image; has its name.
        """
        try:
            return super().prepare_data(idx)
        except Exception as error:
            path = self.get_data_info(idx)['img_path']
            if _readable(path):  # the fault of a transform
                print_log(f'a transform failed for {path}', 'current')
                raise
            raise AnnotationError(
                f'{path} cannot be read as an image: delete it or replace it'
            ) from error


def _readable(path: str) -> bool:
    """Whether OpenCV reads a file as an image."""
    try:
        return cv2.imread(path) is not None
    except cv2.error:
        return False
