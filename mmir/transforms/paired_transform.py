"""Apply single-image transforms to paired samples."""

import copy
import random
from collections.abc import Callable, Mapping, Sequence
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
    DeepResults,
    PairedResults,
    PairError,
    require_one_size,
    require_pair,
)

from .on_modality import OnModality
from .paired_views import as_color, build_all, held_by, with_channels

_MIXED = 'mix_results'
_OWN = (MODALITIES, IMAGES, PATHS, ABSENT)
_GENERATORS = (
    np.random.Generator,
    np.random.RandomState,
    random.Random,
    torch.Generator,
)
# The names by which mmdet and mmseg ask a transform which samples to mix in.
_MIXERS = ('get_indexes', 'get_indices')


class CannotReplayError(TypeError):
    """A transform whose random draws cannot be replayed for another modality."""


@TRANSFORMS.register_module()
class PairedTransform(BaseTransform):
    """Apply single-image transforms identically to every modality.

    Each modality starts from the same state of the Python, numpy and torch random
    generators and sees the same labels, so it is cropped, flipped and mixed alike. One
    copy of the labels is kept. For each modality, the result equals that of the stock
    transforms applied to this image and the labels alone.

    Works for transforms that draw from the global generators: those of mmcv, mmdet
    (including mixing ones such as `Mosaic` in `MultiImageMixDataset`), mmseg and
    mmpretrain. A transform with its own generator or sample cache, such as
    `CachedMosaic`, is refused. Color transforms usually belong on RGB only: use
    `OnModality('rgb', ...)`.

    A single-channel modality is passed to the transforms as three equal channels, as
    the hosts load grayscale files, and the first is kept. In a mixture, a modality is
    absent if any of the samples lacks it. If that left no modality, only those that the
    first sample lacks are absent, and the rest has black parts.

    Required keys: those of :class:`LoadPairedImages` and of the transforms.
    Changed keys: imgs, and whatever the transforms change.

    Args:
        transforms (dict | Callable | Sequence): One or more transforms. One
            `PairedTransform` with several is faster than one for each.

    Raises:
        ValueError: A mixing transform is not alone, or a transform is itself paired.
        CannotReplayError: A transform cannot be replayed, or drew a different number of
            random values for another modality.
        BitDepthError: A photometric transform of a host was given 16-bit images.
        PairError: The sample is not paired, its images differ in size, a sample to mix
            in has other modalities, or a transform left no image or squeezed one of
            more than 8 bits into 8.
    """

    def __init__(self, transforms: dict | Callable | Sequence[dict | Callable]) -> None:
        self.transforms = build_all(transforms)
        for transform in self.transforms:
            refuse_private_state(transform)
            for _, held in held_by(transform):
                if isinstance(held, PairedTransform | OnModality):
                    raise ValueError(
                        f'PairedTransform: {type(held).__name__} takes paired samples; '
                        'place it next to PairedTransform, not inside'
                    )
        mixers = [t for t in self.transforms if any(hasattr(t, m) for m in _MIXERS)]
        if mixers and len(self.transforms) > 1:
            raise ValueError(
                f'PairedTransform: {type(mixers[0]).__name__} mixes samples and '
                'needs a PairedTransform of its own'
            )

    def __getattr__(self, name: str) -> Any:
        """Forward the choice of samples to mix in to the wrapped transform."""
        # looked up each time: a stored method could not be pickled for workers
        for transform in self.__dict__.get('transforms', ()):
            if name in _MIXERS and hasattr(transform, name):
                return getattr(transform, name)
        raise AttributeError(f'{type(self).__name__} has no attribute {name!r}')

    def transform(self, results: dict) -> dict | None:
        """Transform all modalities and the labels.

        Args:
            results (dict): A paired sample; `mix_results` is a list of such samples.

        Returns:
            dict | None: The sample, None if a transform returned None.
        """
        mixed = results.get(_MIXED, ())
        for sample in (results, *mixed):
            require_pair(sample)
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
            # transforms change labels in place: only the last gets the originals
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
                    f'{name!r} than for {names[0]!r}: it depends on the image values. '
                    'Use OnModality for it'
                )
            after = state
        return self._joined(results, views, shown)

    def _joined(self, results: dict, views: dict, shown: dict) -> dict:
        """Join the views to one sample: all images, the labels of the last view."""
        names = results[MODALITIES]
        joined = PairedResults(views[names[-1]])
        imgs = {
            name: self._image(views[name], name, results[IMAGES][name])
            for name in names
        }
        gone = set(results.get(ABSENT, ()))
        if any(views[name]['img'] is not shown[name] for name in names):  # was mixed
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
        """Get the image of a transformed view, with its original channels."""
        img = view.get('img')
        if not isinstance(img, np.ndarray) or img.ndim not in (2, 3):
            raise PairError(
                f'PairedTransform: {self._inside()} left no image of {name!r}. '
                'Transforms that pack a sample or make several of it go after or '
                'around PairedTransform'
            )
        if img.dtype == np.uint8 and before.dtype != np.uint8:
            raise PairError(
                f'PairedTransform: {self._inside()} turned the {before.dtype} image of '
                f'{name!r} into uint8, which loses its values. Convert it before, for '
                f"example by OnModality({name!r}, dict(type='ThermalToUint8')), or "
                'leave the transform out'
            )
        if img.dtype == np.int64:  # from CopyPaste; the values fit the original dtype
            img = img.astype(before.dtype)
        return with_channels(img, before.shape[2])

    def _inside(self) -> str:
        """Names of the transforms."""
        return ', '.join(type(t).__name__ for t in self.transforms)

    def __repr__(self) -> str:
        """Show the transforms."""
        return f'{type(self).__name__}({self.transforms})'


def refuse_private_state(transform: Any) -> None:
    """Raise if a transform cannot be replayed from the global random generators.

    Args:
        transform (Any): A transform, checked with all transforms inside it.

    Raises:
        CannotReplayError: It has its own random generator or cache, or comes from a
            library that does.
    """
    for owner, held in held_by(transform):
        remedy = ''
        if hasattr(held, 'results_cache'):
            owner, reason = type(held).__name__, 'keeps its own cache of samples'
            remedy = f' Use {owner.removeprefix("Cached")} instead.'
        elif isinstance(held, _GENERATORS):
            reason = 'has its own random generator'
        elif type(held).__module__.startswith(('albu', 'imgaug')):
            library = type(held).__module__.partition('.')[0]
            reason = f'draws from the generator of {library}'
        else:
            continue
        raise CannotReplayError(
            f'PairedTransform: {owner} {reason}, so it cannot be replayed for every '
            f'modality.{remedy}'
        )


def _view(results: dict, name: str, own: bool) -> dict:
    """Get the sample as a single-image transform sees it."""
    view = {key: value for key, value in results.items() if key not in _OWN}
    mixed = view.pop(_MIXED, None)
    if not own:
        view = copy.deepcopy(view)
    view['img'] = as_color(results[IMAGES][name])
    if view['img'].dtype == np.uint16:
        view = DeepResults(view)
    view['img_path'] = results[PATHS].get(name)
    if mixed is not None:
        view[_MIXED] = [_view(sample, name, own) for sample in mixed]
    return view


def _random_state() -> tuple:
    """State of the global random generators."""
    # the hosts draw from numpy's global generator, so it must be replayed
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
