"""Load 8-bit and 16-bit thermal images without changing their values."""

from typing import Literal

import cv2
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log
from mmengine.registry import TRANSFORMS

from mmir.data.decoding import select_planes
from mmir.data.images import ImageFormatError, ImageReadError, read_image
from mmir.registry import TRANSFORMS as MMIR_TRANSFORMS
from mmir.structures import DeepResults

_DEPTHS = {8: np.uint8, 16: np.uint16}
# Inferencers search the test pipeline for the first of these names and put another in
# its place, whatever the scope is.
_HOST_NAMES = [
    'LoadImageFromFile',
    'LoadImageFromNDArray',
    'InferencerLoader',
    'mmdet.LoadImageFromNDArray',
    'mmdet.InferencerLoader',
]
_AS_FLOAT = (
    'set to_float32=True in LoadThermalImage (in LoadPairedImages: in the row of its '
    'modality) and add ThermalToUint8 after it'
)
_ADVICE = {
    'uint8': 'set bit_depth=8 and leave out ThermalToUint8',
    'uint16': _AS_FLOAT.replace('to_float32=True', 'bit_depth=16 (or to_float32=True)'),
}


def _with_channels(img: np.ndarray, channels: int) -> np.ndarray:
    """Convert an image of any channel count to (H, W, channels), 1 or 3 channels."""
    if img.ndim == 3:
        img = img[..., 0] if img.shape[2] < 3 else img[..., :3]  # drops alpha
    if channels == 1:
        gray = img if img.ndim == 2 else cv2.cvtColor(img, cv2.COLOR_BGR2GRAY)
        return gray[..., None]
    return cv2.merge([img] * 3) if img.ndim == 2 else img


