"""Base class of public detection datasets converted to COCO files."""

import os
from pathlib import Path
from typing import Any, ClassVar

from mmir.data.coco import image_names, read_coco
from mmir.data.inside import outside
from mmir.data.layouts.det import (
    JSON_FOLDER,
    DetLayout,
    command,
    lacking_message,
    unconverted_message,
)
from mmir.data.layouts.flir import Modality
from mmir.utils.errors import AnnotationError
from mmir.utils.files import few

from .coco_subset import CocoSubsetDataset


class LayoutDataset(CocoSubsetDataset):
    """Base class of the datasets of :mod:`mmir.data.layouts.det`, after conversion.

    `data_root` and `split` are enough: annotations and image names are read from
    `coco/SPLIT.json` in `data_root`, written by the dataset's converter.

    Args:
        *args: Arguments of :class:`CocoSubsetDataset`.
        split (str): Split of the dataset. Default: the first one. Not used if
            `ann_file` is set.
        modality (str): 'ir' or 'rgb': images of that camera. 'both': images of the
            labeled modality (`reference`), and `img_paths` with the images of both
            cameras, for :class:`mmir.transforms.LoadPairedImages`.
        labels (str, optional): Modality whose labels are used, if the dataset labels
            both. Default: the modality of the images, 'ir' for 'both'.
        **kwargs: Arguments of :class:`CocoSubsetDataset`, including `subset`.

    Raises:
        FileNotFoundError: The data is missing, not converted, or lacks images. The
            message says which, how many, and what to run.
        ValueError: An option has an unknown value.
        AnnotationError: The annotations are broken or contradict the images.
    """

    LAYOUT: ClassVar[DetLayout]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Set classes and palette from the layout."""
        super().__init_subclass__(**kwargs)
        cls.METAINFO = {
            'classes': cls.LAYOUT.classes,
            'palette': list(cls.LAYOUT.palette),
        }

    def __init__(
        self,
        *args: Any,
        split: str | None = None,
        modality: Modality = 'ir',
        labels: str | None = None,
        **kwargs: Any,
    ) -> None:
        layout = self.LAYOUT
        known = (*layout.images, 'both') if len(layout.images) > 1 else ('ir',)
        self.split = next(iter(layout.splits)) if split is None else split
        self.modality = modality
        own = modality if modality in layout.labels else next(iter(layout.labels))
        self.labels = own if labels is None else labels
        for name, value, choices in (
            ('split', self.split, tuple(layout.splits)),
            ('modality', modality, known),
            ('labels', self.labels, tuple(layout.labels)),
        ):
            if value not in choices:
                raise ValueError(
                    f'{type(self).__name__}: {name} must be one of {choices}, got '
                    f'{value!r}'
                )
        if not args and not kwargs.get('ann_file'):
            name = layout.json_name(self.split, self.labels)
            kwargs['ann_file'] = f'{JSON_FOLDER}/{name}'
        super().__init__(*args, **kwargs)

    @property
    def root(self) -> str:
        """str: Data folder, for error messages."""
        return self.data_root or self.data_prefix['img'] or '.'

    def read_annotations(self) -> dict:
        """Read the converted annotations and resolve the image files.

        Returns:
            dict: COCO dictionary. Every image has the file name of each modality.
        """
        if not Path(self.ann_file).is_file():
            raise FileNotFoundError(
                unconverted_message(self.LAYOUT, self.root, self.ann_file)
            )
        coco = read_coco(self.ann_file)
        names = tuple(self.LAYOUT.images)
        for image in coco['images']:
            if not all(isinstance(image.get(name), str) for name in names):
                raise AnnotationError(
                    f'{self.ann_file}: image {image["file_name"]} does not name its '
                    f'files for {names}. {type(self).__name__} reads files written by '
                    f'its converter: {command(self.LAYOUT, self.root)}'
                )
            image['file_name'] = image[self._lead]
        if self._is_local:
            self._require_files(coco)
        return coco

    @property
    def _lead(self) -> str:
        """Modality of `img_path`."""
        return self.labels if self.modality == 'both' else self.modality

    def _require_files(self, coco: dict) -> None:
        """Raise an error if images are missing."""
        names = self.LAYOUT.images if self.modality == 'both' else [self._lead]
        wanted = [image[name] for name in names for image in coco['images']]
        folder = self.data_prefix['img'] or '.'
        if odd := outside(wanted, folder, self._below):
            raise AnnotationError(
                f'{self.ann_file} names files outside {self.root}: {few(odd)}; '
                'allow_outside=True in the dataset allows them'
            )
        found = image_names(folder, wanted)
        lost = [name for name in wanted if name not in found]
        if lost:
            raise FileNotFoundError(
                lacking_message(self.LAYOUT, self.root, lost, len(wanted))
            )

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Add the image files of both modalities.

        Args:
            raw_data_info (dict): `raw_img_info` and `raw_ann_info` of one image.

        Returns:
            dict: Data info. With modality 'both', it has `img_paths` and `reference`.
        """
        info = super().parse_data_info(raw_data_info)
        if self.modality == 'both':
            image, folder = raw_data_info['raw_img_info'], self.data_prefix['img']
            info['img_paths'] = {
                name: os.path.join(folder, image[name]) for name in self.LAYOUT.images
            }
            info['reference'] = self.labels
        return info
