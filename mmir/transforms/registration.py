"""Register the images of a pair."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from mmir.structures import ABSENT, IMAGES, PATHS, PairError
from mmir.transforms.homography import (
    as_homography,
    covered_share,
    plain,
    read_homographies,
    shrink_first,
    warp,
)

from .alignment import image_of


@TRANSFORMS.register_module()
class RegisterModality(BaseTransform):
    """Warp the image of one modality onto that of another by a homography.

    For cameras that differ in position, field of view or resolution. Load them with
    `LoadPairedImages(sizes='any', reference=onto)`, since the labels must belong to the
    image that stays. A homography is exact for cameras in one place or for a flat
    scene. With a baseline between the cameras it fits objects at one distance; others
    show parallax.

    The 3x3 matrix maps a pixel (x, y) of the source to the reference, up to scale, with
    pixel centers at integer coordinates. The first of these that exists is used:

    - the sample's key `homographies` (modality -> matrix)
    - the entry of the image in the JSON file
    - the default matrix

    Required keys: those of :class:`LoadPairedImages`; homographies if set per sample.
    Changed keys: imgs; the warped image takes the size of the reference and keeps its
    dtype and channels. An absent modality becomes zeros of that size.
    Added keys: valid_share, modality -> share of the reference's area that the source
    covers, 0..1.

    Args:
        homography (Sequence | str, optional): Matrix for all images as 3 rows of 3
            numbers, or a JSON file with `default` (such a matrix), `images` (stem of
            the modality's file -> matrix), or both.
        modality (str): Modality to warp.
        onto (str): The reference modality.
        size (tuple[int, int], optional): Width and height of the reference; needed only
            for samples whose reference is absent.
        fill (float): Value of pixels without a source.

    Raises:
        ValueError: A matrix is not 3x3, or is singular or not finite.
        FileNotFoundError: There is no such file.
        AnnotationError: The file is not JSON of that structure.
        PairError: The sample is not paired or lacks a modality; there is no homography
            for it; the homography maps the image out of view or tears it; the labels
            belong to the image that would be warped.
    """

    def __init__(
        self,
        homography: Sequence[Sequence[float]] | str | None = None,
        modality: str = 'rgb',
        onto: str = 'ir',
        size: tuple[int, int] | None = None,
        fill: float = 0,
    ) -> None:
        self.modality, self.onto, self.size, self.fill = modality, onto, size, fill
        self.default, self.by_stem = None, {}
        if isinstance(homography, str):
            self.default, self.by_stem = read_homographies(homography)
        elif homography is not None:
            self.default = as_homography(homography, 'RegisterModality: homography')

    def transform(self, results: dict) -> dict:
        """Warp the image of the modality.

        Args:
            results (dict): A paired sample.

        Returns:
            dict: The sample; the input images are not modified.
        """
        img = image_of(results, self.modality, 'RegisterModality')
        fixed = image_of(results, self.onto, 'RegisterModality')
        self._refuse_labeled(results)
        absent = results.get(ABSENT, ())
        if self.onto in absent and self.size is None:
            raise PairError(
                f'RegisterModality: {self.onto!r} is absent, so its size is unknown; '
                f'set size=(width, height) ({self._files(results)})'
            )
        size = fixed.shape[1::-1] if self.size is None else tuple(self.size)
        imgs, share = dict(results[IMAGES]), 0.0
        if self.onto in absent:
            imgs[self.onto] = np.zeros((*size[::-1], fixed.shape[2]), fixed.dtype)
            results = results | dict(img_shape=size[::-1], ori_shape=size[::-1])
        elif fixed.shape[1::-1] != size:
            raise PairError(
                f'RegisterModality: {self.onto!r} is {fixed.shape[1]}x{fixed.shape[0]},'
                f' not size={size} ({self._files(results)})'
            )
        if self.modality in absent:
            shape = (*size[::-1], img.shape[2])
            imgs[self.modality] = np.zeros(shape, img.dtype)
        else:
            matrix, source = self._matrix(results)
            share = covered_share(matrix, img.shape[1::-1], size, source)
            img, matrix = shrink_first(img, matrix)
            imgs[self.modality] = warp(img, matrix, size, 'constant', self.fill)
        shares = dict(results.get('valid_share', {})) | {self.modality: share}
        return results | {IMAGES: imgs, 'valid_share': shares}

    def _matrix(self, results: Mapping) -> tuple[np.ndarray, str]:
        """Get the homography of a sample, and its name for messages."""
        given = results.get('homographies', {})
        files = self._files(results)
        if self.modality in given:
            source = f'the homography of {self.modality!r} ({files})'
            return as_homography(given[self.modality], source), source
        path = results.get(PATHS, {}).get(self.modality)
        stem = PurePath(path).stem if path else None
        matrix = self.by_stem.get(stem, self.default)
        if matrix is None:
            raise PairError(
                f'RegisterModality: no homography for {self.modality!r} ({files}): '
                "neither in the sample's key 'homographies', nor under the image's "
                "stem or as default in 'homography'"
            )
        return matrix, f'the homography of {self.modality!r} ({files})'

    def _refuse_labeled(self, results: Mapping) -> None:
        """Refuse to warp the image the labels belong to: they would not follow."""
        paths = results.get(PATHS, {})
        mine, other = paths.get(self.modality), paths.get(self.onto)
        if mine is not None and mine == results.get('img_path') != other:
            raise PairError(
                f'RegisterModality: the labels belong to {self.modality!r} ({mine}) '
                f'and would not be warped with it; swap modality and onto, or load '
                f'with LoadPairedImages(reference={self.onto!r})'
            )

    def _files(self, results: Mapping) -> str:
        return str(results.get(PATHS, {}).get(self.modality) or 'no file')

    def __repr__(self) -> str:
        """Show the options."""
        default = None if self.default is None else plain(self.default)
        return (
            f'{type(self).__name__}({self.modality!r} onto {self.onto!r}, default='
            f'{default}, images={len(self.by_stem)}, size={self.size}, '
            f'fill={self.fill})'
        )
