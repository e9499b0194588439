"""COCO detection dataset with checks on load and few-shot subsets."""

from collections import defaultdict
from typing import Any, Literal

import numpy as np
from mmdet.datasets import CocoDataset
from mmengine.logging import print_log

from mmir.data.check import DEGENERATE, ELSEWHERE, OUTSIDE, examine_boxes
from mmir.data.coco import check_coco, label_map, read_coco
from mmir.registry import DATASETS

from .few_shot import choose_subset

_ALLOW = 'if these files are meant, set allow_outside=True in the dataset'


@DATASETS.register_module()
class CocoSubsetDataset(CocoDataset):
    """COCO detection data with checks before training and few-shot subsets.

    Differences from mmdet's `CocoDataset`:

    - Labels follow the order of `classes`, not the category order of the file, so two
      files with the same classes give the same labels.
    - A box with `ignore=1` is an ignored region, an area of 0 or less does not lose its
      box, and numbers and flags written as text are read
      (:func:`mmir.data.coco_entries.normalize_coco`); what was changed is logged.
    - A missing image, an unknown class or category, or a box outside its image raises
      an error that names the files. Boxes that extend beyond the image are clipped,
      counted and logged.
    - `subset` keeps a few images, the same ones for the same seed.

    Without `ann_file`, mmdet's `CocoMetric` evaluates exactly the instances loaded here
    (it needs `'instances'` in the `meta_keys` of `PackDetInputs`). With `ann_file`, it
    reads the file itself: it numbers classes in the order of the file and takes its
    values as they stand. If either differs from what was loaded, a warning is logged.

    Args:
        *args: Arguments of mmdet's `CocoDataset`.
        subset (dict, optional): Arguments of :func:`choose_subset`: `num` or `frac`,
            and `seed`; or `files`. Applied after `filter_cfg`.
        on_bad_box (str): How to handle boxes outside the image or without a positive
            finite size: 'raise' an error, or 'drop' them and log their number.
        allow_outside (bool): Allow file names that lead out of `data_root` and of the
            image folder (absolute ones, `../`). Default: False, which refuses them.
            Links in these folders are always followed.
        **kwargs: Arguments of mmdet's `CocoDataset`. `metainfo=dict(classes=(...))` is
            required; `data_prefix=dict(img=...)` is the image folder.

    Attributes:
        chosen (list[str] | None): File names of the subset, None without `subset`.
        subset (dict | None): The `subset` argument.

    Raises:
        AnnotationError: The file is broken or contradicts its images.
        FileNotFoundError: The annotation file does not exist.
    """

    METAINFO: dict = {}

    def __init__(
        self,
        *args: Any,
        subset: dict | None = None,
        on_bad_box: Literal['raise', 'drop'] = 'raise',
        allow_outside: bool = False,
        **kwargs: Any,
    ) -> None:
        if on_bad_box not in ('raise', 'drop'):
            raise ValueError(
                f"on_bad_box must be 'raise' or 'drop', got {on_bad_box!r}"
            )
        self.subset = None if subset is None else dict(subset)
        self.on_bad_box = on_bad_box
        self.allow_outside = allow_outside
        self.chosen: list[str] | None = None
        kwargs.setdefault('data_prefix', {'img': ''})
        super().__init__(*args, **kwargs)

    def read_annotations(self) -> dict:
        """Read the annotation file.

        Returns:
            dict: COCO dictionary with valid structure and file names relative to
            `data_prefix['img']`.
        """
        return read_coco(self.ann_file)

    def load_data_list(self) -> list[dict]:
        """Read, check and clean the annotations.

        Returns:
            list[dict]: Data info of every image, in the order of the file.
        """
        coco = self.read_annotations()
        classes = self._classes(coco)
        folder = self.data_prefix['img'] if self._is_local else None
        report = check_coco(coco, self.ann_file, folder, classes, self._below)
        if self.on_bad_box == 'drop':
            kept = [p for p in report.problems if p.kind not in (DEGENERATE, OUTSIDE)]
            dropped = len(report.problems) - len(kept)
            report.problems = kept
            if dropped:
                report.notes.append(f'{dropped} unusable boxes dropped')
        if any(problem.kind == ELSEWHERE for problem in report.problems):
            report.notes.append(_ALLOW)
        report.raise_on_problems()
        print_log(report.text(), logger='current')
        labels = label_map(coco, classes, self.ann_file)
        self._warn_of_metric(coco, labels)
        by_image = self._clean(coco, labels)
        self.cat_ids = list(range(len(classes)))
        self.cat2label = {label: label for label in self.cat_ids}
        self.cat_img_map = defaultdict(list)
        for image_id, anns in by_image.items():
            for ann in anns:
                self.cat_img_map[ann['category_id']].append(image_id)
        return [
            self.parse_data_info(
                {
                    'raw_img_info': {**image, 'img_id': image['id']},
                    'raw_ann_info': by_image[image['id']],
                }
            )
            for image in coco['images']
        ]

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Add the file name, which identifies images in subset files, to the data info.

        Args:
            raw_data_info (dict): `raw_img_info` and `raw_ann_info` of one image.

        Returns:
            dict: Data info.
        """
        info = super().parse_data_info(raw_data_info)
        info['file_name'] = raw_data_info['raw_img_info']['file_name']
        return info

    def filter_data(self) -> list[dict]:
        """Apply `filter_cfg`, then keep the subset.

        Returns:
            list[dict]: Data info of the images to use.
        """
        infos = super().filter_data()
        if self.subset is None:
            return infos
        names = [info['file_name'] for info in infos]
        labels = [{i['bbox_label'] for i in info['instances']} for info in infos]
        keep = choose_subset(names, labels, self.ann_file, **self.subset)
        self.chosen = [names[k] for k in keep]
        print_log(f'subset: {len(keep)} of {len(names)} images', logger='current')
        return [infos[k] for k in keep]

    @property
    def _is_local(self) -> bool:
        """Whether the images lie in a local folder, which can be listed."""
        return (self.backend_args or {}).get('backend', 'local') == 'local'

    @property
    def _below(self) -> str | None:
        """Folder that all images must lie below, unless in the image folder."""
        return '/' if self.allow_outside else self.data_root or None

    def _classes(self, coco: dict) -> tuple[str, ...]:
        """Return the class names, or raise an error that lists the choices."""
        classes = self._metainfo.get('classes')
        if isinstance(classes, str):
            raise ValueError(
                f'classes={classes!r} is a string; write a tuple: ({classes!r},)'
            )
        if not classes:
            names = ', '.join(repr(cat['name']) for cat in coco['categories'])
            raise ValueError(
                f'{type(self).__name__} needs metainfo=dict(classes=(...)); '
                f'{self.ann_file} has {names}'
            )
        return tuple(classes)

    def _warn_of_metric(self, coco: dict, labels: dict[int, int]) -> None:
        """Warn if a metric that reads the file itself would judge by other labels."""
        order = list(labels.values())
        reasons = list(coco.get('notes', ()))
        if order != sorted(order):
            classes = self._metainfo['classes']
            reasons.append(f'its categories come in another order than {classes=}')
        if self.test_mode and reasons:
            print_log(
                f'{self.ann_file}: {"; ".join(reasons)}. Leave ann_file of CocoMetric '
                "unset and add 'instances' to the meta_keys of PackDetInputs. With "
                'ann_file set, CocoMetric reads the file itself and would evaluate '
                'other boxes or confuse the classes.',
                logger='current',
                level=30,  # logging.WARNING
            )

    def _clean(self, coco: dict, labels: dict[int, int]) -> dict[int, list[dict]]:
        """Return the usable boxes of the selected classes, clipped, by image id.

        Returns:
            dict[int, list[dict]]: COCO annotations whose category_id is the label.
        """
        sizes = {img['id']: (img['width'], img['height']) for img in coco['images']}
        by_image: dict[int, list[dict]] = {image_id: [] for image_id in sizes}
        anns = [ann for ann in coco['annotations'] if ann['category_id'] in labels]
        where = np.array([sizes[ann['image_id']] for ann in anns], float)
        boxes = examine_boxes([ann['bbox'] for ann in anns], where.reshape(-1, 2))
        clipped = boxes.clipped.tolist()
        tiny = int(((boxes.clipped[:, 2:] < 1).any(1) & ~boxes.bad).sum())
        if tiny:  # mmdet's parse_data_info skips them silently
            print_log(f'{tiny} boxes under a pixel left out', logger='current')
        for k in np.flatnonzero(~boxes.bad):
            ann, box = anns[k], clipped[k]
            clean = {
                **ann,
                'bbox': box,
                'category_id': labels[ann['category_id']],
            }
            by_image[ann['image_id']].append(clean)
        return by_image
