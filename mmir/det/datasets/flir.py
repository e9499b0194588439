"""FLIR ADAS thermal dataset, and data in its layout."""

import os
from pathlib import Path
from typing import Any, Literal

from mmengine.logging import print_log

from mmir.data.layouts.flir import (
    FLIR_CLASSES,
    V10,
    Modality,
    add_rgb_partners,
    find_flir,
    missing_flir_message,
    read_flir,
    use_16_bit,
)
from mmir.registry import DATASETS

from .coco_subset import CocoSubsetDataset


@DATASETS.register_module()
class FLIRDataset(CocoSubsetDataset):
    """FLIR ADAS v1.3 or v1.0: thermal images, RGB images, or pairs of both.

    Categories are matched by name. Boxes of other categories (dog, other vehicle) are
    left out, and their number is logged. Boxes are joined with images by `images[].id`.

    Args:
        *args: Arguments of :class:`CocoSubsetDataset`.
        split (str): 'train', 'val' or 'video'. Sets `ann_file` and
            `data_prefix=dict(img=...)` if they are not given. `data_root` is searched
            for v1.3 first, then for v1.0.
        modality (str): Which images to load.

            - 'ir': thermal images and labels.
            - 'rgb': RGB images, for copies with an `rgb_annotations.json` (FLIR itself
              labels thermal frames only).
            - 'both': thermal images and labels, and `img_paths` with the RGB frame, or
              None if there is none. FLIR's cameras differ in field of view, so its RGB
              frames must be registered first; aligned copies in this layout need not.
        bit_depth (int): 8 or 16, the thermal files to read. 16 needs
            `LoadThermalImage(bit_depth=16)` and `ThermalToUint8` in the pipeline.
        **kwargs: Arguments of :class:`CocoSubsetDataset`, including `subset`.

    Raises:
        FileNotFoundError: The data is missing. The message says what is expected where,
            where to get it and how to continue without it.
        ValueError: An option has an unknown value.
        AnnotationError: The annotations are broken or contradict the images.
    """

    METAINFO: dict = {
        'classes': FLIR_CLASSES,
        'palette': [(220, 20, 60), (119, 11, 32), (0, 0, 142)],
    }

    def __init__(
        self,
        *args: Any,
        split: Literal['train', 'val', 'video'] = 'train',
        modality: Modality = 'ir',
        bit_depth: Literal[8, 16] = 8,
        **kwargs: Any,
    ) -> None:
        if modality not in ('ir', 'rgb', 'both'):
            raise ValueError(
                f"modality must be 'ir', 'rgb' or 'both', got {modality!r}"
            )
        if bit_depth not in (8, 16):
            raise ValueError(f'bit_depth must be 8 or 16, got {bit_depth!r}')
        self.split, self.modality, self.bit_depth = split, modality, bit_depth
        if not args and not kwargs.get('ann_file'):
            self._locate(kwargs)
        super().__init__(*args, **kwargs)

    def _locate(self, kwargs: dict) -> None:
        """Fill in `ann_file` and `data_prefix` from `data_root` and the split."""
        root = kwargs.get('data_root') or ''
        layout = find_flir(root, self.split)
        folder = layout.splits[self.split]
        kwargs['ann_file'] = f'{folder}/{layout.annotations}'
        if self.modality == 'rgb':
            kwargs['ann_file'] = f'{folder}/rgb_annotations.json'
        kwargs.setdefault('data_prefix', {'img': f'{folder}/'})

    def read_annotations(self) -> dict:
        """Read the annotations and resolve the image files.

        Returns:
            dict: COCO dictionary. With modality 'both', images have `rgb_name`.
        """
        path = Path(self.ann_file)
        if not path.exists():
            if self.modality == 'rgb' and path.parent.is_dir():
                raise FileNotFoundError(
                    f"modality='rgb' needs {path}, which does not exist: FLIR's RGB "
                    "frames have no labels. Use modality='ir', or train the RGB stage "
                    'on other data (configs/tensorfact/yolo_rgb.py uses COCO)'
                )
            root = self.data_root or path.parent.parent
            raise FileNotFoundError(
                f'{path} not found: {missing_flir_message(root, self.split)}'
            )
        coco, layout = read_flir(path)
        folder = self.data_prefix['img']
        if self.modality == 'both':
            lone = add_rgb_partners(coco, layout, folder)
            total = len(coco['images'])
            print_log(f'{lone} of {total} thermal images without RGB', logger='current')
        if self.bit_depth == 16 and self.modality != 'rgb':
            use_16_bit(coco, layout)
        if layout is V10:
            print_log(f'{path}: FLIR ADAS v1.0 layout', logger='current')
        return coco

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Add the image files of both modalities.

        Args:
            raw_data_info (dict): `raw_img_info` and `raw_ann_info` of one image.

        Returns:
            dict: Data info. With modality 'both', it has `img_paths` and `reference`.
        """
        info = super().parse_data_info(raw_data_info)
        if self.modality == 'both':
            name = raw_data_info['raw_img_info'].get('rgb_name')
            rgb = None if name is None else os.path.join(self.data_prefix['img'], name)
            info['img_paths'] = {'rgb': rgb, 'ir': info['img_path']}
            info['reference'] = 'ir'
        return info
