"""`HardTripletLoss`: triplet loss of the hardest samples of a batch.

[1] A. Hermans, L. Beyer and B. Leibe, "In defense of the triplet loss for person
re-identification", arXiv 1703.07737, 2017.
"""

from torch import Tensor, nn

from mmir.registry import MODELS

from .pairs import all_pairs, mean_of_anchors


@MODELS.register_module()
class HardTripletLoss(nn.Module):
    """Batch-hard triplet loss [1].

    `mean_i max(0, margin + max_P d - min_N d)`, with Euclidean distances d of anchor i
    to its positives P and its negatives N.

    Args:
        margin (float): Margin, in the unit of the features.
        loss_weight (float): Weight of the loss.
    """

    def __init__(self, margin: float = 0.3, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.margin, self.loss_weight = margin, loss_weight

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
        far = distances.masked_fill(~same, 0).amax(1)
        near = distances.masked_fill(same, float('inf')).amin(1)
        near = near.masked_fill(same.all(1), 0)
        loss = (self.margin + far - near).clamp(min=0)
        return self.loss_weight * mean_of_anchors(loss, same)
