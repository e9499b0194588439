"""Move one image of a pair on purpose."""

from collections.abc import Mapping
from typing import Literal

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from mmir.structures import ABSENT, IMAGES, MODALITIES, PairError, is_paired
from mmir.transforms.homography import BORDERS, plain, warp

_CHOICES = {
    'kind': ('shift', 'homography', 'parallax'),
    'unit': ('px', 'width'),
    'distribution': ('uniform', 'gaussian'),
    'border': ('reflect', 'constant'),
}
_OUTSIDE = -1e4  # a column no image has: remap fills the pixel


@TRANSFORMS.register_module()
class RandomMisalignment(BaseTransform):
    """Move the image of one modality; its partners and the labels stay.

    For training that has to bear cameras knocked out of place, and for measuring what
    that costs. Three ways, `a` being drawn from `amount`:

    - ``'shift'``: the whole image, by another `a` along each axis.
    - ``'homography'``: each corner by another `a` along each axis, the rest with them:
      a camera turned or mounted anew.
    - ``'parallax'``: cameras side by side that were aligned for far things. What is at
      distance Z moves sideways by `focal length * baseline / Z = a * near / Z`. With a
      depth map, Z is read from it. Without, the ground is taken as flat and level: on
      it `near / Z` grows linearly from 0 at the horizon to 1 at the lower edge of the
      image, and whatever has a mask or a box (gt_masks, gt_bboxes) stands upright where
      its lowest row is. What is nearer covers what is farther, and what it uncovers is
      border. A box moves as a card, with the background in it. A view from above has no
      such ground: use 'shift'.

    Put it before what crops, turns or mixes, so that horizon and lower edge are those
    of the camera. In pixels, `misalignment` then counts those of the image as it was
    here. Moves by parts of a pixel interpolate, which blurs the image a little.

    Required keys: those of :class:`LoadPairedImages`; for 'parallax' the depth map,
    gt_masks or gt_bboxes if there.
    Changed keys: imgs, of the same shape and dtype.
    Added keys: misalignment, a tuple with one dict a move: `modality`; `kind`, 'none'
    if nothing moved; `shift`, mean (dx, dy) in pixels (of the corners for a
    homography); `homography`, 3 rows of 3 numbers that map a pixel to its new place,
    None for parallax; `near_shift`, in pixels, `a` of the parallax, else 0. To have it
    in the metadata: `PackPairedInputs(meta_keys=('misalignment',))`.

    Args:
        kind (str): 'shift', 'homography' or 'parallax'.
        amount (float): Largest move if uniform, standard deviation if Gaussian (cut at
            3 standard deviations), along an axis.
        unit (str): Unit of `amount`: 'px', or 'width', that of the image.
        distribution (str): 'uniform', from -amount to amount, or 'gaussian'.
        modality (str): Which image moves: one the labels need not fit.
        prob (float): Probability to move it at all.
        border (str): What pixels without a source show: 'reflect' mirrors the image (or
            the background, behind an uncovering object), 'constant' is `fill`.
        fill (float): Value of the constant border, in the values of the image.
        depth (str): Key of the depth map, (H, W), in the unit of `near`; not finite or
            not positive is far away. The default is mmseg's.
        near (float): Distance whose shift is `a`, with a depth map.
        horizon (float): Row of the horizon as a fraction of the height, without one.

    Raises:
        ValueError: An option has an unknown or senseless value.
        PairError: The sample is not paired or has no such modality; depth map or boxes
            do not fit; a homography could fold an image as small as this.
    """

    def __init__(
        self,
        kind: Literal['shift', 'homography', 'parallax'] = 'shift',
        amount: float = 4.0,
        unit: Literal['px', 'width'] = 'px',
        distribution: Literal['uniform', 'gaussian'] = 'uniform',
        modality: str = 'rgb',
        prob: float = 1.0,
        border: Literal['reflect', 'constant'] = 'reflect',
        fill: float = 0,
        *,
        depth: str = 'gt_depth_map',
        near: float = 5.0,
        horizon: float = 0.45,
    ) -> None:
        given = dict(kind=kind, unit=unit, distribution=distribution, border=border)
        for key, value in given.items():
            if value not in _CHOICES[key]:
                raise ValueError(
                    f'RandomMisalignment: {key} must be one of {_CHOICES[key]}, got '
                    f'{value!r}'
                )
        if not (amount >= 0 and 0 <= prob <= 1 and near > 0 and 0 <= horizon < 1):
            raise ValueError(
                f'RandomMisalignment: amount={amount} must not be negative, prob={prob}'
                f' be in 0..1, near={near} positive, horizon={horizon} in 0..1 without '
                '1'
            )
        self.kind, self.amount, self.unit = kind, amount, unit
        self.distribution, self.modality, self.prob = distribution, modality, prob
        self.border, self.fill = border, fill
        self.depth, self.near, self.horizon = depth, near, horizon

    def transform(self, results: dict) -> dict:
        """Move the image of the modality.

        Args:
            results (dict): A paired sample.

        Returns:
            dict: The sample; the images given are not changed.
        """
        img = image_of(results, self.modality, 'RandomMisalignment')
        record = dict(
            modality=self.modality,
            kind='none',
            shift=(0.0, 0.0),
            homography=plain(np.eye(3)),
            near_shift=0.0,
        )
        imgs = dict(results[IMAGES])
        gone = self.modality in results.get(ABSENT, ())
        if np.random.rand() < self.prob and not gone:  # noqa: NPY002
            move = self._parallax if self.kind == 'parallax' else self._project
            imgs[self.modality], moved = move(img, results)
            record |= moved | dict(kind=self.kind)
        former = results.get('misalignment', ())
        return results | {IMAGES: imgs, 'misalignment': (*former, record)}

    def _draw(self, shape: tuple[int, ...], width: int) -> np.ndarray:
        """Draw moves in pixels, from the generator that PairedTransform replays."""
        scale = self.amount * (width if self.unit == 'width' else 1)
        if self.distribution == 'uniform':
            return np.random.uniform(-scale, scale, shape)  # noqa: NPY002
        drawn = np.random.normal(0, scale, shape)  # noqa: NPY002
        return np.clip(drawn, -3 * scale, 3 * scale)

    def _project(self, img: np.ndarray, results: Mapping) -> tuple[np.ndarray, dict]:
        """Shift the image, or move its corners."""
        height, width = img.shape[:2]
        if self.kind == 'shift':
            matrix = np.eye(3)
            matrix[:2, 2] = mean = self._draw((2,), width)
        else:
            self._refuse_folds(height, width)
            right, down = width - 1, height - 1
            corners = np.array([(0, 0), (right, 0), (right, down), (0, down)], float)
            moves = self._draw((4, 2), width)
            ends = (corners + moves).astype(np.float32)
            matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), ends)
            mean = moves.mean(0)
        out = warp(img, matrix, (width, height), self.border, self.fill)
        record = dict(shift=tuple(mean.tolist()), homography=plain(matrix))
        return out, record

    def _refuse_folds(self, height: int, width: int) -> None:
        """Corners that move by less than a quarter of the side keep their order."""
        most = self.amount * (width if self.unit == 'width' else 1)
        most *= 1 if self.distribution == 'uniform' else 3
        if most >= min(height, width) / 4:
            raise PairError(
                f'RandomMisalignment: corners that move by up to {most:g} pixels could '
                f'fold an image of {width}x{height}; amount={self.amount} is too large'
            )

    def _parallax(self, img: np.ndarray, results: Mapping) -> tuple[np.ndarray, dict]:
        """Shift sideways by nearness."""
        near_shift = float(self._draw((), img.shape[1]))
        nearness = self._nearness(results, *img.shape[:2])
        columns = source_columns(nearness, near_shift, self.border == 'reflect')
        rows = np.arange(len(columns), dtype=np.float32)[:, None]
        rows = np.broadcast_to(rows, columns.shape)
        out = cv2.remap(
            img,
            columns,
            np.ascontiguousarray(rows),
            cv2.INTER_LINEAR,
            borderMode=BORDERS[self.border],
            borderValue=(self.fill,) * 4,
        ).reshape(img.shape)
        mean = near_shift * float(nearness.mean())
        return out, dict(shift=(mean, 0.0), homography=None, near_shift=near_shift)

    def _nearness(self, results: Mapping, height: int, width: int) -> np.ndarray:
        """(H, W) float32: near / Z of each pixel."""
        if self.depth in results:
            depth = np.asarray(results[self.depth], np.float32)
            if depth.shape != (height, width):
                raise PairError(
                    f'RandomMisalignment: the depth map {self.depth!r} has shape '
                    f'{depth.shape}, the image of {self.modality!r} {(height, width)}'
                )
            known = np.isfinite(depth) & (depth > 0)
            # next to no distance must not become an infinite shift
            distance = np.maximum(np.where(known, depth, np.inf), self.near * 1e-3)
            return (self.near / distance).astype(np.float32)
        start = self.horizon * (height - 1)
        reach = max(height - 1 - start, 1e-6)
        rows = np.arange(height, dtype=np.float32)
        slope = np.clip((rows - start) / reach, 0, 1).astype(np.float32)
        if 'gt_masks' in results:
            masks = results['gt_masks'].to_ndarray().astype(bool)
            return _with_masks(slope, masks, width)
        boxes = results.get('gt_bboxes', ())
        # mmdet keeps the tensor of its boxes under this name
        return _with_boxes(slope, np.asarray(getattr(boxes, 'tensor', boxes)), width)

    def __repr__(self) -> str:
        """Show the options."""
        shown = ', '.join(f'{key}={value!r}' for key, value in vars(self).items())
        return f'{type(self).__name__}({shown})'


