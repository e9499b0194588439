"""Samples of a dataset at the stages of its pipeline: as loaded, in between, packed."""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from mmengine.config import Config

from mmir.data.wrappers import inner_datasets, leaf_datasets
from mmir.structures import IMAGES, is_paired
from mmir.utils.errors import UserError

SINGLE = 'image'
"""Name of the only image of a sample that is not paired."""

# Reading, radiometry and registration: what is done to every image alike, whatever the
# place in the pipeline. The rest is augmentation, resizing and packing.
_LOADING = ('Load', 'ThermalTo', 'RadiometricScale', 'RegisterModality')


def build_dataset(cfg: Config, split: str) -> Any:
    """Build the dataset of a split with the registries of the config's scope.

    Args:
        cfg (Config): Config of mmdet, mmseg or mmpretrain.
        split (str): 'train', 'val' or 'test'.

    Returns:
        The dataset.

    Raises:
        UserError: The config has no such split.
        FileNotFoundError: Its data is not there.
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
    """Find the transforms of a dataset and of those it wraps, innermost first.

    Args:
        dataset (Any): Dataset of mmengine or a host, wrapped or not.

    Yields:
        list: The transforms, the very list the dataset uses.
    """
    for inner in inner_datasets(dataset):
        yield from pipelines(inner)
    pipeline = getattr(dataset, 'pipeline', None)
    if pipeline is not None:
        yield getattr(pipeline, 'transforms', pipeline)


def is_loading(transform: Any) -> bool:
    """Tell whether a transform reads, scales or registers images or reads labels.

    Args:
        transform (Any): A built transform.

    Returns:
        bool: False for those that augment, resize or pack.
    """
    name = type(transform).__name__
    if name == 'OnModality':
        return all(is_loading(inner) for inner in transform.transforms)
    return name.startswith(_LOADING)


def load(results: Mapping, transforms: list) -> dict | None:
    """Run the loading transforms among others.

    Args:
        results (Mapping): Data information of one sample; not changed.
        transforms (list): Pipeline of a dataset.

    Returns:
        dict | None: The sample as loaded, None where a transform skipped it.
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
        UserError: There is no image in it.
    """
    if is_paired(results):
        return dict(results[IMAGES])
    if 'img' not in results:
        raise UserError(
            'the pipeline loads no image: it has no transform whose name begins with '
            f'Load; the sample has {sorted(results)}'
        )
    img = results['img']
    return {SINGLE: img[..., None] if img.ndim == 2 else img}


class LoadedSamples:
    """Samples of a dataset as loaded, before anything augments or resizes them.

    Args:
        dataset (Any): Dataset of mmengine or a host, wrapped or not.

    Attributes:
        metainfo (dict): That of the dataset.
        transforms (list[str]): Names of the transforms that are run.

    Raises:
        UserError: The dataset does not consist of datasets of mmengine.
    """

    def __init__(self, dataset: Any) -> None:
        self.leaves = list(leaf_datasets(dataset))
        for leaf in self.leaves:
            if not hasattr(leaf, 'get_data_info'):
                raise UserError(
                    f'{type(leaf).__name__} is no dataset of mmengine: it has no '
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
        """Get the data information of a sample: files and labels.

        Args:
            index (int): Number of the sample, across the datasets inside.

        Returns:
            dict: What the dataset's own pipeline starts from.
        """
        return self._at(index)[0]

    def __getitem__(self, index: int) -> dict | None:
        info, transforms = self._at(index)
        return load(info, transforms)

    def _at(self, index: int) -> tuple[dict, list]:
        """Data information of a sample and the pipeline it goes through."""
        part = int(np.searchsorted(self._ends, index, side='right'))
        leaf = self.leaves[part]
        start = self._ends[part] - len(leaf)
        return leaf.get_data_info(index - start), leaf.pipeline.transforms


class Steps:
    """Records what each transform of a dataset makes of a sample.

    Args:
        dataset (Any): The dataset; its transforms are wrapped in place, so it is to be
            built for this only.
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
            index (int): Number of the sample.

        Returns:
            list[tuple[str, dict]]: Name of a transform and a copy of what it returned,
            in the order of the pipeline; samples mixed in are left out.
        """
        self.seen = {}
        self.dataset[index]
        return list(self.seen.values())


class _Recorded:
    """A transform that keeps a copy of what it returned first."""

    def __init__(self, transform: Callable, steps: Steps) -> None:
        self.transform, self.steps = transform, steps

    def __call__(self, results: dict) -> dict | None:
        results = self.transform(results)
        # mixing fetches more samples; the one asked for comes first
        if results is not None and id(self) not in self.steps.seen:
            copied = copy.deepcopy(results)
            self.steps.seen[id(self)] = (transform_name(self.transform), copied)
        return results

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__['transform'], name)


def transform_name(transform: Any) -> str:
    """Name a transform, and those inside a wrapper of transforms.

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
