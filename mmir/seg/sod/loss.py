"""Loss of salient-object detection: binary cross-entropy and soft IoU."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from mmir.registry import MODELS


@MODELS.register_module()
class SODLoss(nn.Module):
    """Binary cross-entropy plus soft IoU of a one-channel map.

    For probabilities p = sigmoid(logits) and a mask g, sums over the pixels of an
    image::

        I = sum(p g),  U = sum(p + g)
        loss = mean BCE(p, g) + mean over images of 1 - (I + 1) / (U - I + 1)

    This is the loss of the published IV-tuning code (arXiv 2412.16654). The added 1
    gives a loss of 0 for an empty mask and an empty map.

    Args:
        loss_weight (float): Factor of the loss.
        loss_name (str): Name in the log; names that begin with `loss` are trained.
    """

    def __init__(self, loss_weight: float = 1.0, loss_name: str = 'loss_sod') -> None:
        super().__init__()
        self.loss_weight, self.loss_name = loss_weight, loss_name

    def forward(
        self,
        logits: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        ignore_index: int | None = 255,
        **_: Any,
    ) -> Tensor:
        """Compute the loss.

        Args:
            logits (Tensor): Shape (N, 1, H, W), before the sigmoid.
            label (Tensor): Shape (N, H, W), 1 for salient, 0 for background.
            weight (Tensor, optional): Weight of each pixel (N, H, W), in both terms.
            ignore_index (int, optional): Label of pixels to leave out.

        Returns:
            Tensor: Scalar. 0 if every pixel is left out.

        Raises:
            ValueError: The logits have more than one channel.
        """
        if logits.shape[1] != 1:
            raise ValueError(
                f'SODLoss takes one channel, got {logits.shape[1]}: set out_channels=1'
            )
        # sums over an image overflow in half precision
        logits = logits.squeeze(1).float()
        valid = torch.ones_like(logits) if weight is None else weight.float()
        if ignore_index is not None:
            valid = valid * (label != ignore_index)
        target = (label == 1).float()
        entropy = binary_cross_entropy_with_logits(
            logits, target, valid, reduction='sum'
        )
        probability, target = logits.sigmoid() * valid, target * valid
        # weight each pixel once: `valid` is in both factors of the product
        shared = (logits.sigmoid() * target).flatten(1).sum(1)
        both = (probability + target).flatten(1).sum(1)
        overlap = 1 - (shared + 1) / (both - shared + 1)
        loss = entropy / valid.sum().clamp(min=1) + overlap.mean()
        return self.loss_weight * loss