def image_of(results: Mapping, modality: str, who: str) -> np.ndarray:
    """Get the image of a modality.

    Args:
        results (Mapping): A paired sample.
        modality (str): Name of the modality.
        who (str): Name of the transform, for messages.

    Returns:
        np.ndarray: (H, W, channels).

    Raises:
        PairError: The sample is not paired, or has no such modality.
    """
    if not is_paired(results):
        raise PairError(
            f'{who}: this is no paired sample: mmir.LoadPairedImages must come first; '
            f'it has the keys {sorted(results)}'
        )
    if modality not in results[IMAGES]:
        raise PairError(
            f'{who}: there is no modality {modality!r}, the sample has '
            f'{results[MODALITIES]}'
        )
    return results[IMAGES][modality]


def source_columns(nearness: np.ndarray, shift: float, mirror: bool) -> np.ndarray:
    """Say where each pixel comes from when all move sideways by shift * nearness.

    What lands on the same place hides what is farther. Places where nothing lands lie
    beside near things, on the side of the background; they mirror it or have no source.

    Args:
        nearness (np.ndarray): (H, W) float32, not negative, of the pixels before.
        shift (float): In pixels, positive to the right.
        mirror (bool): Whether places uncovered mirror the background.

    Returns:
        np.ndarray: (H, W) float32, columns for `cv2.remap`; outside the image without
        source.
    """
    width = nearness.shape[1]
    if shift < 0:
        flipped = source_columns(nearness[:, ::-1], -shift, mirror)
        return np.ascontiguousarray(width - 1 - flipped[:, ::-1])
    source = np.arange(width, dtype=np.float32) - np.float32(shift) * nearness[:, :1]
    uneven = (nearness != nearness[:, :1]).any(1)
    if uneven.any():
        source[uneven] = _uneven_columns(nearness[uneven], shift, mirror)
    return source


