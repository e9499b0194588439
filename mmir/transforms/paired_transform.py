"""Make transforms for single images work on paired samples."""

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from mmir.structures import (
    ABSENT,
    IMAGES,
    MODALITIES,
    PATHS,
    PairError,
    is_paired,
    require_one_size,
)

_MIXED = 'mix_results'
_OWN = (MODALITIES, IMAGES, PATHS, ABSENT)
_GENERATORS = (
    np.random.Generator,
    np.random.RandomState,
    random.Random,
    torch.Generator,
)
# Under these names mmdet and mmseg ask a transform which samples to mix in.
_MIXERS = ('get_indexes', 'get_indices')


class CannotReplayError(TypeError):
    """A transform draws random numbers that cannot be drawn again for a partner."""


@TRANSFORMS.register_module()
class PairedTransform(BaseTransform):
    """Apply transforms for single images to every modality, in the very same way.

    Each modality starts from the same state of the random generators of Python, numpy
    and torch and sees the same labels, so it is cropped, flipped and mixed alike; one
    copy of the labels is kept. The result of a modality equals that of the stock
    transform alone on this image and the labels.

    Works for transforms that draw from the global generators: those of mmcv, mmdet
    (mixing ones such as `Mosaic` within `MultiImageMixDataset` too), mmseg and
    mmpretrain. One with a private generator or a cache of samples of its own, such as
    `CachedMosaic`, is refused. What changes colours means RGB most often:
    `OnModality('rgb', ...)`.

    Required keys: those of :class:`LoadPairedImages`, and the transform's own.
    Changed keys: imgs, and what the transform changes.

    Args:
        transforms (dict | Callable | Sequence): A transform, or several; the config key
            is the same.

    Raises:
        CannotReplayError: A transform cannot be replayed, or drew another number of
            random values for another modality.
        PairError: The sample is not paired, or its images differ in size.
    """

    def __init__(self, transforms: dict | Callable | Sequence[dict | Callable]) -> None:
        listed = transforms if isinstance(transforms, Sequence) else [transforms]
        self.transforms = [
            TRANSFORMS.build(t) if isinstance(t, dict) else t for t in listed
        ]
        for transform in self.transforms:
            refuse_private_state(transform)
        mixers = [
            (t, key) for t in self.transforms for key in _MIXERS if hasattr(t, key)
        ]
        if mixers and len(self.transforms) > 1:
            raise ValueError(
                f'PairedTransform: {type(mixers[0][0]).__name__} mixes samples and '
                'needs a PairedTransform of its own'
            )
        for transform, key in mixers:
            setattr(self, key, getattr(transform, key))

    def transform(self, results: dict) -> dict | None:
        """Transform all modalities and the labels.

        Args:
            results (dict): A paired sample; with `mix_results`, a list of such.

        Returns:
            dict | None: The sample, None where a transform returned None.
        """
        for transform in self.transforms:
            results = _replayed(transform, results)
            if results is None:
                return None
        return results

    def __repr__(self) -> str:
        """Show the transforms."""
        return f'{type(self).__name__}({self.transforms})'


@TRANSFORMS.register_module()
class OnModality(BaseTransform):
    """Apply transforms to one modality of a paired sample; the labels stay out of it.

    For what changes values: colours, noise, radiometry. What moves pixels would tear
    the modality from its partners and the labels, and is refused when it is seen.

    Required keys: those of :class:`LoadPairedImages`.
    Changed keys: imgs. An absent modality is left alone.

    Args:
        modality (str): Name of the modality.
        transforms (dict | Callable | Sequence): A transform, or several.

    Raises:
        PairError: The sample has no such modality, or its size or place changed.
    """

    def __init__(
        self, modality: str, transforms: dict | Callable | Sequence[dict | Callable]
    ) -> None:
        listed = transforms if isinstance(transforms, Sequence) else [transforms]
        self.modality = modality
        self.transforms = [
            TRANSFORMS.build(t) if isinstance(t, dict) else t for t in listed
        ]

    def transform(self, results: dict) -> dict:
        """Transform the image of the modality.

        Args:
            results (dict): A paired sample.

        Returns:
            dict: The sample.
        """
        _require_pair(results)
        if self.modality not in results[IMAGES]:
            raise PairError(
                f'OnModality: there is no modality {self.modality!r}, the sample has '
                f'{results[MODALITIES]}'
            )
        if self.modality in results.get(ABSENT, ()):
            return results
        before = results[IMAGES][self.modality]
        view = dict(
            img=_as_stock(before),
            img_path=results[PATHS].get(self.modality),
            img_shape=before.shape[:2],
            ori_shape=results.get('ori_shape', before.shape[:2]),
        )
        for transform in self.transforms:
            known = view.keys()
            view = transform(dict(view))
            moved = {'flip', 'scale_factor', 'homography_matrix'} & (
                view.keys() - known
            )
            if moved or view['img'].shape[:2] != before.shape[:2]:
                raise PairError(
                    f'OnModality: {type(transform).__name__} moves pixels of '
                    f'{self.modality!r} alone; use PairedTransform'
                )
        imgs = dict(results[IMAGES])
        imgs[self.modality] = _with_channels(view['img'], before.shape[2])
        return results | {IMAGES: imgs}

    def __repr__(self) -> str:
        """Show modality and transforms."""
        return f'{type(self).__name__}({self.modality!r}, {self.transforms})'


