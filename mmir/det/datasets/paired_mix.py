"""Mixing of paired samples: Mosaic, MixUp, CopyPaste."""

from collections.abc import Sequence
from typing import Any

from mmdet.datasets import MultiImageMixDataset

from mmir.registry import DATASETS
from mmir.transforms import PairedTransform


@DATASETS.register_module()
class PairedMixDataset(MultiImageMixDataset):
    """mmdet's `MultiImageMixDataset` for transforms inside `PairedTransform`.

    Hooks such as `YOLOXModeSwitchHook` disable mixing transforms by type. Here the type
    of a `PairedTransform` is that of the transform inside. Scopes do not count.

    Args:
        *args: Arguments of mmdet's `MultiImageMixDataset`.
        **kwargs: Arguments of mmdet's `MultiImageMixDataset`.

    Raises:
        ValueError: A transform to skip shares its `PairedTransform` with others.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for k, transform in enumerate(self.pipeline):
            paired = isinstance(transform, PairedTransform)
            inside = transform.transforms if paired else [transform]
            self.pipeline_types[k] = ', '.join(type(t).__name__ for t in inside)
        self.update_skip_type_keys(self._skip_type_keys or ())

    def update_skip_type_keys(self, skip_type_keys: Sequence[str]) -> None:
        """Set which transforms to skip from now on.

        Args:
            skip_type_keys (Sequence[str]): Transform types.
        """
        skip_type_keys = [key.rpartition('.')[2] for key in skip_type_keys]
        for inside in self.pipeline_types:
            shared = set(inside.split(', ')).intersection(skip_type_keys)
            if shared and ', ' in inside:
                raise ValueError(
                    f'PairedMixDataset: {sorted(shared)} cannot be skipped, because '
                    f'they share a PairedTransform with others ({inside}). Give them '
                    'one of their own'
                )
        super().update_skip_type_keys(skip_type_keys)
