"""Mix paired samples: Mosaic, MixUp, CopyPaste."""

from typing import Any

from mmdet.datasets import MultiImageMixDataset

from mmir.registry import DATASETS


@DATASETS.register_module()
class PairedMixDataset(MultiImageMixDataset):
    """mmdet's `MultiImageMixDataset` that sees through `PairedTransform`.

    Hooks such as `YOLOXModeSwitchHook` switch mixing transforms off by their type; here
    the type of a `PairedTransform` is that of the transform inside.

    Args:
        *args: Arguments of mmdet's `MultiImageMixDataset`.
        **kwargs: The same.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for k, transform in enumerate(self.pipeline):
            inner = getattr(transform, 'transforms', [])
            if self.pipeline_types[k].endswith('PairedTransform') and len(inner) == 1:
                self.pipeline_types[k] = type(inner[0]).__name__
