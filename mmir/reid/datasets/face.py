"""Near-infrared and visible faces, by lists."""

from pathlib import Path
from typing import Any

from mmir.data.layouts.reid import PersonImage, read_listed
from mmir.registry import DATASETS
from mmir.utils.errors import UserError

from .person import PersonListDataset

CAMS = {'rgb': 1, 'ir': 2}
"""Camera of a modality."""


@DATASETS.register_module()
class NIRVISFace(PersonListDataset):
    """Faces of near-infrared and visible cameras, by a list for each.

    A line of a list is `path label`, such as `NIR/s1/001.jpg 17`. So the protocol of
    Oulu-CASIA NIR-VIS, BUAA-VisNir and others is in the lists: for a test, the visible
    faces are the gallery, the near-infrared ones the probes. Samples have the fields of
    :class:`PersonListDataset`; camera 1 is visible, camera 2 near-infrared.

    Args:
        data_root (str): Folder the paths are relative to.
        vis (str): List of visible faces, below the root or absolute.
        nir (str): List of near-infrared faces.
        **kwargs: Arguments of mmpretrain's `BaseDataset`.

    Raises:
        UserError: A list or listed images are missing.
        AnnotationError: A line is broken, or names a file outside of the root.
    """

    def __init__(self, data_root: str, vis: str, nir: str, **kwargs: Any) -> None:
        self.lists = {'rgb': vis, 'ir': nir}
        super().__init__(data_root=data_root, **kwargs)

    def person_images(self) -> list[PersonImage]:
        """List the images.

        Returns:
            list[PersonImage]: Visible faces, then near-infrared ones.
        """
        found = []
        for modality, name in self.lists.items():
            cam = CAMS[modality]
            try:
                found += read_listed(
                    Path(self.data_root), name, modality, lambda _, cam=cam: cam
                )
            except FileNotFoundError as error:
                raise UserError(
                    f'{error}\nNIRVISFace needs vis and nir: lists with lines "path '
                    f'label", paths relative to data_root={self.data_root!r}'
                ) from error
        return found
