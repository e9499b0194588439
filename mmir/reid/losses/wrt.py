"""`WRTLoss`: weighted regularized triplet loss.

[1] M. Ye, J. Shen, G. Lin, T. Xiang, L. Shao and S. Hoi, "Deep learning for person
re-identification: a survey and outlook", TPAMI 2021 (AGW).
[2] M. Ye, W. Ruan, B. Du and M. Z. Shou, "Channel augmented joint learning for
visible-infrared recognition", ICCV 2021 (CAJ).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from mmir.registry import MODELS

from .pairs import all_pairs, mean_of_anchors

_EPS, _MOST = 1e-6, 88.0  # constants of the released code


@MODELS.register_module()
class WRTLoss(nn.Module):
    """Weighted regularized triplet loss [1], without a margin.

    With Euclidean distances d of anchor i to its positives P (itself included) and its
    negatives N::

        loss = mean_i log(1 + exp(sum_P w+ d - sum_N w- d))
        w+ = softmax over P of d,   w- = softmax over N of -d

    The loss is ln 2 = 0.693 when all features are equal.

    The released code computes the softmax of the negatives without subtracting their
    maximum, and adds 1e-6 to its denominator. Once the nearest negative is about 14
    away, which features of 2048 channels are soon, `sum_N w- d` falls to 0, and the
    loss only contracts all features. `legacy=True` computes this, for comparisons with
    published numbers.

    Args:
        squared (bool): Take the exponent times its absolute value, as in [2].
        legacy (bool): Compute the weights as the released code does; the square is
            then at most 88, beyond which there is no gradient.
        loss_weight (float): Weight of the loss.
    """

    def __init__(
        self, squared: bool = False, legacy: bool = False, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.squared, self.legacy, self.loss_weight = squared, legacy, loss_weight

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss, in at least float32.

        Args:
            features (Tensor): Features (N, C), not normalized.
            labels (Tensor): Identities (N,), integers.

        Returns:
            Tensor: Scalar, the mean over the anchors that have negatives; 0 if none
            has.

        Raises:
            UserError: The shapes do not fit.
        """
        distances, same = all_pairs(features, labels)
        weights = _released_weights if self.legacy else _weights
        far = (weights(distances, same) * distances).sum(1)
        near = (weights(-distances, ~same) * distances).sum(1)
        gap = far - near
        if self.squared:
            square = gap.square().clamp(max=_MOST) if self.legacy else gap.square()
            gap = gap.sign() * square
        return self.loss_weight * mean_of_anchors(softplus(gap), same)


def _weights(values: Tensor, mask: Tensor) -> Tensor:
    """Softmax of each row over its mask."""
    least = torch.finfo(values.dtype).min  # -inf would give NaN in an empty row
    return values.masked_fill(~mask, least).softmax(1) * mask


def _released_weights(values: Tensor, mask: Tensor) -> Tensor:
    """Softmax of the released code: shifted by the maximum over zeros as well."""
    shift = (values * mask).amax(1, keepdim=True)
    powers = (values * mask - shift).exp() * mask
    return powers / (powers.sum(1, keepdim=True) + _EPS)
