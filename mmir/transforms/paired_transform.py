"""Make transforms for single images work on paired samples."""

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any

import cv2
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
_OPAQUE = (str, bytes, int, float, type, FunctionType, ModuleType, np.ndarray)
# Under these names mmdet and mmseg ask a transform which samples to mix in.
_MIXERS = ('get_indexes', 'get_indices')
# Transforms of the hosts that move pixels, those that leave no other trace included.
_MOVERS = {
    'CenterCrop', 'CopyPaste', 'CutHeight', 'EfficientNetCenterCrop', 'Expand',
    'GeomTransform', 'InstaBoost', 'MinIoURandomCrop', 'MixUp', 'Mosaic',
    'MultiScaleFlipAug', 'Pad', 'RandomAffine', 'RandomCenterCropPad',
    'RandomChoiceResize', 'RandomCrop', 'RandomFlip', 'RandomMosaic', 'RandomResize',
    'RandomResizedCrop', 'RandomResizedCropAndInterpolationWithTwoPic', 'RandomRotFlip',
    'RandomRotate', 'RandomShift', 'RandomTranslatePad', 'Resize', 'ResizeEdge',
    'ResizeShortestEdge', 'ResizeToMultiple', 'Rotate', 'Shear', 'TestTimeAug',
    'Translate',
}  # fmt: skip


class CannotReplayError(TypeError):
    """A transform draws random numbers that cannot be drawn again for a partner."""


