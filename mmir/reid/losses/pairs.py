"""Distances and labels of all pairs of a batch."""

import torch
from torch import Tensor

from mmir.utils.errors import UserError


def all_pairs(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Compare each sample of a batch with each.

    Args:
        features (Tensor): Features (N, C), of any floating type.
        labels (Tensor): Identities (N,), integers.

    Returns:
        tuple[Tensor, Tensor]: Euclidean distances (N, N) in at least float32, with
        gradient 0 where the distance is 0; and which pairs show the same identity
        (N, N), bool.

    Raises:
        UserError: The shapes do not fit.
    """
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise UserError(
            f'metric losses need features (N, C) and labels (N,), got '
            f'{tuple(features.shape)} and {tuple(labels.shape)}; pool the feature map '
            'by a neck'
        )
    x = features.to(torch.promote_types(features.dtype, torch.float32))
    # by differences: matrix products would cancel digits of close features
    distances = torch.cdist(x, x, compute_mode='donot_use_mm_for_euclid_dist')
    return distances, labels[:, None] == labels[None]


def mean_of_anchors(values: Tensor, same: Tensor) -> Tensor:
    """Mean over the anchors that have a negative.

    Args:
        values (Tensor): Loss of each anchor (N,).
        same (Tensor): Which pairs show the same identity (N, N), bool.

    Returns:
        Tensor: Scalar; 0 with a graph if the batch shows a single identity.
    """
    valid = (~same).any(1)
    return (values * valid).sum() / valid.sum().clamp(min=1)
