"""`VIReID`: a model of mmpretrain that knows the modality of each image."""

from collections.abc import Sequence
from typing import Any

from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor

from mmir.registry import MODELS
from mmir.utils.errors import UserError


@MODELS.register_module()
class VIReID(ImageClassifier):
    """Image classifier whose backbone is told the modality of each image.

    For :class:`mmir.reid.TwoStemBackbone`. Configured as mmpretrain's
    `ImageClassifier`; samples must have `modality`, which PackInputs keeps with
    `meta_keys=('sample_idx', 'img_path', 'pid', 'cam_id', 'modality')`.
    """

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[DataSample] | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """Run the model; see mmpretrain's `ImageClassifier`.

        Args:
            inputs (Tensor): Images (N, C, H, W).
            data_samples (Sequence[DataSample], optional): Samples with `modality`.
            mode (str): 'tensor', 'loss' or 'predict'.

        Returns:
            Any: Logits, losses or samples.

        Raises:
            UserError: Samples are missing, or one lacks `modality`.
        """
        if mode != 'tensor':
            return super().forward(inputs, data_samples, mode)
        feats = self.extract_feat(inputs, data_samples=data_samples)
        return self.head(feats) if self.with_head else feats

    def extract_feat(
        self,
        inputs: Tensor,
        stage: str = 'neck',
        data_samples: Sequence[DataSample] | None = None,
    ) -> Any:
        """Compute features.

        Args:
            inputs (Tensor): Images (N, C, H, W).
            stage (str): Whose output: 'backbone', 'neck' or 'pre_logits'.
            data_samples (Sequence[DataSample], optional): Samples with `modality`.

        Returns:
            Any: Tuple of maps or of pooled features; of 'pre_logits', (N, C).

        Raises:
            UserError: Samples are missing, one lacks `modality`, or the stage is
                unknown.
        """
        if stage not in ('backbone', 'neck', 'pre_logits'):
            raise UserError(
                f"stage={stage!r}: choose one of 'backbone', 'neck', 'pre_logits'"
            )
        feats = self.backbone(inputs, _modalities(data_samples))
        if stage == 'backbone':
            return feats
        feats = self.neck(feats) if self.with_neck else feats
        return feats if stage == 'neck' else self.head.pre_logits(feats)

    def loss(
        self, inputs: Tensor, data_samples: Sequence[DataSample]
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            inputs (Tensor): Images (N, C, H, W).
            data_samples (Sequence[DataSample]): Samples with `modality` and `gt_label`.

        Returns:
            dict[str, Tensor]: Losses of the head.
        """
        feats = self.extract_feat(inputs, data_samples=data_samples)
        return self.head.loss(feats, data_samples)

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
            list[DataSample]: Samples with what the head adds.
        """
        feats = self.extract_feat(inputs, data_samples=data_samples)
        return self.head.predict(feats, data_samples, **kwargs)


def _modalities(samples: Sequence[DataSample] | None) -> list[str]:
    """Modality of each sample."""
    if not samples or any('modality' not in sample for sample in samples):
        raise UserError(
            'this model has a stem per modality and needs to know which image is of '
            "which: give it data_samples with `modality` ('rgb' or 'ir'). In a "
            "pipeline, dict(type='PackInputs', meta_keys=('sample_idx', 'img_path', "
            "'pid', 'cam_id', 'modality')) keeps it"
        )
    return [sample.modality for sample in samples]