@TRANSFORMS.register_module()
class PairedTransform(BaseTransform):
    """Apply transforms for single images to every modality, in the very same way.

    Each modality starts from the same state of the random generators of Python, numpy
    and torch and sees the same labels, so it is cropped, flipped and mixed alike; one
    copy of the labels is kept. The result of a modality equals that of the stock
    transforms alone on this image and the labels.

    Works for transforms that draw from the global generators: those of mmcv, mmdet
    (mixing ones such as `Mosaic` within `MultiImageMixDataset` too), mmseg and
    mmpretrain. One with a private generator or a cache of samples of its own, such as
    `CachedMosaic`, is refused. What changes colours means RGB most often:
    `OnModality('rgb', ...)`.

    A modality of one channel is shown to the transforms as three equal channels, as the
    hosts load grey files, and the first is kept. In a mixture a modality is absent
    where any sample lacks it, unless no modality were left: then those are absent which
    the first sample lacks, and the rest has black parts.

    Required keys: those of :class:`LoadPairedImages`, and the transform's own.
    Changed keys: imgs, and what the transform changes.

    Args:
        transforms (dict | Callable | Sequence): A transform, or several; the config key
            is the same. Several in one are faster than one each.

    Raises:
        ValueError: A mixing transform is not alone, or a transform is a paired one.
        CannotReplayError: A transform cannot be replayed, or drew another number of
            random values for another modality.
        PairError: The sample is not paired, its images differ in size, its modalities
            are not those of a sample to mix in, or a transform left no image or
            squeezed one of more than 8 bits into 8.
    """

    def __init__(self, transforms: dict | Callable | Sequence[dict | Callable]) -> None:
        self.transforms = _built(transforms)
        for transform in self.transforms:
            refuse_private_state(transform)
            for _, held in _held(transform):
                if isinstance(held, PairedTransform | OnModality):
                    raise ValueError(
                        f'PairedTransform: {type(held).__name__} takes paired samples; '
                        'put it beside PairedTransform, not inside'
                    )
        mixers = [t for t in self.transforms if any(hasattr(t, m) for m in _MIXERS)]
        if mixers and len(self.transforms) > 1:
            raise ValueError(
                f'PairedTransform: {type(mixers[0]).__name__} mixes samples and '
                'needs a PairedTransform of its own'
            )

    def __getattr__(self, name: str) -> Any:
        """Choose samples to mix in as the transform inside does, if it does."""
        # looked up each time: stored, it could not be pickled for worker processes
        for transform in self.__dict__.get('transforms', ()):
            if name in _MIXERS and hasattr(transform, name):
                return getattr(transform, name)
        raise AttributeError(f'{type(self).__name__} has no attribute {name!r}')

    def transform(self, results: dict) -> dict | None:
        """Transform all modalities and the labels.

        Args:
            results (dict): A paired sample; with `mix_results`, a list of such.

        Returns:
            dict | None: The sample, None where a transform returned None.
        """
        mixed = results.get(_MIXED, ())
        for sample in (results, *mixed):
            _require_pair(sample)
            require_one_size(sample)
        names = results[MODALITIES]
        for sample in mixed:
            if tuple(sample[MODALITIES]) != tuple(names):
                raise PairError(
                    f'PairedTransform: a sample to mix in has the modalities '
                    f'{sample[MODALITIES]}, not {names}'
                )
        before, after, views, shown = _random_state(), None, {}, {}
        for k, name in enumerate(names):
            if k:
                _restore(before)
            # transforms change labels in place: the last gets the sample's own
            view = _view(results, name, own=k == len(names) - 1)
            shown[name] = view['img']
            for transform in self.transforms:
                view = transform(view)
                if view is None:
                    return None
            views[name] = view
            state = _random_state() if len(names) > 1 else None
            if k and not _same_state(after, state):
                raise CannotReplayError(
                    f'PairedTransform: {self._inside()} drew other random numbers for '
                    f'{name!r} than for {names[0]!r}: it depends on the values of the '
                    'image. Use OnModality for it'
                )
            after = state
        return self._joined(results, views, shown)

    def _joined(self, results: dict, views: dict, shown: dict) -> dict:
        """One sample from the views: their images, the labels of the last."""
        names = results[MODALITIES]
        joined = dict(views[names[-1]])
        imgs = {
            name: self._image(views[name], name, results[IMAGES][name])
            for name in names
        }
        gone = set(results.get(ABSENT, ()))
        if any(views[name]['img'] is not shown[name] for name in names):  # mixed indeed
            parts = (sample.get(ABSENT, ()) for sample in results.get(_MIXED, ()))
            union = gone.union(*parts)
            gone = gone if union >= set(names) else union
        for name in gone:
            imgs[name] = np.zeros_like(imgs[name])
        for key in ('img', _MIXED):
            joined.pop(key, None)
        for key in (MODALITIES, PATHS, 'img_path'):
            if key in results:
                joined[key] = results[key]
        joined[IMAGES] = imgs
        joined[ABSENT] = tuple(name for name in names if name in gone)
        require_one_size(joined)
        return joined

    def _image(self, view: Mapping, name: str, before: np.ndarray) -> np.ndarray:
        """The image of a transformed view, with the channels it had before."""
        img = view.get('img')
        if not isinstance(img, np.ndarray) or img.ndim not in (2, 3):
            raise PairError(
                f'PairedTransform: {self._inside()} left no image of {name!r}. What '
                'packs a sample or makes several of it goes outside, around or behind '
                'PairedTransform'
            )
        if img.dtype == np.uint8 and before.dtype != np.uint8:
            raise PairError(
                f'PairedTransform: {self._inside()} turned the {before.dtype} image of '
                f'{name!r} into uint8, which loses its values. Convert it before, such '
                f"as by OnModality({name!r}, dict(type='ThermalToUint8')), or leave "
                'the transform out'
            )
        if img.dtype == np.int64:  # of CopyPaste; the values are those of the images
            img = img.astype(before.dtype)
        return _with_channels(img, before.shape[2])

    def _inside(self) -> str:
        """Names of the transforms."""
        return ', '.join(type(t).__name__ for t in self.transforms)

    def __repr__(self) -> str:
        """Show the transforms."""
        return f'{type(self).__name__}({self.transforms})'


