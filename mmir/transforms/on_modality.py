"""Change the values of one modality of a paired sample."""

from collections.abc import Callable, Sequence

from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from mmir.structures import ABSENT, IMAGES, MODALITIES, PATHS, PairError

from .paired_views import as_color, build_all, held_by, require_pair, with_channels

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


@TRANSFORMS.register_module()
class OnModality(BaseTransform):
    """Apply transforms to one modality of a paired sample; the labels stay out of it.

    For what changes values: colors, noise, radiometry. What moves pixels would tear
    the modality from its partners and the labels: the transforms of the hosts that do
    are refused by name, others where they change the size or leave a trace of it.

    A modality of one channel is shown as (H, W) to the transforms of mmir, to others as
    three equal channels, of which the first is kept.

    Required keys: those of :class:`LoadPairedImages`.
    Changed keys: imgs. An absent modality is left alone.

    Args:
        modality (str): Name of the modality.
        transforms (dict | Callable | Sequence): A transform, or several.
        keys (Sequence[str]): Keys of the sample the transforms may read as well, such
            as the gain of this very image.

    Raises:
        ValueError: A transform moves pixels.
        PairError: The sample has no such modality, or its size or place changed.
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
        require_pair(results)
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
        view |= {key: results[key] for key in self.keys if key in results}
        for transform in self.transforms:
            own = type(transform).__module__.startswith('mmir.')
            gray = own and img.shape[2] == 1
            before = view | {'img': img[..., 0] if gray else as_color(img)}
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
            img = with_channels(view['img'], img.shape[2])
        return results | {IMAGES: results[IMAGES] | {self.modality: img}}

    def __repr__(self) -> str:
        """Show modality and transforms."""
        return f'{type(self).__name__}({self.modality!r}, {self.transforms})'
