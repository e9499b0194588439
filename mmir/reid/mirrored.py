"""`MirroredVIReID`: features of an image and of its mirror image."""

from collections.abc import Sequence
from typing import Any

from mmpretrain.structures import DataSample
from torch import Tensor

from mmir.registry import MODELS

from .vireid import VIReID


@MODELS.register_module()
class MirroredVIReID(VIReID):
    """:class:`VIReID` that adds the features of the mirror image at test time.

    As in the public evaluation of near-infrared face recognition (insightface,
    `recognition/idmmd`).
    """

    def predict(
        self,
        inputs: Tensor,
        data_samples: Sequence[DataSample] | None = None,
        **kwargs: Any,
    ) -> list[DataSample]:
        """Compute the features of a batch.

        Args:
            inputs (Tensor): Images (N, C, H, W).
            data_samples (Sequence[DataSample], optional): Samples with `modality`.
            **kwargs: Arguments of `predict` of the head.

        Returns:
            list[DataSample]: Samples with `feature` and `pooled`, the sums of those of
            the image and of its mirror image.
        """
        found = super().predict(inputs, data_samples, **kwargs)
        kept = [(sample.feature, sample.pooled) for sample in found]
        found = super().predict(inputs.flip(-1), data_samples, **kwargs)
        for sample, (feature, pooled) in zip(found, kept, strict=True):
            sample.set_field(feature + sample.feature, 'feature')
            sample.set_field(pooled + sample.pooled, 'pooled')
        return found
