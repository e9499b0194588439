"""Dataset of images of people from two modalities, for re-identification."""

from typing import Any

from mmpretrain.datasets import BaseDataset

from mmir.data.layouts.reid import PersonImage, read_person_list
from mmir.registry import DATASETS


@DATASETS.register_module()
class PersonListDataset(BaseDataset):
    """Images of people that a list names, with identity, camera and modality.

    A line of the list is `path pid cam modality`, such as `a/0001.jpg 17 2 ir`. A
    sample has `img_path`, `gt_label` (number of the identity in this dataset, from 0),
    `pid`, `cam_id` and `modality` ('rgb' or 'ir'). Models and metrics go by `modality`,
    never by the position in a batch, so let the packer keep it:

        dict(type='PackInputs', meta_keys=('sample_idx', 'img_path', 'pid', 'cam_id',
             'modality'))

    Args:
        ann_file (str): The list.
        data_root (str): Folder the paths and the list are relative to.
        **kwargs: Arguments of mmpretrain's `BaseDataset`.

    Raises:
        FileNotFoundError: The list or listed images are missing.
        AnnotationError: A line is broken, or names a file outside of the root.
    """

    def __init__(self, ann_file: str = '', data_root: str = '', **kwargs: Any) -> None:
        super().__init__(ann_file=ann_file, data_root=data_root, **kwargs)

    def person_images(self) -> list[PersonImage]:
        """List the images; override it for other layouts.

        Returns:
            list[PersonImage]: Images with paths below `data_root`.
        """
        return read_person_list(self.data_root or '.', self.ann_file)

    def load_data_list(self) -> list[dict]:
        """List the samples.

        Returns:
            list[dict]: Data infos of mmpretrain, see above.
        """
        images = self.person_images()
        ids = sorted({image.pid for image in images})
        labels = {pid: label for label, pid in enumerate(ids)}
        self._metainfo.setdefault('classes', tuple(map(str, ids)))
        root = f'{self.data_root.rstrip("/")}/' if self.data_root else ''
        return [
            dict(
                img_path=root + image.path,
                gt_label=labels[image.pid],
                pid=image.pid,
                cam_id=image.cam,
                modality=image.modality,
            )
            for image in images
        ]
