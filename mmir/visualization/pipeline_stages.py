"""Samples of a dataset at each stage of its pipeline, from loaded to packed."""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from mmengine.config import Config

from mmir.data.wrappers import inner_datasets, leaf_datasets
from mmir.structures import IMAGES, is_paired
from mmir.utils.errors import UserError

SINGLE = 'image'
"""Key of the image of a sample that is not paired."""

# Loading, radiometry and registration, which apply to every image wherever they are in
# the pipeline. The rest is augmentation, resizing and packing.
_LOADING = ('Load', 'ThermalTo', 'RadiometricScale', 'RegisterModality')


def build_dataset(cfg: Config, split: str) -> Any:
    """Build the dataset of a split in the default scope of the config.

    Args:
        cfg (Config): Config of mmdet, mmseg or mmpretrain.
        split (str): 'train', 'val' or 'test'.

    Returns:
        The dataset.

    Raises:
        UserError: The config has no such split.
        FileNotFoundError: Its data is not found.
    """
    from mmengine.registry import DATASETS, init_default_scope

    key = f'{split}_dataloader'
    if not cfg.get(key):
        given = [
            name for name in ('train', 'val', 'test') if f'{name}_dataloader' in cfg
        ]
        raise UserError(f'the config has no {key}; it has splits {given}')
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    return DATASETS.build(cfg[key].dataset)


def pipelines(dataset: Any) -> Iterator[list]:
    """Yield the pipelines of a dataset and of those it wraps, innermost first.

    Args:
        dataset (Any): Dataset of mmengine or a host, wrapped or not.

    Yields:
        list: The transforms; this is the list object that the dataset uses.
    """
    for inner in inner_datasets(dataset):
        yield from pipelines(inner)
    pipeline = getattr(dataset, 'pipeline', None)
    if pipeline is not None:
        yield getattr(pipeline, 'transforms', pipeline)


def is_loading(transform: Any) -> bool:
    """Tell whether a transform loads images or labels, or scales or registers images.

    Args:
        transform (Any): A built transform.

    Returns:
        bool: False for transforms that augment, resize or pack.
    """
    name = type(transform).__name__
    if name == 'OnModality':
        return all(is_loading(inner) for inner in transform.transforms)
    return name.startswith(_LOADING)


def load(results: Mapping, transforms: list) -> dict | None:
    """Run only the loading transforms of a pipeline.

    Args:
        results (Mapping): Data info of one sample; not modified.
        transforms (list): Pipeline of a dataset.

    Returns:
        dict | None: The sample as loaded, None if a transform skipped it.
    """
    found: dict | None = copy.deepcopy(dict(results))
    for transform in transforms:
        if is_loading(transform):
            found = transform(found)
            if found is None:
                return None
    return found


def images_of(results: Mapping) -> dict[str, np.ndarray]:
    """Get the images of a sample in a pipeline.

    Args:
        results (Mapping): Paired sample, or one with `img`.

    Returns:
        dict[str, np.ndarray]: Modality -> (H, W, C); :data:`SINGLE` for `img`.

    Raises:
        UserError: The sample has no image.
    """
    if is_paired(results):
        return dict(results[IMAGES])
    if 'img' not in results:
        raise UserError(
            'the pipeline loads no image: it has no transform whose name starts with '
            f'Load; the sample has {sorted(results)}'
        )
    img = results['img']
    return {SINGLE: img[..., None] if img.ndim == 2 else img}


class LoadedSamples:
    """Samples of a dataset as loaded, before augmentation and resizing.

    Args:
        dataset (Any): Dataset of mmengine or a host, wrapped or not.

    Attributes:
        metainfo (dict): Metainfo of the dataset.
        transforms (list[str]): Names of the transforms that are run.

    Raises:
        UserError: The dataset is not built from mmengine datasets.
    """

    def __init__(self, dataset: Any) -> None:
        self.leaves = list(leaf_datasets(dataset))
        for leaf in self.leaves:
            if not hasattr(leaf, 'get_data_info'):
                raise UserError(
                    f'{type(leaf).__name__} is not an mmengine dataset: it has no '
                    'get_data_info'
                )
        self.metainfo = dict(self.leaves[0].metainfo)
        self._ends = np.cumsum([len(leaf) for leaf in self.leaves])
        self.transforms = list(
            dict.fromkeys(
                transform_name(transform)
                for leaf in self.leaves
                for transform in leaf.pipeline.transforms
                if is_loading(transform)
            )
        )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def info(self, index: int) -> dict:
        """Get the data info of a sample: files and labels.

        Args:
            index (int): Index of the sample across the inner datasets.

        Returns:
            dict: The input of the dataset's pipeline.
        """
        return self._at(index)[0]

    def __getitem__(self, index: int) -> dict | None:
        info, transforms = self._at(index)
        return load(info, transforms)

    def _at(self, index: int) -> tuple[dict, list]:
        """Get the data info of a sample and its pipeline."""
        part = int(np.searchsorted(self._ends, index, side='right'))
        leaf = self.leaves[part]
        start = self._ends[part] - len(leaf)
        return leaf.get_data_info(index - start), leaf.pipeline.transforms


class Steps:
    """Record the output of each transform of a dataset.

    Args:
        dataset (Any): The dataset. Its transforms are wrapped in place, so build it
            only for this purpose.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.seen: dict[int, tuple[str, dict]] = {}
        for transforms in pipelines(dataset):
            transforms[:] = [_Recorded(transform, self) for transform in transforms]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> list[tuple[str, dict]]:
        """Fetch a sample.

        Args:
            index (int): Index of the sample.

        Returns:
            list[tuple[str, dict]]: Name of each transform and a copy of its output, in
            pipeline order; samples mixed in are left out.
        """
        self.seen = {}
        self.dataset[index]
        return list(self.seen.values())


class _Recorded:
    """A transform that keeps a copy of its first output."""

    def __init__(self, transform: Callable, steps: Steps) -> None:
        self.transform, self.steps = transform, steps

    def __call__(self, results: dict) -> dict | None:
        results = self.transform(results)
        # mixing fetches more samples; the requested one comes first
        if results is not None and id(self) not in self.steps.seen:
            copied = copy.deepcopy(results)
            self.steps.seen[id(self)] = (transform_name(self.transform), copied)
        return results

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__['transform'], name)


def transform_name(transform: Any) -> str:
    """Get the name of a transform, including those it wraps.

    Args:
        transform (Any): A built transform.

    Returns:
        str: Such as 'PairedTransform(Resize, RandomFlip)'.
    """
    inner = getattr(transform, 'transforms', ())
    name = type(transform).__name__
    listed = inner if isinstance(inner, list | tuple) else [inner]
    names = ', '.join(transform_name(part) for part in listed)
    if names and isinstance(getattr(transform, 'modality', None), str):
        names = f'{transform.modality}: {names}'
    return f'{name}({names})' if names else name