@MMIR_TRANSFORMS.register_module(_HOST_NAMES)
@TRANSFORMS.register_module()
class LoadThermalImage(LoadImageFromFile):
    """Load an infrared (or any) image of 8 or 16 bits, never squashing its values.

    Inferencers of mmdet and mmseg find it in a test pipeline, also under the name
    `dict(type='LoadImageFromFile', _scope_='mmir')` of the shipped configs. They pass
    files and arrays; both have to meet the same conditions.

    A detector trained on 0..255 takes raw 16-bit counts without complaint and learns
    nothing, so the bit depth of the file must be the one the pipeline was written for:
    16-bit files pass only with `bit_depth=16` (counts, uint16) or `to_float32=True`
    (counts, float32). :class:`ThermalToUint8` should follow. Files of other sample
    types (signed, 32 bits, float) pass with `to_float32=True`. The EXIF orientation is
    applied: pixels are as displayed, and as annotation tools and the hosts see them.

    Required keys: img_path, or img, an array (H, W) or (H, W, 1, 3 or 4), BGR as in
    files; height and width if the annotation has them.
    Added keys: img (H, W, channels), img_shape, ori_shape.

    Args:
        channels (int): 3 replicates grayscale images; 1 converts color to grayscale.
        planes (tuple[int, int], optional): Planes of the file to read, as a half-open
            range, for files that hold several cameras. For a PNG with color and thermal
            in the alpha plane: (0, 3) and (3, 4). Pages of a TIFF file count as planes,
            in the order of the file; one with several pages needs this option. Default:
            all but alpha.
        bit_depth (int): Bit depth the files must have, 8 or 16, unless `to_float32`.
        to_float32 (bool): Return the values of the file as float32, whatever its depth.
        on_error (str): 'raise', or 'skip' to warn, count in `skipped` and return None,
            for which mmengine's training datasets fetch another image.
        backend_args (dict, optional): Arguments of mmengine's file backend.

    Raises:
        ValueError: An option has an unknown value.
        ImageReadError: The file is missing or truncated.
        ImageFormatError: The file or the array differs in bit depth, has several pages
            or too few planes, or differs in size from the annotation (its boxes would
            be wrong).
    """

    def __init__(
        self,
        channels: Literal[1, 3] = 3,
        bit_depth: Literal[8, 16] = 8,
        to_float32: bool = False,
        on_error: Literal['raise', 'skip'] = 'raise',
        *,
        planes: tuple[int, int] | None = None,
        backend_args: dict | None = None,
    ) -> None:
        super().__init__(
            to_float32=to_float32, color_type='unchanged', backend_args=backend_args
        )
        for name, value, known in (
            ('channels', channels, (1, 3)),
            ('bit_depth', bit_depth, tuple(_DEPTHS)),
            ('on_error', on_error, ('raise', 'skip')),
        ):
            if value not in known:
                raise ValueError(f'{name} must be one of {known}, got {value!r}')
        if planes is not None and (
            len(planes) != 2 or planes[0] < 0 or planes[1] - planes[0] not in (1, 3)
        ):
            raise ValueError(
                'planes must be a half-open range of 1 or 3 planes of a file, such as '
                f'(3, 4), got {planes!r}'
            )
        self.channels = channels
        self.planes = None if planes is None else tuple(planes)
        self.bit_depth = bit_depth
        self.on_error = on_error
        self.skipped = 0

    def transform(self, results: dict | str | np.ndarray) -> dict | None:
        """Load the image named by `img_path`, or take the array given as `img`.

        Args:
            results (dict | str | np.ndarray): Data info of one image, or from an
                Inferencer a path or an array.

        Returns:
            dict | None: The data info with the image, None if it was skipped.
        """
        if not isinstance(results, dict):
            given = isinstance(results, np.ndarray)
            results = {'img' if given else 'img_path': results}
        path = results.setdefault('img_path', None)  # packers ask for the key
        try:
            if path is None:
                img = self._given(results)
            else:
                img = read_image(path, self.backend_args, self.planes)
            self._check(img, results)
        except ImageReadError as error:
            if self.on_error == 'raise':
                raise
            self.skipped += 1
            print_log(
                f'skipped image {self.skipped} of this worker: {error}',
                logger='current',
                level=30,  # logging.WARNING
            )
            return None
        if img.dtype != np.uint8:
            results = DeepResults(results)
        if self.to_float32:  # first: OpenCV mixes no channels of other types
            img = img.astype(np.float32)
        results['img'] = _with_channels(img, self.channels)
        results['img_shape'] = results['ori_shape'] = img.shape[:2]
        return results

    def _given(self, results: dict) -> np.ndarray:
        """Get the array that stands in place of a file."""
        img = results.get('img')
        if not isinstance(img, np.ndarray):
            raise KeyError(
                'LoadThermalImage: the sample has no img_path and no array as img; it '
                f'has the keys {sorted(results)}'
            )
        known = self.planes is not None or img.shape[-1] in (1, 3, 4)
        if img.ndim != 2 and not (img.ndim == 3 and known):
            raise ImageFormatError(
                f'the array has the shape {img.shape}, but an image is (H, W) or '
                '(H, W, channels) with 1, 3 or 4 channels'
            )
        if self.planes is None:
            return img
        return select_planes([img], self.planes, 'the array')

    def _check(self, img: np.ndarray, results: dict) -> None:
        """Check bit depth and size against the pipeline and the annotation."""
        path = results['img_path'] or 'the array'
        if not self.to_float32 and img.dtype != _DEPTHS[self.bit_depth]:
            advice = _ADVICE.get(img.dtype.name, _AS_FLOAT)
            if results['img_path'] is None:
                advice += (
                    '. If you gave a file to an Inferencer of mmpretrain, which reads '
                    'in 8 bits, give it mmir.data.images.read_image(file) instead'
                )
            raise ImageFormatError(
                f'{path} holds {img.dtype}, not uint{self.bit_depth}: {advice}'
            )
        said = (results.get('height', img.shape[0]), results.get('width', img.shape[1]))
        if said != img.shape[:2]:
            raise ImageFormatError(
                f'{path} is {img.shape[1]}x{img.shape[0]} (width x height) but its '
                f'annotation says {said[1]}x{said[0]}'
            )

    def __repr__(self) -> str:
        """Show the options."""
        return (
            f'{type(self).__name__}(channels={self.channels}, '
            f'bit_depth={self.bit_depth}, to_float32={self.to_float32}, '
            f'on_error={self.on_error!r}, planes={self.planes}, '
            f'backend_args={self.backend_args})'
        )