def refuse_private_state(transform: Any) -> None:
    """Raise if a transform cannot be replayed from the global random generators.

    Args:
        transform (Any): A transform; those inside it are looked at too.

    Raises:
        CannotReplayError: It has a random generator or a cache of its own, or comes
            from a library that has.
    """
    for inner in _nested(transform):
        name = type(inner).__name__
        if hasattr(inner, 'results_cache'):
            reason = 'keeps a cache of samples of its own'
            remedy = f' Take {name.removeprefix("Cached")} instead.'
        elif any(isinstance(v, _GENERATORS) for v in _attributes(inner)):
            reason, remedy = 'has a random generator of its own', ''
        elif any(type(v).__module__.startswith('albu') for v in _attributes(inner)):
            reason, remedy = 'draws from the generator of albumentations', ''
        else:
            continue
        raise CannotReplayError(
            f'PairedTransform: {name} {reason}, so it cannot do the same to every '
            f'modality.{remedy}'
        )


def _attributes(transform: Any) -> list:
    return list(getattr(transform, '__dict__', {}).values())


def _nested(transform: Any) -> Iterator[Any]:
    """Yield a transform and those in its attributes, lists of them too."""
    yield transform
    for value in _attributes(transform):
        children = value if isinstance(value, list | tuple) else [value]
        while any(isinstance(child, list | tuple) for child in children):
            children = [
                leaf
                for child in children
                for leaf in (child if isinstance(child, list | tuple) else [child])
            ]
        for child in children:
            if isinstance(child, BaseTransform):
                yield from _nested(child)


def _replayed(transform: Callable, results: dict) -> dict | None:
    """Apply one transform to each modality from the same random state."""
    _require_pair(results)
    for sample in results.get(_MIXED, ()):
        _require_pair(sample)
    names = results[MODALITIES]
    before, after, done = _random_state(), None, {}
    for k, name in enumerate(names):
        if k:
            _restore(before)
        # transforms change labels in place: the last modality gets the sample's own
        done[name] = transform(_view(results, name, own=k == len(names) - 1))
        state = _random_state() if len(names) > 1 else None
        if k and not _same_state(after, state):
            raise CannotReplayError(
                f'PairedTransform: {type(transform).__name__} drew other random '
                f'numbers for {name!r} than for {names[0]!r}: it depends on the values '
                'or channels of the image. Use OnModality for it'
            )
        after = state
    if any(view is None for view in done.values()):
        return None
    return _joined(results, done)


def _view(results: dict, name: str, own: bool, part: bool = False) -> dict:
    """The sample as a transform for single images sees it; `part` of a mixture."""
    view = {key: value for key, value in results.items() if key not in _OWN}
    mixed = view.pop(_MIXED, None)
    if not own:
        view = copy.deepcopy(view)
    img = results[IMAGES][name]
    # mixing transforms take three channels for granted
    view['img'] = _as_stock(img) if mixed is None and not part else _as_colour(img)
    view['img_path'] = results[PATHS].get(name)
    if mixed is not None:
        view[_MIXED] = [_view(sample, name, own, part=True) for sample in mixed]
    return view


def _joined(results: dict, done: dict[str, dict]) -> dict:
    """One sample from the transformed views: their images, the labels of the last."""
    gone = {
        name
        for sample in (results, *results.get(_MIXED, ()))
        for name in sample.get(ABSENT, ())
    }
    imgs = {
        name: _with_channels(view['img'], results[IMAGES][name].shape[2])
        for name, view in done.items()
    }
    for name in gone:
        imgs[name] = np.zeros_like(imgs[name])
    joined = dict(done[results[MODALITIES][-1]])
    joined.pop('img')
    joined.pop(_MIXED, None)
    for key in (MODALITIES, PATHS):
        joined[key] = results[key]
    if 'img_path' in results:
        joined['img_path'] = results['img_path']
    joined[IMAGES] = imgs
    joined[ABSENT] = tuple(name for name in imgs if name in gone)
    require_one_size(joined)
    return joined


def _as_stock(img: np.ndarray) -> np.ndarray:
    """An image of one channel as (H, W), as the hosts load and mix grey images."""
    return img[..., 0] if img.shape[2] == 1 else img


def _as_colour(img: np.ndarray) -> np.ndarray:
    """An image of one channel three times over."""
    return np.repeat(img, 3, axis=2) if img.shape[2] == 1 else img


def _with_channels(img: np.ndarray, channels: int) -> np.ndarray:
    """Back to (H, W, channels)."""
    img = img[..., None] if img.ndim == 2 else img
    return img[..., :1] if channels == 1 else img


def _require_pair(results: Mapping) -> None:
    if not is_paired(results):
        raise PairError(
            'this is no paired sample: mmir.LoadPairedImages must come first; it has '
            f'the keys {sorted(results)}'
        )


def _random_state() -> tuple:
    """State of the global random generators."""
    # the hosts draw from numpy's global generator, so this is the one to replay
    numpy_state = np.random.get_state()  # noqa: NPY002
    return random.getstate(), numpy_state, torch.get_rng_state()


def _restore(state: tuple) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    torch.set_rng_state(state[2])


def _same_state(one: tuple, other: tuple) -> bool:
    """Compare two states of the generators."""
    numpy_one, numpy_other = one[1], other[1]
    return (
        one[0] == other[0]
        and numpy_one[2:] == numpy_other[2:]
        and np.array_equal(numpy_one[1], numpy_other[1])
        and torch.equal(one[2], other[2])
    )
