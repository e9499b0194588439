"""SYSU-MM01, RegDB and LLCM."""

from typing import Any

from mmengine.logging import print_log

from mmir.data.layouts.reid import LLCM as LLCM_LAYOUT
from mmir.data.layouts.reid import (
    REGDB,
    SYSU_MM01,
    PersonImage,
    ReIDLayout,
    regdb_training_split,
)
from mmir.engine.training_split import KEY
from mmir.registry import DATASETS

from .person import PersonListDataset


class _LayoutDataset(PersonListDataset):
    """Dataset with a known layout on disk.

    Args:
        data_root (str): Root of the dataset.
        split (str): 'train' or 'test'. The test split holds queries and gallery.
        **kwargs: Arguments of mmpretrain's `BaseDataset`.
    """

    LAYOUT: ReIDLayout
    trial = 1

    def __init__(self, data_root: str, split: str = 'train', **kwargs: Any) -> None:
        self.split = split
        super().__init__(data_root=data_root, **kwargs)

    def person_images(self) -> list[PersonImage]:
        """List the images of the split.

        Returns:
            list[PersonImage]: RGB images, then infrared ones.
        """
        images = self.LAYOUT.images(self.data_root, self.split, self.trial)
        ids, rgb, ir = self.LAYOUT.counts[self.split]
        if len(images) != rgb + ir:
            print_log(
                f'{self.LAYOUT.title} ({self.split}): {len(images)} images of '
                f'{len({image.pid for image in images})} identities, officially '
                f'{rgb + ir} of {ids}',
                'current',
            )
        return images


@DATASETS.register_module()
class SYSUMM01(_LayoutDataset):
    """SYSU-MM01 (Wu et al., ICCV 2017): four RGB and two infrared cameras.

    `cam{1..6}/{pid:04d}/{n:04d}.jpg`; cameras 3 and 6 are infrared, 2 and 3 see the
    same room. Training: the 395 identities of `exp/train_id.txt` and `val_id.txt`,
    22,258 RGB and 11,909 infrared images. Test: 96 identities, 6,775 and 3,803 images.

    Args:
        data_root (str): Root of the dataset.
        split (str): 'train' or 'test'.
        **kwargs: Arguments of mmpretrain's `BaseDataset`.

    Raises:
        MissingFilesError: Files are missing; says what is expected.
    """

    LAYOUT = SYSU_MM01


@DATASETS.register_module()
class RegDB(_LayoutDataset):
    """RegDB (Nguyen et al., Sensors 2017): ten RGB and ten thermal images per person.

    `Visible/<pid>/*.bmp`, `Thermal/<pid>/*.bmp`, and ten splits into 206 + 206
    identities in `idx/`. Train one model per trial and test it on the same trial: most
    test identities of another trial were in the training data. `training_split` of the
    metainfo names the trial, by which :class:`mmir.engine.TrainingSplitHook` refuses
    the model of another one. `cam_id` is 1 for RGB and 2 for infrared.

    Args:
        data_root (str): Root of the dataset.
        split (str): 'train' or 'test'.
        trial (int): Number of the split into train and test, 1 to 10.
        **kwargs: Arguments of mmpretrain's `BaseDataset`.

    Raises:
        MissingFilesError: Files are missing; says what is expected.
        ValueError: There is no such trial.
    """

    LAYOUT = REGDB

    def __init__(
        self, data_root: str, split: str = 'train', trial: int = 1, **kwargs: Any
    ) -> None:
        self.trial = trial
        super().__init__(data_root, split, **kwargs)

    def person_images(self) -> list[PersonImage]:
        """List the images of the split, and name what a model is trained on.

        Returns:
            list[PersonImage]: RGB images, then infrared ones.
        """
        images = super().person_images()
        split = regdb_training_split(self.data_root, self.trial)
        self._metainfo.setdefault(KEY, split)
        return images


@DATASETS.register_module()
class LLCM(_LayoutDataset):
    """LLCM (Zhang and Wang, CVPR 2023): nine places, low light.

    Training: lists `idx/train_vis.txt` and `train_nir.txt`, 713 identities, 16,946 RGB
    and 13,975 near-infrared images. Test: `test_vis/cam{c}/{pid:04d}/`, `test_nir/...`,
    351 identities, 8,680 and 7,166 images. Both modalities number the places alike.

    Args:
        data_root (str): Root of the dataset.
        split (str): 'train' or 'test'.
        **kwargs: Arguments of mmpretrain's `BaseDataset`.

    Raises:
        MissingFilesError: Files are missing; says what is expected.
    """

    LAYOUT = LLCM_LAYOUT
