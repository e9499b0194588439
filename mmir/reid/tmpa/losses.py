"""Losses of TMPA: specific features that differ, and that keep identities.

[1] "Transferring modality-aware pedestrian attentive learning for visible-infrared
person re-identification" (TMPA), arXiv 2312.07021, 2023.
[2] Q. Zhang, C. Lai, J. Liu, N. Huang and J. Han, "FMCNet: feature-level modality
compensation for visible-infrared person re-identification", CVPR 2022.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from mmir.registry import MODELS
from mmir.utils.errors import UserError


@MODELS.register_module()
class MSSLoss(nn.Module):
    """Modality shared-specific loss: features are pushed apart up to a margin.

    With specific features `s` and shared features `h` of length 1, and the centre
    `c` of the specific features of an identity p in one modality::

        inter = mean_p max(0, margin - |c_rgb,p - c_ir,p|)
        intra = mean_i max(0, margin - min_j |h_i - s_j|)
        loss = inter + intra

    j runs over all images of the batch. [1] says what is pushed apart; the hinges are
    those of FMCNet [2], and the margin is ours. Directions at right angles are 1.414
    apart, so the loss and its gradient end before that.

    Args:
        margin (float): Margin on the unit sphere, from 0 to 2.
        loss_weight (float): Weight of the loss.
    """

    def __init__(self, margin: float = 1.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.margin, self.loss_weight = margin, loss_weight

    def forward(
        self, shared: Tensor, specific: Tensor, labels: Tensor, is_rgb: Tensor
    ) -> Tensor:
        """Compute the loss, in at least float32.

        Args:
            shared (Tensor): Shared features (N, C).
            specific (Tensor): Features (N, C) of the branch of the own modality.
            labels (Tensor): Identities (N,), integers.
            is_rgb (Tensor): Whether the image is RGB (N,), bool; else it is infrared.

        Returns:
            Tensor: Scalar. Identities with one modality have no part in `inter`.

        Raises:
            UserError: The shapes do not fit.
        """
        _check(shared, specific, labels, is_rgb)
        shared, specific = _directions(shared), _directions(specific)
        # by differences: matrix products would cancel digits of close features
        exact = 'donot_use_mm_for_euclid_dist'
        apart = torch.cdist(shared, specific, compute_mode=exact).amin(1)
        rgb, has_rgb = _centers(specific, labels, is_rgb)
        ir, has_ir = _centers(specific, labels, ~is_rgb)
        # the images of an identity share its gap: each counts by its share
        images = (labels[:, None] == labels).sum(1)
        gaps = torch.linalg.vector_norm(rgb - ir, dim=1)
        inter = _mean((self.margin - gaps).clamp(min=0), (has_rgb & has_ir) / images)
        intra = (self.margin - apart).clamp(min=0).mean()
        return self.loss_weight * (inter + intra)


@MODELS.register_module()
class MSILoss(nn.Module):
    """Specific features, given and generated, that tell the identity.

    [1] names an MSI loss; its text was not at hand. This one follows the losses of
    FMCNet [2] for compensated features. In each modality, with given features s,
    generated ones s', a classifier P of the modality and the centre c of the given
    features of an identity::

        loss = CE(P(s)) + CE(P(s')) + mean |s' - c|

    Centres have no gradient. A batch norm without shift precedes each classifier.

    Args:
        num_classes (int): Number of training identities.
        in_channels (int): Channels C of the features.
        loss_weight (float): Weight of the loss.
    """

    def __init__(
        self, num_classes: int, in_channels: int, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.rgb, self.ir = (
            nn.Sequential(
                nn.BatchNorm1d(in_channels),
                nn.Linear(in_channels, num_classes, bias=False),
            )
            for _ in range(2)
        )
        for classifier in (self.rgb, self.ir):
            classifier[0].bias.requires_grad_(False)

    def forward(
        self, rgb: Tensor, ir: Tensor, labels: Tensor, is_rgb: Tensor
    ) -> Tensor:
        """Compute the loss, in at least float32.

        Args:
            rgb (Tensor): RGB features (N, C): given for RGB images, else generated.
            ir (Tensor): Infrared features (N, C), the other way round.
            labels (Tensor): Identities (N,), integers.
            is_rgb (Tensor): Whether the image is RGB (N,), bool; else it is infrared.

        Returns:
            Tensor: Scalar. Identities without a given feature in a modality have no
            part in the distance to its centre.

        Raises:
            UserError: The shapes do not fit.
        """
        _check(rgb, ir, labels, is_rgb)
        slots = ((self.rgb, rgb, is_rgb), (self.ir, ir, ~is_rgb))
        return self.loss_weight * sum(
            _keeps_identity(classify, features, labels, given)
            for classify, features, given in slots
        )


def _keeps_identity(
    classify: nn.Module, features: Tensor, labels: Tensor, given: Tensor
) -> Tensor:
    """The MSI loss of one modality."""
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    errors = cross_entropy(classify(features).float(), labels, reduction='none')
    centers, known = _centers(features.detach(), labels, given)
    distances = (features - centers).abs().mean(1)
    return (
        _mean(errors, given) + _mean(errors, ~given) + _mean(distances, ~given & known)
    )


def _check(first: Tensor, second: Tensor, labels: Tensor, is_rgb: Tensor) -> None:
    """Refuse features that do not fit each other."""
    rows = first.shape[:1]
    fits = first.shape == second.shape and labels.shape == rows == is_rgb.shape
    if first.ndim != 2 or not fits:
        raise UserError(
            f'two features (N, C) and labels and modalities (N,) are needed, got '
            f'{[tuple(x.shape) for x in (first, second, labels, is_rgb)]}; pool the '
            'feature maps by a neck'
        )


def _directions(features: Tensor) -> Tensor:
    """Features of length 1, in at least float32."""
    return normalize(features.to(torch.promote_types(features.dtype, torch.float32)))


def _centers(features: Tensor, labels: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """For each sample, the mean of the chosen features of its identity (N, C), and
    whether there are any (N,).

    By sample, since a list of the identities would have a size that depends on the
    data, for which a GPU waits.
    """
    members = (labels[:, None] == labels) & chosen
    count = members.sum(1)
    weights = members.to(features.dtype)
    # autocast would compute the product in half precision
    with torch.autocast(features.device.type, enabled=False):
        total = weights @ features
    return total / count.clamp(min=1)[:, None], count > 0


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values; 0 with a graph if there are none."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)
