"""`FeatureMetric`: collects the features of the images of a test loader once."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_world_size
from mmengine.evaluator import BaseMetric

from mmir.utils.errors import UserError

FIELDS = ('pid', 'cam_id', 'modality', 'img_path')
"""What a sample must hold besides its feature."""


class FeatureMetric(BaseMetric):
    """Base of metrics that compare the features of all images.

    Padded samples of distributed loaders count once: images are told apart by their
    path. An image that is missing is an error.

    Args:
        feature: Field of a sample that holds its feature (C,).
        collect_device: Device to gather results on: 'cpu' or 'gpu'.
        prefix: Prefix of the names.
    """

    def __init__(
        self, feature: str, collect_device: str = 'cpu', prefix: str | None = None
    ) -> None:
        super().__init__(collect_device, prefix)
        self.feature, self.size = feature, 0

    def process(self, data_batch: Any, data_samples: Sequence[Mapping]) -> None:
        """Keep features and labels of a batch.

        Args:
            data_batch (Any): Unused.
            data_samples (Sequence[Mapping]): Samples as dictionaries, with the feature
                (C,) and `pid`, `cam_id`, `modality`, `img_path`.

        Raises:
            UserError: A sample lacks a field.
        """
        for sample in data_samples:
            gone = [name for name in (self.feature, *FIELDS) if name not in sample]
            if gone:
                raise UserError(
                    f'samples of the test loader lack {", ".join(gone)}. The model '
                    f'adds {self.feature!r}; the others need meta_keys={FIELDS} in '
                    'PackInputs'
                )
        found = [torch.as_tensor(s[self.feature]).flatten() for s in data_samples]
        # one copy to the host for the whole batch
        features = torch.stack(found).detach().float().cpu().numpy() if found else []
        for feature, sample in zip(features, data_samples, strict=True):
            self.results.append((feature, *(sample[name] for name in FIELDS)))

    def evaluate(self, size: int) -> dict[str, float]:
        """Evaluate what was collected; see mmengine's `BaseMetric`.

        Args:
            size (int): Number of samples of the dataset.

        Returns:
            dict[str, float]: Name -> value in percent.
        """
        self.size, world = size, get_world_size()
        # room for the padding, which is told apart below
        return super().evaluate(-(-size // world) * world)

    def unique(self, results: list[tuple]) -> tuple[list[tuple], np.ndarray]:
        """Drop padded samples.

        Args:
            results (list[tuple]): Feature and labels of every sample, with padding.

        Returns:
            tuple[list[tuple], np.ndarray]: Feature and labels of every image, and the
            features (N, C), float32.

        Raises:
            UserError: Images are missing.
        """
        unique = list({row[-1]: row for row in results}.values())
        if len(unique) != self.size:
            raise UserError(
                f'{len(unique)} different images were collected from a dataset of '
                f'{self.size}. Use DefaultSampler with shuffle=False for the test '
                'loader, and list every image once'
            )
        return unique, np.stack([row[0] for row in unique])
