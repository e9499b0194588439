"""Faces in visible and near-infrared light, from list files."""

from pathlib import Path
from typing import Any

from mmir.data.layouts.reid import PersonImage, read_listed
from mmir.registry import DATASETS

from .person import PersonListDataset

VISIBLE, NEAR_INFRARED = 1, 2
"""Camera of the images of a list."""


@DATASETS.register_module()
class NIRVISFace(PersonListDataset):
    """Faces that two lists name, one of visible and one of near-infrared images.

    A line of a list is `path label`, such as `NIR/P012/03.jpg 12`. Which images train
    and which test is up to the lists, so any protocol is data: Oulu-CASIA NIR-VIS and
    BUAA-VisNir are tested with visible images as gallery and near-infrared ones as
    probes, see :class:`mmir.evaluation.VerificationMetric`.

    Samples are those of :class:`PersonListDataset`; the modality of near-infrared
    images is 'ir', and their camera is 2.

    Args:
        vis_list (str): List of visible images.
        nir_list (str): List of near-infrared images.
        data_root (str): Folder that the lists and the paths in them are relative to.
        **kwargs: Arguments of mmpretrain's `BaseDataset`.

    Raises:
        FileNotFoundError: A list or listed images are missing.
        AnnotationError: A line is broken, a file is listed twice, or one is outside of
            the root.
    """

    def __init__(
        self, vis_list: str, nir_list: str, data_root: str = '', **kwargs: Any
    ) -> None:
        self.lists = vis_list, nir_list
        super().__init__(data_root=data_root, **kwargs)

    def person_images(self) -> list[PersonImage]:
        """List the images: visible ones, then near-infrared ones."""
        root, (visible, infrared) = Path(self.data_root or '.'), self.lists
        return [
            *read_listed(root, visible, 'rgb', lambda _: VISIBLE),
            *read_listed(root, infrared, 'ir', lambda _: NEAR_INFRARED),
        ]
