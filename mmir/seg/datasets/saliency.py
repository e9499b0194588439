"""Salient-object detection in RGB+thermal pairs: VT821, VT1000, VT5000."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from mmseg.datasets.transforms import LoadAnnotations

from mmir.data.images import ImageReadError, read_image
from mmir.data.label_maps import gray_mask
from mmir.data.layouts.seg_sets import SEG_SETS, VT5000
from mmir.registry import DATASETS, TRANSFORMS

from .paired_seg import PairedSegDataset

THRESHOLD = 128
"""Gray level at or above which a pixel of a mask counts as salient."""


@DATASETS.register_module()
class VTSODDataset(PairedSegDataset):
    """VT5000 (2,500 + 2,500), VT1000 and VT821 (test only): salient objects.

    `{Train,Test}/{RGB,T,GT}` for VT5000, `{RGB,T,GT}` for the others. The thermal
    folder may also be called `thermal`, and any type of image file will do: copies of
    the datasets differ in both. Masks are grayscale, 0 to 255, some of them noisy JPEG
    files: pixels of 128 and above are salient (1). :class:`LoadSaliencyMask` applies
    the threshold fast, mmseg's `LoadAnnotations` slowly through the `label_map`.
    Layouts and counts are from public readers and papers, not verified on the files.

    Args:
        name (str): 'VT5000', 'VT1000' or 'VT821'.
        split (str): 'train' or 'test'. Default: 'train' for VT5000, and 'test' for the
            others, which have only that one.
        **kwargs: Arguments of :class:`PairedSegDataset`.

    Raises:
        ValueError: An option has an unknown value.
    """

    METAINFO: dict = VT5000.metainfo

    def __init__(
        self,
        *,
        name: Literal['VT821', 'VT1000', 'VT5000'] = 'VT5000',
        split: str | None = None,
        **kwargs: Any,
    ) -> None:
        known = [key for key, layout in SEG_SETS.items() if layout.binary]
        if name not in known:
            raise ValueError(f'name must be one of {known}, got {name!r}')
        self.LAYOUT = SEG_SETS[name]
        super().__init__(split=split or next(iter(self.LAYOUT.splits)), **kwargs)

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str] | None = None) -> dict[int, int]:
        """Map gray levels to labels.

        Args:
            new_classes (Sequence[str], optional): Names for the two classes.

        Returns:
            dict[int, int]: 0 below the threshold, else 1.

        Raises:
            ValueError: There are not exactly two names.
        """
        if new_classes is not None and len(new_classes) != 2:
            raise ValueError(f'masks have two classes, not {list(new_classes)}')
        return {gray: int(gray >= THRESHOLD) for gray in range(256)}


@TRANSFORMS.register_module()
class LoadSaliencyMask(LoadAnnotations):
    """Load a grayscale mask of 0 to 255 as labels 0 and 1.

    Replaces `LoadAnnotations`. Masks stored in color are converted to grayscale.

    Required keys: seg_map_path.
    Added keys: gt_seg_map (H, W) uint8 of 0 and 1, seg_fields.

    Args:
        threshold (int): Gray level at or above which a pixel is 1.
        backend_args (dict, optional): Arguments of mmengine's file backend.

    Raises:
        ImageReadError: The file is missing or truncated, has more than 8 bits, or
            already holds 0 and 1, which the threshold would turn into all 0.
    """

    def __init__(
        self, threshold: int = THRESHOLD, backend_args: dict | None = None
    ) -> None:
        super().__init__(backend_args=backend_args)
        self.threshold = threshold

    def _load_seg_map(self, results: dict) -> None:
        """Load and threshold the mask; called by the host's transform."""
        path = results['seg_map_path']
        mask = read_image(path, self.backend_args)
        if mask.dtype != np.uint8:
            raise ImageReadError(f'{path} holds {mask.dtype}, but a mask has 8 bits')
        mask = gray_mask(mask)
        if mask.max() == 1:
            raise ImageReadError(
                f'{path} holds 0 and 1, but a mask has 0 to 255: use LoadAnnotations '
                'and PairedSegDataset for labels'
            )
        results['gt_seg_map'] = (mask >= self.threshold).astype(np.uint8)
        results.setdefault('seg_fields', []).append('gt_seg_map')

    def __repr__(self) -> str:
        """Show the threshold."""
        return f'{type(self).__name__}(threshold={self.threshold})'
