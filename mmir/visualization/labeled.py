"""Draw samples with their labels, using the visualizer of the host."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal

import cv2
import numpy as np
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer
from torch import Tensor

from mmir.structures import ABSENT, MODALITIES, split_modalities
from mmir.visualization.pipeline_stages import SINGLE

from .color_maps import to_display
from .pairs import MODES, absent_panel, compose, side_by_side, titled

Kind = Literal['gt', 'pred']


@dataclass(frozen=True)
class PairStyle:
    """Display options of samples.

    Attributes:
        modes: One or more of :data:`mmir.visualization.pairs.MODES`.
        colour_map: Palette of thermal images.
        alpha: Weight of the second modality in an overlay.
        tile: Side of the checkerboard squares in pixels.
        score_thr: Predictions with a lower score are not drawn.
    """

    modes: Sequence[str] = MODES[:1]
    colour_map: str = 'white-hot'
    alpha: float = 0.5
    tile: int = 64
    score_thr: float = 0.3


def packed_images(inputs: Tensor, meta: Mapping) -> dict[str, np.ndarray]:
    """Split a packed image into arrays, before the data preprocessor.

    Args:
        inputs (Tensor): (C, H, W).
        meta (Mapping): Metainfo of its data sample.

    Returns:
        dict[str, np.ndarray]: Modality -> (H, W, channels); the key is :data:`SINGLE`
        if the sample is not paired.
    """
    paired = MODALITIES in meta
    parts = split_modalities(inputs, meta) if paired else {SINGLE: inputs}
    return {
        name: np.ascontiguousarray(part.cpu().numpy().transpose(1, 2, 0))
        for name, part in parts.items()
    }


def has_labels(sample: BaseDataElement, kind: Kind) -> bool:
    """Tell whether a data sample has ground truth or predictions.

    Args:
        sample (BaseDataElement): Data sample of a host.
        kind (str): 'gt' or 'pred'.

    Returns:
        bool: False also if the host stored an empty container.
    """
    found = [v for key, v in sample.items() if key.startswith(f'{kind}_')]
    return any(len(v.keys()) for v in found if isinstance(v, BaseDataElement))


def draw_labels(
    visualizer: Visualizer,
    image: np.ndarray,
    sample: BaseDataElement,
    kind: Kind,
    score_thr: float = 0.3,
) -> np.ndarray:
    """Draw labels with the visualizer of a host and return the picture.

    Args:
        visualizer (Visualizer): mmdet's or mmseg's, with `dataset_meta` set. One that
            does not draw labels of data samples (mmpretrain's) leaves the picture as
            it is.
        image (np.ndarray): (H, W, 3) uint8, RGB.
        sample (BaseDataElement): Data sample with the labels; not modified.
        kind (str): 'gt' or 'pred'.
        score_thr (float): Predictions with a lower score are not drawn, if the host has
            scores.

    Returns:
        np.ndarray: (H, W, 3) uint8, RGB.
    """
    caught = [image]

    def _catch(name: str, image: np.ndarray | None, step: int = 0) -> None:
        # mmseg 1.2.2 and mmdet's panoptic visualizer pass None if they drew nothing
        if image is not None:
            caught.append(image)

    options: dict[str, Any] = dict(draw_gt=kind == 'gt', draw_pred=kind == 'pred')
    if 'pred_score_thr' in signature(visualizer.add_datasample).parameters:
        options['pred_score_thr'] = score_thr
    # The hosts pass the result to `add_image`, which would store it.
    visualizer.add_image = _catch
    try:
        visualizer.add_datasample('labels', image, _plain(sample), **options)
    finally:
        del visualizer.add_image
    return caught[-1]


def sample_row(
    visualizer: Visualizer,
    images: Mapping[str, np.ndarray],
    sample: BaseDataElement,
    kind: Kind,
    style: PairStyle,
    title: str = '',
) -> np.ndarray:
    """Draw the panels of one sample, with the same labels on each.

    Args:
        visualizer (Visualizer): See :func:`draw_labels`.
        images (Mapping[str, np.ndarray]): Modality -> image as loaded or packed, of the
            size that the labels refer to; any image for absent modalities.
        sample (BaseDataElement): Data sample; `absent` in its metainfo is respected.
        kind (str): 'gt' or 'pred'.
        style (PairStyle): Display options.
        title (str): Prefix of the panel titles.

    Returns:
        np.ndarray: (H, W, 3) uint8, RGB.
    """
    gone = sample.metainfo.get(ABSENT, ())
    shape = next(iter(images.values())).shape[:2]
    there = {
        name: to_display(img, style.colour_map)
        for name, img in images.items()
        if name not in gone
    }
    panels = {
        name: draw_labels(visualizer, picture, sample, kind, style.score_thr)
        for name, picture in compose(
            there, style.modes, style.alpha, style.tile
        ).items()
    }
    panels |= {name: absent_panel(shape, name) for name in images if name in gone}
    before = f'{title}: ' if title else ''
    order = [*(name for name in images if name in panels), *panels]
    return side_by_side(
        [titled(panels[name], f'{before}{name}') for name in dict.fromkeys(order)]
    )


def resized(images: Mapping[str, np.ndarray], shape: tuple[int, int]) -> dict:
    """Resize images to one size, for display.

    Args:
        images (Mapping[str, np.ndarray]): Name -> (H, W, C).
        shape (tuple[int, int]): Height and width.

    Returns:
        dict: Name -> (*shape, C).
    """
    return {
        name: img
        if img.shape[:2] == shape
        else cv2.resize(img, shape[::-1], interpolation=cv2.INTER_LINEAR)
        for name, img in images.items()
    }


def _plain(sample: BaseDataElement) -> BaseDataElement:
    """Copy with boxes as tensors: mmdet packs box objects but cannot draw them."""
    copy = sample.clone()
    for value in copy.values():
        boxes = value.get('bboxes') if isinstance(value, BaseDataElement) else None
        if hasattr(boxes, 'tensor'):
            value.bboxes = boxes.tensor
    return copy
