"""`VIReIDHead`: a batch norm between metric losses and the identity classifier.

[1] H. Luo, Y. Gu, X. Liao, S. Lai and W. Jiang, "Bag of tricks and a strong baseline
for deep person re-identification", CVPR Workshops 2019 (BNNeck).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmpretrain.models.heads import ClsHead
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmir.registry import MODELS


@MODELS.register_module()
class VIReIDHead(ClsHead):
    """BNNeck head [1]: metric losses on pooled features, identity loss after a norm.

    The pooled feature goes to the metric losses. A batch norm without shift and a
    linear classifier without bias follow, for the identity loss. At test time, each
    sample gets two features, of which :class:`mmir.evaluation.VIReIDMetric` reads the
    one it is told to:

    - `feature` (C,), after the norm;
    - `pooled` (C,), before it.

    Args:
        num_classes (int): Number of training identities.
        in_channels (int): Channels C of the pooled feature.
        loss (Mapping, optional): Identity loss, such as mmpretrain's `LabelSmoothLoss`.
            Default: cross entropy.
        metric (Mapping, optional): Name -> metric loss, such as
            `dict(wrt=dict(type='mmir.WRTLoss'))`. The log shows it as `loss_wrt`.
        init_cfg (Mapping): Initialization. Default: that of AGW.
        **kwargs: Arguments of mmpretrain's `ClsHead`.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        loss: Mapping[str, Any] | None = None,
        metric: Mapping[str, Mapping[str, Any]] | None = None,
        init_cfg: Mapping[str, Any] = dict(type='Normal', layer='Linear', std=0.001),
        **kwargs: Any,
    ) -> None:
        loss = dict(loss or dict(type='mmpretrain.CrossEntropyLoss'))
        super().__init__(loss=loss, init_cfg=init_cfg, **kwargs)
        self.bn = nn.BatchNorm1d(in_channels)
        self.bn.bias.requires_grad_(False)
        self.fc = nn.Linear(in_channels, num_classes, bias=False)
        built = {name: MODELS.build(cfg) for name, cfg in (metric or {}).items()}
        self.metric = nn.ModuleDict(built)

    def pre_logits(self, feats: Sequence[Tensor]) -> Tensor:
        """Normalize the pooled feature.

        Args:
            feats (Sequence[Tensor]): Pooled features; the last (N, C) is used.

        Returns:
            Tensor: Shape (N, C).
        """
        return self.bn(feats[-1])

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Classify.

        Args:
            feats (Sequence[Tensor]): Pooled features; the last (N, C) is used.

        Returns:
            Tensor: Logits (N, num_classes).
        """
        return self.fc(self.pre_logits(feats))

    def loss(
        self, feats: Sequence[Tensor], data_samples: Sequence[DataSample], **kwargs: Any
    ) -> dict[str, Tensor]:
        """Compute the losses.

        Args:
            feats (Sequence[Tensor]): Pooled features; the last (N, C) is used.
            data_samples (Sequence[DataSample]): Samples with `gt_label`.
            **kwargs: Arguments of the identity loss.

        Returns:
            dict[str, Tensor]: `loss_id`, `loss_<name>` of each metric loss, and
            accuracies if `cal_acc` is on.
        """
        losses = super().loss(feats, data_samples, **kwargs)
        losses = {'loss_id': losses.pop('loss'), **losses}
        labels = torch.cat([sample.gt_label for sample in data_samples])
        for name, metric in self.metric.items():
            losses[f'loss_{name}'] = metric(feats[-1], labels)
        return losses

    def predict(
        self,
        feats: Sequence[Tensor],
        data_samples: Sequence[DataSample] | None = None,
    ) -> list[DataSample]:
        """Write the features of a batch to its samples.

        Args:
            feats (Sequence[Tensor]): Pooled features; the last (N, C) is used.
            data_samples (Sequence[DataSample], optional): Samples. Default: new ones.

        Returns:
            list[DataSample]: Samples with `feature` and `pooled`.
        """
        pooled = feats[-1]
        samples = list(data_samples or [DataSample() for _ in pooled])
        rows = zip(samples, self.pre_logits(feats), pooled, strict=True)
        for sample, feature, before in rows:
            sample.set_field(feature, 'feature')
            sample.set_field(before, 'pooled')
        return samples