@TRANSFORMS.register_module()
class OnModality(BaseTransform):
    """Apply transforms to one modality of a paired sample; the labels stay out of it.

    For what changes values: colours, noise, radiometry. What moves pixels would tear
    the modality from its partners and the labels: the transforms of the hosts that do
    are refused by name, others where they change the size or leave a trace of it.

    A modality of one channel is shown as (H, W) to the transforms of mmir, to others as
    three equal channels, of which the first is kept.

    Required keys: those of :class:`LoadPairedImages`.
    Changed keys: imgs. An absent modality is left alone.

    Args:
        modality (str): Name of the modality.
        transforms (dict | Callable | Sequence): A transform, or several.

    Raises:
        ValueError: A transform moves pixels.
        PairError: The sample has no such modality, or its size or place changed.
    """

    def __init__(
        self, modality: str, transforms: dict | Callable | Sequence[dict | Callable]
    ) -> None:
        self.modality = modality
        self.transforms = _built(transforms)
        for _, held in _held(self.transforms):
            if _MOVERS.intersection(c.__name__ for c in type(held).__mro__):
                raise ValueError(
                    f'OnModality: {type(held).__name__} moves pixels, of {modality!r} '
                    'alone; use PairedTransform'
                )

    def transform(self, results: dict) -> dict | None:
        """Transform the image of the modality.

        Args:
            results (dict): A paired sample.

        Returns:
            dict | None: The sample, None where a transform returned None.
        """
        _require_pair(results)
        if self.modality not in results[IMAGES]:
            raise PairError(
                f'OnModality: there is no modality {self.modality!r}, the sample has '
                f'{results[MODALITIES]}'
            )
        if self.modality in results.get(ABSENT, ()):
            return results
        img = results[IMAGES][self.modality]
        shape = img.shape[:2]
        view = dict(
            img_path=results[PATHS].get(self.modality),
            img_shape=shape,
            ori_shape=results.get('ori_shape', shape),
        )
        for transform in self.transforms:
            own = type(transform).__module__.startswith('mmir.')
            grey = own and img.shape[2] == 1
            before = view | {'img': img[..., 0] if grey else _as_colour(img)}
            view = transform(dict(before))
            if view is None:
                return None
            moved = {'flip', 'scale_factor', 'homography_matrix'} & (
                view.keys() - before.keys()
            )
            if moved or view['img'].shape[:2] != shape:
                raise PairError(
                    f'OnModality: {type(transform).__name__} moves pixels of '
                    f'{self.modality!r} alone; use PairedTransform'
                )
            img = _with_channels(view['img'], img.shape[2])
        return results | {IMAGES: results[IMAGES] | {self.modality: img}}

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
    for owner, held in _held(transform):
        remedy = ''
        if hasattr(held, 'results_cache'):
            owner, reason = type(held).__name__, 'keeps a cache of samples of its own'
            remedy = f' Take {owner.removeprefix("Cached")} instead.'
        elif isinstance(held, _GENERATORS):
            reason = 'has a random generator of its own'
        elif type(held).__module__.startswith(('albu', 'imgaug')):
            library = type(held).__module__.partition('.')[0]
            reason = f'draws from the generator of {library}'
        else:
            continue
        raise CannotReplayError(
            f'PairedTransform: {owner} {reason}, so it cannot do the same to every '
            f'modality.{remedy}'
        )


def _built(transforms: dict | Callable | Sequence[dict | Callable]) -> list[Callable]:
    """Build one transform or several."""
    listed = transforms if isinstance(transforms, Sequence) else [transforms]
    return [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in listed]


def _held(transform: Any) -> Iterator[tuple[str, Any]]:
    """Yield all that a transform is made of, each with the class that holds it."""
    stack, seen = [(type(transform).__name__, transform)], set()
    while stack:
        owner, item = stack.pop()
        if id(item) in seen or isinstance(item, _OPAQUE):
            continue
        seen.add(id(item))
        yield owner, item
        if isinstance(item, list | tuple | set):
            inside = item
        elif isinstance(item, Mapping):
            inside = item.values()
        else:
            owner, inside = type(item).__name__, getattr(item, '__dict__', {}).values()
        stack.extend((owner, value) for value in inside)


def _view(results: dict, name: str, own: bool) -> dict:
    """The sample as a transform for single images sees it."""
    view = {key: value for key, value in results.items() if key not in _OWN}
    mixed = view.pop(_MIXED, None)
    if not own:
        view = copy.deepcopy(view)
    view['img'] = _as_colour(results[IMAGES][name])
    view['img_path'] = results[PATHS].get(name)
    if mixed is not None:
        view[_MIXED] = [_view(sample, name, own) for sample in mixed]
    return view


def _as_colour(img: np.ndarray) -> np.ndarray:
    """An image of one channel three times over."""
    return cv2.merge([img] * 3) if img.shape[2] == 1 else img


def _with_channels(img: np.ndarray, channels: int) -> np.ndarray:
    """Back to (H, W, channels)."""
    if img.ndim == 3 and channels == 1 < img.shape[2]:
        img = cv2.extractChannel(img, 0)
    return img[..., None] if img.ndim == 2 else img


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
