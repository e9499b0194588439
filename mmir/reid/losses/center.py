"""`CenterLoss`: features close to the centre of their identity.

[1] Y. Wen, K. Zhang, Z. Li and Y. Qiao, "A discriminative feature learning approach for
deep face recognition", ECCV 2016.
"""

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from mmir.registry import MODELS
from mmir.utils.errors import UserError


@MODELS.register_module()
class CenterLoss(nn.Module):
    """Half the mean squared distance to the centre of the identity (eq. 2 of [1]).

    The centres are no parameters. Each training step moves those of its identities by
    `rate * sum(x - c) / (1 + n)` over the n samples of the identity, of all processes
    (eq. 4 of [1]). They begin at 0.

    Args:
        num_classes (int): Number of identities.
        in_channels (int): Channels C of the features.
        rate (float): Step of the centres, from 0 to 1.
        loss_weight (float): Weight of the loss.
    """

    centers: Tensor

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        rate: float = 0.5,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.rate, self.loss_weight = rate, loss_weight
        self.register_buffer('centers', torch.zeros(num_classes, in_channels))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss with the centres as they are; in training, move them then.

        Args:
            features (Tensor): Features (N, C).
            labels (Tensor): Identities (N,), integers from 0 to `num_classes` - 1.

        Returns:
            Tensor: Scalar, in at least float32.

        Raises:
            UserError: The features have another number of channels.
        """
        if features.shape[1:] != self.centers.shape[1:]:
            raise UserError(
                f'features {tuple(features.shape)} do not fit in_channels='
                f'{self.centers.shape[1]} of CenterLoss'
            )
        x = features.to(torch.promote_types(features.dtype, self.centers.dtype))
        offsets = x - self.centers[labels]
        if self.training and torch.is_grad_enabled():
            self._move(offsets.detach(), labels)
        return self.loss_weight * offsets.square().sum(1).mean() / 2

    def _move(self, offsets: Tensor, labels: Tensor) -> None:
        """Move the centres towards their samples."""
        offsets = offsets.to(self.centers.dtype)
        total = torch.zeros_like(self.centers).index_add_(0, labels, offsets)
        count = torch.bincount(labels, minlength=len(total)).to(total.dtype)
        all_reduce(total)
        all_reduce(count)
        self.centers += self.rate * total / (1 + count[:, None])
