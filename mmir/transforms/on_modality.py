"""Apply transforms to one modality of a paired sample."""

from collections.abc import Callable, Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from mmir.structures import (
    ABSENT,
    IMAGES,
    MODALITIES,
    PATHS,
    DeepResults,
    PairError,
    require_pair,
)

from .paired_views import as_color, build_all, held_by, with_channels

# Host transforms that move pixels, including those that leave no other trace.
_MOVERS = {
    'CenterCrop', 'CopyPaste', 'CutHeight', 'EfficientNetCenterCrop', 'Expand',
    'GeomTransform', 'InstaBoost', 'MinIoURandomCrop', 'MixUp', 'Mosaic',
    'MultiScaleFlipAug', 'Pad', 'RandomAffine', 'RandomCenterCrop',
    'RandomCenterCropPad', 'RandomChoiceResize', 'RandomCrop', 'RandomFlip',
    'RandomMosaic', 'RandomResize', 'RandomResizedCrop',
    'RandomResizedCropAndInterpolationWithTwoPic', 'RandomRotFlip', 'RandomRotate',
    'RandomShift', 'RandomTranslatePad', 'Resize', 'ResizeEdge', 'ResizeShortestEdge',
    'ResizeToMultiple', 'Rotate', 'Shear', 'TestTimeAug', 'Translate',
}  # fmt: skip


@TRANSFORMS.register_module()
class OnModality(BaseTransform):
    """Apply transforms to one modality of a paired sample, without the labels.

    For transforms that change values: color, noise, radiometry. Transforms that move
    pixels would misalign the modality with the others and the labels. Those of the
    hosts are refused by name, others if they change the size or record a move.

    mmir's transforms see a single-channel modality as (H, W), others as three equal
    channels, of which the first is kept.

    Required keys: those of :class:`LoadPairedImages`.
    Changed keys: imgs. An absent modality is left alone.

    Args:
        modality (str): Name of the modality.
        transforms (dict | Callable | Sequence): One or more transforms.
        keys (Sequence[str]): Further keys of the sample that the transforms may read,
            such as a gain per image.

    Raises:
        ValueError: A transform moves pixels.
        BitDepthError: A photometric transform of a host was given a 16-bit image.
        PairError: The sample lacks the modality, or a transform moved its pixels.
    """

    def __init__(
        self,
        modality: str,
        transforms: dict | Callable | Sequence[dict | Callable],
        keys: Sequence[str] = (),
    ) -> None:
        self.modality, self.keys = modality, tuple(keys)
        self.transforms = build_all(transforms)
        for _, held in held_by(self.transforms):
            if _MOVERS.intersection(c.__name__ for c in type(held).__mro__):
                raise ValueError(
                    f'OnModality: {type(held).__name__} would move pixels of '
                    f'{modality!r} alone; use PairedTransform'
                )

    def transform(self, results: dict) -> dict | None:
        """Transform the modality.

        Args:
            results (dict): A paired sample.

        Returns:
            dict | None: The sample, None if a transform returned None.
        """
        require_pair(results)
        if self.modality not in results[IMAGES]:
            raise PairError(
                f'OnModality: unknown modality {self.modality!r}; the sample has '
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
        view |= {key: results[key] for key in self.keys if key in results}
        for transform in self.transforms:
            own = type(transform).__module__.startswith('mmir.')
            gray = own and img.shape[2] == 1
            before = view | {'img': img[..., 0] if gray else as_color(img)}
            deep = before['img'].dtype == np.uint16
            view = transform(DeepResults(before) if deep else dict(before))
            if view is None:
                return None
            moved = {'flip', 'scale_factor', 'homography_matrix'} & (
                view.keys() - before.keys()
            )
            if moved or view['img'].shape[:2] != shape:
                raise PairError(
                    f'OnModality: {type(transform).__name__} moved pixels of '
                    f'{self.modality!r} alone; use PairedTransform'
                )
            img = with_channels(view['img'], img.shape[2])
        return results | {IMAGES: results[IMAGES] | {self.modality: img}}

    def __repr__(self) -> str:
        """Show modality and transforms."""
        return f'{type(self).__name__}({self.modality!r}, {self.transforms})'
