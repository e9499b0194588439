"""`TOPClassifier` and `TOPHead`: task-oriented pretraining on two views of an image.

[1] "TOPLight: lightweight neural networks with task-oriented pretraining for
visible-infrared recognition", CVPR 2023.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from mmpretrain.models.classifiers import BaseClassifier
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmir.registry import MODELS
from mmir.utils.errors import UserError


@MODELS.register_module()
class TOPHead(BaseModule):
    """A classifier that both paths share, with the losses of [1].

    Args:
        num_classes (int): Number of classes.
        in_channels (int): Channels after block 7.
        identity (Mapping): Config of :class:`IdentityConsistencyLoss`.
        domain (Mapping, optional): Config of :class:`FakeDomainLoss`. Default: none.
        init_cfg (Mapping): Initialization of the classifier.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        identity: Mapping[str, Any],
        domain: Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] = dict(type='Normal', layer='Linear', std=0.01),
    ) -> None:
        super().__init__(init_cfg)
        self.fc = nn.Linear(in_channels, num_classes)
        self.identity = MODELS.build(identity)
        self.domain = MODELS.build(domain) if domain else None

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Classify the views.

        Args:
            maps (Sequence[Tensor]): Maps after blocks 4 and 7, of N views of path 'rgb'
                and then of N views of path 'ir'.

        Returns:
            tuple[Tensor, Tensor]: Logits (N, num_classes) of each path.
        """
        first, second = self.fc(maps[-1].mean((2, 3))).chunk(2)
        return first, second

    def loss(
        self, maps: Sequence[Tensor], data_samples: Sequence[DataSample]
    ) -> dict[str, Tensor]:
        """Compute the losses.

        Args:
            maps (Sequence[Tensor]): See :meth:`forward`.
            data_samples (Sequence[DataSample]): N samples with `gt_label`.

        Returns:
            dict[str, Tensor]: `loss_identity` and, if it is on, `loss_domain`.
        """
        labels = torch.cat([sample.gt_label for sample in data_samples])
        losses = dict(loss_identity=self.identity(*self(maps), labels))
        if self.domain is not None:
            is_ir = torch.arange(len(maps[-1]), device=labels.device) >= len(labels)
            losses['loss_domain'] = self.domain(*maps, is_ir)
        return losses

    def predict(
        self, maps: Sequence[Tensor], data_samples: Sequence[DataSample]
    ) -> list[DataSample]:
        """Write the mean score of both views to the samples.

        Args:
            maps (Sequence[Tensor]): See :meth:`forward`.
            data_samples (Sequence[DataSample]): N samples.

        Returns:
            list[DataSample]: Samples with `pred_score` and `pred_label`.
        """
        scores = sum(logits.softmax(1) for logits in self(maps)) / 2
        for sample, score in zip(data_samples, scores, strict=True):
            sample.set_pred_score(score).set_pred_label(score.argmax())
        return [*data_samples]


@MODELS.register_module()
class TOPClassifier(BaseClassifier):
    """Classifier of task-oriented pretraining [1]: a view of each image for each path.

    mmpretrain's `MultiView` makes the views: the first for path 'rgb', the second for
    path 'ir'.

    Args:
        backbone (Mapping): Config of a :class:`DualPathBackbone`.
        head (Mapping): Config of :class:`TOPHead`.
        data_preprocessor (Mapping): Config of mmpretrain's `SelfSupDataPreprocessor`.
        init_cfg (Mapping, optional): See mmengine's `BaseModule`.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        head: Mapping[str, Any],
        data_preprocessor: Mapping[str, Any],
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg, data_preprocessor)
        self.backbone, self.head = MODELS.build(backbone), MODELS.build(head)

    def forward(
        self,
        inputs: Sequence[Tensor],
        data_samples: Sequence[DataSample] | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """Run the model.

        Args:
            inputs (Sequence[Tensor]): Views of both paths, each (N, 3, H, W).
            data_samples (Sequence[DataSample], optional): N samples.
            mode (str): 'tensor', 'loss' or 'predict'.

        Returns:
            Any: Logits of both paths, losses, or samples.

        Raises:
            UserError: There are no two views, or the mode is unknown.
        """
        if mode == 'tensor':
            return self.head(self.extract_feat(inputs))
        if mode not in ('loss', 'predict'):
            raise UserError(f"mode={mode!r}: use 'tensor', 'loss' or 'predict'")
        return getattr(self, mode)(inputs, data_samples)

    def extract_feat(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the maps of both views.

        Args:
            inputs (Sequence[Tensor]): Views of both paths, each (N, 3, H, W).

        Returns:
            tuple[Tensor, ...]: Maps after blocks 4 and 7 of 2N views, path 'rgb' first.

        Raises:
            UserError: There are no two views.
        """
        if isinstance(inputs, Tensor) or len(inputs) != 2:
            raise UserError(
                'task-oriented pretraining needs two views of each image: use '
                "dict(type='MultiView', num_views=[1, 1], transforms=[[...], [...]]) "
                "and data_preprocessor=dict(type='SelfSupDataPreprocessor', ...)"
            )
        names = ['rgb'] * len(inputs[0]) + ['ir'] * len(inputs[1])
        return self.backbone(torch.cat(tuple(inputs)), names)

    def loss(
        self, inputs: Sequence[Tensor], data_samples: Sequence[DataSample]
    ) -> dict[str, Tensor]:
        """Compute the losses, see :meth:`TOPHead.loss`.

        Args:
            inputs (Sequence[Tensor]): Views of both paths, each (N, 3, H, W).
            data_samples (Sequence[DataSample]): N samples.

        Returns:
            dict[str, Tensor]: The losses.
        """
        return self.head.loss(self.extract_feat(inputs), data_samples)

    def predict(
        self, inputs: Sequence[Tensor], data_samples: Sequence[DataSample]
    ) -> list[DataSample]:
        """Classify, see :meth:`TOPHead.predict`.

        Args:
            inputs (Sequence[Tensor]): Views of both paths, each (N, 3, H, W).
            data_samples (Sequence[DataSample]): N samples.

        Returns:
            list[DataSample]: The samples, with predictions.
        """
        return self.head.predict(self.extract_feat(inputs), data_samples)
