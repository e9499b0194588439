"""Random misalignment between the images of a pair."""

from collections.abc import Mapping
from typing import Literal

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from mmir.structures import ABSENT, IMAGES, MODALITIES, PairError, require_pair
from mmir.transforms.homography import BORDERS, plain, warp

_CHOICES = {
    'kind': ('shift', 'homography', 'parallax'),
    'unit': ('px', 'width'),
    'distribution': ('uniform', 'gaussian'),
    'border': ('reflect', 'constant'),
}
_OUTSIDE = -1e4  # outside any image, so remap fills the pixel


@TRANSFORMS.register_module()
class RandomMisalignment(BaseTransform):
    """Randomly misalign one modality; the other images and the labels stay in place.

    Use it to train for cameras that get knocked out of alignment, and to measure what
    misalignment costs. There are three kinds; each offset `a` is drawn from `amount`:

    - ``'shift'``: the whole image, by an independent `a` along each axis.
    - ``'homography'``: each corner by an independent `a` along each axis, as if the
      camera had been turned or remounted.
    - ``'parallax'``: cameras side by side, aligned for distant objects. A point at
      distance Z moves sideways by `focal length * baseline / Z = a * near / Z`. Z comes
      from the depth map if there is one. Otherwise the ground is assumed flat and
      level: `near / Z` grows linearly from 0 at the horizon to 1 at the bottom of the
      image, and every object with a mask or a box (gt_masks, gt_bboxes) stands upright
      on its lowest row. Near objects occlude far ones; uncovered pixels are filled like
      the border. A box moves as a whole, background included. Views from above have no
      such ground plane: use 'shift'.

    Place it before any crop, rotation or mixing, so that the horizon and the bottom row
    are those of the camera. `misalignment` is then in pixels of the image at this point
    of the pipeline. Subpixel moves interpolate, which blurs the image slightly.

    Required keys: those of :class:`LoadPairedImages`; for 'parallax' also the depth
    map, gt_masks or gt_bboxes, if present.
    Changed keys: imgs, of the same shape and dtype.
    Added keys: misalignment, a tuple with one dict per move. To keep it in the
    metainfo, use `PackPairedInputs(meta_keys=('misalignment',))`. Its keys:

    - `modality`: the modality that moved
    - `kind`: 'none' if nothing moved
    - `shift`: mean (dx, dy) in pixels; for a homography, that of the corners
    - `homography`: 3 rows of 3 numbers that map a pixel to its new place; None for
      parallax
    - `near_shift`: `a` of the parallax in pixels, else 0

    Args:
        kind (str): 'shift', 'homography' or 'parallax'.
        amount (float): Size of the move along each axis: the maximum if uniform, the
            standard deviation if Gaussian (clipped at 3 standard deviations).
        unit (str): Unit of `amount`: 'px', or 'width', the width of the image.
        distribution (str): 'uniform', from -amount to amount, or 'gaussian'.
        modality (str): Modality to move; not the one the labels were drawn on.
        prob (float): Probability of a move.
        border (str): How to fill pixels without a source: 'reflect' mirrors the image
            (or, next to a near object, the background); 'constant' writes `fill`.
        fill (float): Value of the constant border, in image values.
        depth (str): Key of the depth map, (H, W), in the unit of `near`. Values that
            are not finite or not positive count as far away. The default is mmseg's.
        near (float): Distance at which the shift is `a`; used with a depth map.
        horizon (float): Row of the horizon as a fraction of the height; used without a
            depth map.

    Raises:
        ValueError: An option is unknown or out of range.
        PairError: The sample is not paired or lacks the modality; the depth map or the
            boxes do not fit the image; the image is so small that the homography could
            fold it.
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
                f'RandomMisalignment: amount={amount} must be at least 0, prob={prob} '
                f'in [0, 1], near={near} positive and horizon={horizon} in [0, 1)'
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
            dict: The sample; the input images are not modified.
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
        """Draw moves in pixels from the generator that PairedTransform replays."""
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
        """Refuse moves of a quarter of the side or more, which can swap corners."""
        most = self.amount * (width if self.unit == 'width' else 1)
        most *= 1 if self.distribution == 'uniform' else 3
        if most >= min(height, width) / 4:
            raise PairError(
                f'RandomMisalignment: moving corners by up to {most:g} pixels could '
                f'fold a {width}x{height} image; amount={self.amount} is too large'
            )

    def _parallax(self, img: np.ndarray, results: Mapping) -> tuple[np.ndarray, dict]:
        """Shift sideways in proportion to nearness."""
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
                    f'{depth.shape}, but the {self.modality!r} image has '
                    f'{(height, width)}'
                )
            known = np.isfinite(depth) & (depth > 0)
            # a distance close to zero must not become an infinite shift
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
        # mmdet stores the tensor of its boxes under this name
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
        who (str): Name of the transform, for error messages.

    Returns:
        np.ndarray: (H, W, channels).

    Raises:
        PairError: The sample is not paired, or has no such modality.
    """
    require_pair(results, who)
    if modality not in results[IMAGES]:
        raise PairError(
            f'{who}: unknown modality {modality!r}; the sample has '
            f'{results[MODALITIES]}'
        )
    return results[IMAGES][modality]


def source_columns(nearness: np.ndarray, shift: float, mirror: bool) -> np.ndarray:
    """Find the source column of each pixel when pixels shift by `shift * nearness`.

    Where several pixels land on one place, the nearest wins. Places where none lands
    are beside near objects, on the background side; they mirror the background or have
    no source.

    Args:
        nearness (np.ndarray): (H, W) float32, not negative, before the shift.
        shift (float): Pixels, positive to the right.
        mirror (bool): Whether uncovered places mirror the background.

    Returns:
        np.ndarray: (H, W) float32, columns for `cv2.remap`. Places without a source get
        a column outside the image.
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
    """Source columns of rows with several depths, for a shift that is not negative."""
    height, width = nearness.shape
    columns = np.arange(width, dtype=np.int32)
    moved = np.float32(shift) * nearness
    landed = np.rint(columns + moved).astype(np.int32)
    inside = landed < width
    places = (landed + width * np.arange(height, dtype=np.int32)[:, None])[inside]
    # Of two pixels that move right onto one place, the nearer started farther left.
    seen = np.full(height * width, width, np.int32)
    np.minimum.at(seen, places, np.broadcast_to(columns, landed.shape)[inside])
    seen = seen.reshape(height, width)
    found = seen < width
    first = found.argmax(1)[:, None]
    # The background is to the left of what moved right, up to the image border.
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
            f'RandomMisalignment: gt_masks are {masks.shape[2]}x{masks.shape[1]}, but '
            f'the image is {width}x{height}'
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
            f'RandomMisalignment: gt_bboxes has shape {boxes.shape}, but parallax '
            "needs boxes (x1, y1, x2, y2). Use kind='shift'"
        )
    ends = np.clip(np.rint(boxes), 0, (width, len(slope)) * 2).astype(int)
    # Far to near, one slice per box: much cheaper than all boxes over all pixels.
    for left, top, right, bottom in ends[np.argsort(ends[:, 3])]:
        ground[top:bottom, left:right] = slope[max(bottom - 1, 0)]
    return ground
