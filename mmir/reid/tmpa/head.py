"""`TMPAHead`: the BNNeck head with the losses of shared and specific features."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmir.registry import MODELS
from mmir.reid.heads import VIReIDHead


@MODELS.register_module()
class TMPAHead(VIReIDHead):
    """:class:`VIReIDHead` on the fused feature, with the losses of TMPA.

    An identity loss on the shared feature, with a batch norm and a classifier of its
    own, and the losses MSS and MSI add to those of the fused feature. Retrieval uses
    the fused feature.

    Args:
        num_classes (int): Number of training identities.
        in_channels (int): Channels of the fused feature.
        branch_channels (int): Channels C of the shared feature and of each specific
            one.
        mss (Mapping): Config of :class:`MSSLoss`.
        msi (Mapping): Config of :class:`MSILoss`, without its sizes.
        **kwargs: Arguments of :class:`VIReIDHead`, such as `metric`.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        branch_channels: int,
        mss: Mapping[str, Any],
        msi: Mapping[str, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        self.shared_bn = nn.BatchNorm1d(branch_channels)
        self.shared_bn.bias.requires_grad_(False)
        self.shared_fc = nn.Linear(branch_channels, num_classes, bias=False)
        self.mss = MODELS.build(mss)
        sizes = dict(num_classes=num_classes, in_channels=branch_channels)
        self.msi = MODELS.build({**msi, **sizes})

    def loss(
        self, feats: Sequence[Tensor], data_samples: Sequence[DataSample], **kwargs: Any
    ) -> dict[str, Tensor]:
        """Compute the losses.

        Args:
            feats (Sequence[Tensor]): What :class:`CompleteNeck` returns: the shared,
                the RGB and the infrared feature (N, C), and the fused one.
            data_samples (Sequence[DataSample]): Samples with `gt_label` and `modality`.
            **kwargs: Arguments of the identity loss of the fused feature.

        Returns:
            dict[str, Tensor]: Losses of :class:`VIReIDHead`, `loss_shared`, `loss_mss`
            and `loss_msi`.
        """
        losses = super().loss(feats, data_samples, **kwargs)
        shared, rgb, ir = feats[:3]
        labels = torch.cat([sample.gt_label for sample in data_samples])
        given = [sample.modality == 'rgb' for sample in data_samples]
        is_rgb = torch.tensor(given, device=shared.device)
        own = torch.where(is_rgb[:, None], rgb, ir)
        scores = self.shared_fc(self.shared_bn(shared))
        losses['loss_shared'] = cross_entropy(scores, labels)
        losses['loss_mss'] = self.mss(shared, own, labels, is_rgb)
        losses['loss_msi'] = self.msi(rgb, ir, labels, is_rgb)
        return losses
