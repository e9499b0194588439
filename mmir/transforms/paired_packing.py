"""Pack paired samples for the model."""

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS, DefaultScope

from mmir.structures import (
    ABSENT,
    CHANNELS,
    IMAGES,
    MODALITIES,
    PATHS,
    require_one_size,
)

_PACKERS = {
    'mmdet': 'PackDetInputs',
    'mmseg': 'PackSegInputs',
    'mmpretrain': 'PackInputs',
}


@TRANSFORMS.register_module()
class PackPairedInputs(BaseTransform):
    """Stack the modalities along the channels; the host packs image and labels.

    Required keys: those of :class:`LoadPairedImages` and of the host.
    Added keys:

    - `inputs`: tensor (C, H, W), C the sum of all channels; uint8 if all images are,
      else float32
    - `data_samples`: with `modalities`, `channels`, `absent` and `img_paths` in its
      metainfo

    Args:
        pack (dict, optional): Config of the host's packing transform. Default: the one
            of the default scope, with its default options.
        meta_keys (Sequence[str]): Further keys to keep in the metainfo.

    Raises:
        ValueError: `pack` is not given and the default scope is not a known host.
        PairError: The images differ in size.
    """

    def __init__(self, pack: dict | None = None, meta_keys: Sequence[str] = ()) -> None:
        if pack is None:
            current = DefaultScope.get_current_instance()
            scope = current.scope_name if current else None
            if scope not in _PACKERS:
                raise ValueError(
                    f'PackPairedInputs: set pack, such as '
                    f"dict(type='mmdet.PackDetInputs'); the scope is {scope!r}"
                )
            pack = dict(type=f'{scope}.{_PACKERS[scope]}')
        self.pack = TRANSFORMS.build(pack)
        own = (MODALITIES, CHANNELS, ABSENT, PATHS)
        self.pack.meta_keys = tuple(
            dict.fromkeys((*self.pack.meta_keys, *own, *meta_keys))
        )

    def transform(self, results: dict) -> dict:
        """Pack the sample.

        Args:
            results (dict): A paired sample.

        Returns:
            dict: `inputs` and `data_samples`.
        """
        require_one_size(results)
        imgs = [results[IMAGES][name] for name in results[MODALITIES]]
        # torch supports hardly any operation on uint16
        kind = np.uint8 if all(i.dtype == np.uint8 for i in imgs) else np.float32
        results[CHANNELS] = tuple(img.shape[2] for img in imgs)
        # channels first in memory, so that the packer need not copy
        stacked = np.empty((sum(results[CHANNELS]), *imgs[0].shape[:2]), kind)
        planes = iter(stacked)
        for img in imgs:
            img = img.astype(kind, copy=False)
            for channel in range(img.shape[2]):
                cv2.extractChannel(img, channel, next(planes))
        return self.pack.transform(results | {'img': stacked.transpose(1, 2, 0)})

    def __repr__(self) -> str:
        """Show the packing transform."""
        return f'{type(self).__name__}({self.pack})'
