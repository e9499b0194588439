"""Load images of several cameras as one paired sample."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Literal

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log
from mmengine.registry import TRANSFORMS

from mmir.data.images import ImageReadError
from mmir.data.pairing import PairRule
from mmir.structures import (
    ABSENT,
    IMAGES,
    MODALITIES,
    PATHS,
    REFERENCE,
    PairedResults,
    PairError,
    modality_order,
    require_one_size,
)

from .loading import LoadThermalImage

_RULE = tuple(field.name for field in fields(PairRule))
_CHOICES = {
    'sizes': ('equal', 'resize', 'any'),
    'missing': ('raise', 'absent'),
    'on_error': ('raise', 'skip'),
}


@TRANSFORMS.register_module()
class LoadPairedImages(BaseTransform):
    """Load one image per modality.

    The files are those in `img_paths` if the dataset sets that key. Otherwise
    `img_path` is the file of the reference, and the others are derived by their rules.

    Required keys: img_path or img_paths; height and width if the annotation has them;
    reference if the dataset sets it.
    Added keys: modalities, imgs (name -> (H, W, channels)), img_paths, absent, and
    img_shape and ori_shape of the reference.
    Removed keys: img.

    Args:
        modalities (Mapping[str, Mapping]): Name -> how to load it: `channels`,
            `bit_depth`, `to_float32`, `planes` as in :class:`LoadThermalImage`, and
            the rule `folder`, `prefix`, `stem`, `suffix` of
            :class:`mmir.data.pairing.PairRule`. Channels are ordered by
            :func:`mmir.structures.modality_order`. The preprocessor takes the number of
            channels from here. Default: `rgb` and `ir`, 3 channels of 8 bits each.
        reference (str, optional): Modality that the labels and `img_path` belong to.
            Default: the one the dataset names (mmir's do), else the first modality,
            which is `rgb` if present.
        sizes (str): What to do with images whose size differs from the reference:
            'equal' refuses them; 'resize' scales them (for cameras that show the same
            view at different resolutions); 'any' leaves them for a transform that
            registers them.
        missing (str): What to do if the file of another modality does not exist:
            'raise', or 'absent' to continue without it. A path of None always means
            absent.
        on_error (str): What to do with images that cannot be read or do not match:
            'raise', or 'skip' to warn, count in `skipped` and return None, for which
            mmengine's training datasets fetch another sample.
        backend_args (dict, optional): Arguments of mmengine's file backend.

    Raises:
        ValueError: An option has an unknown value, or `reference` contradicts the
            dataset.
        KeyError: Neither the sample nor a rule names the file of a modality.
        ImageReadError: A file is missing, truncated or of another bit depth, the size
            of the reference differs from the annotation, or all modalities are missing.
        PairError: The images differ in size.
    """

    def __init__(
        self,
        modalities: Mapping[str, Mapping] | None = None,
        reference: str | None = None,
        sizes: Literal['equal', 'resize', 'any'] = 'equal',
        missing: Literal['raise', 'absent'] = 'raise',
        on_error: Literal['raise', 'skip'] = 'raise',
        backend_args: dict | None = None,
    ) -> None:
        given = dict(sizes=sizes, missing=missing, on_error=on_error)
        for key, value in given.items():
            if value not in _CHOICES[key]:
                raise ValueError(
                    f'LoadPairedImages: {key} must be one of {_CHOICES[key]}, got '
                    f'{value!r}'
                )
        rows = {'rgb': {}, 'ir': {}} if modalities is None else dict(modalities)
        if not rows:
            raise ValueError('LoadPairedImages: modalities needs at least one modality')
        self.modalities = modality_order(rows)
        self.reference = reference
        if reference is not None and reference not in rows:
            raise ValueError(
                f'LoadPairedImages: reference {self.reference!r} is not one of the '
                f'modalities {self.modalities}'
            )
        self.rules, self.loaders = {}, {}
        for name, row in rows.items():
            options = dict(row)
            rule = {key: options.pop(key) for key in _RULE if key in options}
            self.rules[name] = PairRule(**rule)
            self.loaders[name] = LoadThermalImage(**options, backend_args=backend_args)
        self.sizes, self.missing, self.on_error = sizes, missing, on_error
        self.skipped = 0

    def transform(self, results: dict) -> dict | None:
        """Load the images.

        Args:
            results (dict): Data info of one sample.

        Returns:
            dict | None: The sample, None if it was skipped.
        """
        paths = self.paths(results)
        try:
            imgs = {
                name: self._load(name, path, results) for name, path in paths.items()
            }
            return self._finish(results, paths, imgs)
        except (ImageReadError, PairError) as error:
            if self.on_error == 'raise':
                raise
            self.skipped += 1
            print_log(
                f'skipped sample {self.skipped} of this worker: {error}',
                logger='current',
                level=30,  # logging.WARNING
            )
            return None

    def reference_of(self, results: Mapping) -> str:
        """Get the modality that the labels and `img_path` of a sample belong to.

        Args:
            results (Mapping): Data info, with `reference` if the dataset sets it.

        Returns:
            str: Name of the modality.

        Raises:
            ValueError: The dataset names another one than the option of this transform.
        """
        known = results.get(REFERENCE)
        if known not in self.modalities:  # not set, or that camera is not loaded
            return self.reference or self.modalities[0]
        if self.reference not in (None, known):
            raise ValueError(
                f'LoadPairedImages: reference={self.reference!r}, but the dataset says '
                f'that the labels of {results.get("img_path", "the sample")} belong to '
                f'{known!r}: leave reference out'
            )
        return known

    def paths(self, results: Mapping) -> dict[str, str | None]:
        """Get the files of a sample.

        Args:
            results (Mapping): Data info with `img_paths` or `img_path`.

        Returns:
            dict[str, str | None]: Modality -> path, None where there is none.
        """
        given = dict(results.get(PATHS) or {})
        reference = self.reference_of(results)
        if reference not in given and results.get('img_path'):
            given[reference] = results['img_path']
        for name in self.modalities:
            # without a rule or planes it would be the reference image itself
            derived = self.rules[name] != PairRule() or self.loaders[name].planes
            if name not in given and given.get(reference) and derived:
                given[name] = self.rules[name](given[reference])
        lacking = [name for name in self.modalities if name not in given]
        if lacking:
            raise KeyError(
                f'LoadPairedImages: the sample has no img_paths for {lacking}, and no '
                f'img_path with a rule ({", ".join(_RULE)} or planes of modalities) '
                f'to derive them; it has the keys {sorted(results)}'
            )
        return {name: given[name] for name in self.modalities}

    def _load(self, name: str, path: str | None, info: Mapping) -> np.ndarray | None:
        """Load one image; None if the modality is absent."""
        if path is None:
            return None
        sample = {'img_path': path}
        if name == self.reference_of(info):  # the annotation has the size of its image
            sample |= {key: info[key] for key in ('height', 'width') if key in info}
        try:
            return self.loaders[name].transform(sample)['img']
        except ImageReadError as error:
            gone = isinstance(error.__cause__, FileNotFoundError)
            if gone and self.missing == 'absent':
                return None
            raise

    def _finish(self, results: dict, paths: dict, imgs: dict) -> dict:
        """Bring the images to one size and describe the sample."""
        there = {name: img for name, img in imgs.items() if img is not None}
        if not there:
            raise ImageReadError(f'all images of the sample are missing: {paths}')
        reference = self.reference_of(results)
        lead = there.get(reference, next(iter(there.values())))
        shape = lead.shape[:2]
        if reference not in there:  # the labels fit the size of its image
            shape = (results.get('height', shape[0]), results.get('width', shape[1]))
        for name, img in imgs.items():
            loader = self.loaders[name]
            if img is None:
                depth = np.float32 if loader.to_float32 else f'uint{loader.bit_depth}'
                imgs[name] = np.zeros((*shape, loader.channels), depth)
            elif self.sizes == 'resize' and img.shape[:2] != shape:
                scaled = cv2.resize(img, shape[::-1], interpolation=_filter(img, shape))
                imgs[name] = scaled.reshape(*shape, loader.channels)
        found = {
            MODALITIES: self.modalities,
            IMAGES: imgs,
            PATHS: paths,
            ABSENT: tuple(name for name in imgs if name not in there),
        }
        if self.sizes == 'equal':
            require_one_size(found)
        results = PairedResults({**results, **found})
        results.pop('img', None)
        results.setdefault('img_path', paths[reference] or paths[next(iter(there))])
        results['img_shape'] = results['ori_shape'] = shape
        return results

    def __repr__(self) -> str:
        """Show the options."""
        return (
            f'{type(self).__name__}({self.loaders}, rules={self.rules}, '
            f'reference={self.reference!r}, sizes={self.sizes!r}, '
            f'missing={self.missing!r}, on_error={self.on_error!r})'
        )


def _filter(img: np.ndarray, shape: tuple[int, int]) -> int:
    """Interpolation mode: area if the image shrinks, else bilinear."""
    return cv2.INTER_AREA if img.shape[0] > shape[0] else cv2.INTER_LINEAR