def _uneven_columns(nearness: np.ndarray, shift: float, mirror: bool) -> np.ndarray:
    """Source columns of rows in which some things are nearer; shift is not negative."""
    height, width = nearness.shape
    columns = np.arange(width, dtype=np.int32)
    moved = np.float32(shift) * nearness
    landed = np.rint(columns + moved).astype(np.int32)
    inside = landed < width
    places = (landed + width * np.arange(height, dtype=np.int32)[:, None])[inside]
    # Of two that move right onto one place, the nearer one started further left.
    seen = np.full(height * width, width, np.int32)
    np.minimum.at(seen, places, np.broadcast_to(columns, landed.shape)[inside])
    seen = seen.reshape(height, width)
    found = seen < width
    first = found.argmax(1)[:, None]
    # The background is on the left of what moved right; left of all, the image ends.
    left = np.maximum(np.maximum.accumulate(np.where(found, columns, -1), 1), first)
    origin = np.minimum(np.take_along_axis(seen, left, 1), width - 1)
    moved = np.take_along_axis(moved, origin, 1)
    uncovered = ~found & (columns > first)
    bare = 2 * left - columns - moved if mirror else np.float32(_OUTSIDE)
    return np.where(uncovered, bare, columns - moved)


def _with_masks(slope: np.ndarray, masks: np.ndarray, width: int) -> np.ndarray:
    """Nearness (H, W) of the ground and of masks (N, H, W) that stand on it."""
    height = len(slope)
    if masks.shape[1:] != (height, width):
        raise PairError(
            f'RandomMisalignment: gt_masks are of {masks.shape[2]}x{masks.shape[1]}, '
            f'the image of {width}x{height}'
        )
    ground = np.repeat(slope[:, None], width, axis=1)
    if not len(masks):
        return ground
    lowest = height - 1 - masks.any(2)[:, ::-1].argmax(1)
    order = np.argsort(-lowest)
    nearest = masks[order].argmax(0)
    return np.where(masks.any(0), slope[lowest[order]][nearest], ground)


def _with_boxes(slope: np.ndarray, boxes: np.ndarray, width: int) -> np.ndarray:
    """Nearness (H, W) of the ground and of boxes (N, 4) that stand on it."""
    ground = np.repeat(slope[:, None], width, axis=1)
    if not boxes.size:
        return ground
    if boxes.shape[-1] != 4:
        raise PairError(
            f'RandomMisalignment: gt_bboxes has shape {boxes.shape}; only boxes x1, y1,'
            " x2, y2 stand on the ground. Take kind='shift'"
        )
    ends = np.clip(np.rint(boxes), 0, (width, len(slope)) * 2).astype(int)
    # Far to near, one slice a box: all boxes over all pixels would be far more work.
    for left, top, right, bottom in ends[np.argsort(ends[:, 3])]:
        ground[top:bottom, left:right] = slope[max(bottom - 1, 0)]
    return ground
