"""Pixel-wise supervised contrastive learning.

[1] W. Wang et al., "Exploring cross-image pixel contrast for semantic segmentation",
ICCV 2021.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize

from mmir.registry import MODELS
from mmir.utils.errors import UserError

from .contrast_memory import ContrastMemory, Samples
from .contrast_sampling import resize_labels, sample_pixels


@MODELS.register_module()
class PixelContrastHead(nn.Module):
    """Projection of feature maps to embeddings of length 1, for training only.

    Each stage has a convolution 1x1, batch norm, ReLU and a convolution 1x1 to the
    embedding [1]. To give the modalities norms of their own, convert it by
    :class:`mmir.layers.ModalityNorm`.

    Args:
        in_channels (Sequence[int]): Channels of each stage.
        channels (int): Channels D of the embeddings.

    Raises:
        ValueError: There is no stage.
    """

    def __init__(self, in_channels: Sequence[int], channels: int = 256) -> None:
        super().__init__()
        if not in_channels:
            raise ValueError('in_channels is empty: give the channels of each stage')
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 1),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.Conv2d(width, channels, 1),
            )
            for width in in_channels
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Project the maps of the stages.

        Args:
            maps (Sequence[Tensor]): One map (N, C, h, w) per stage.

        Returns:
            list[Tensor]: Embeddings (N, D, h, w) of the same sizes, in at least
            float32.

        Raises:
            UserError: The number of maps is not that of the stages.
        """
        if len(maps) != len(self.stages):
            raise UserError(
                f'{len(maps)} maps for a projection of {len(self.stages)} stages: give '
                'in_channels one number per map'
            )
        projected = [stage(x) for stage, x in zip(self.stages, maps, strict=True)]
        return [normalize(_at_least_float(x), dim=1) for x in projected]


@MODELS.register_module()
class PixelContrastLoss(nn.Module):
    """Supervised contrastive loss between the pixels of a batch [1].

    For anchors a with positives P(a) of the same class, without a itself, and negatives
    N(a) of other classes, embeddings of length 1, temperature t and base temperature
    t0::

        loss = t/t0 mean_a mean_{p in P(a)}
               log(e^{a.p/t} + sum_{q in N(a)} e^{a.q/t}) - a.p/t

    The mean is over anchors that have positives. Anchors are drawn by
    :func:`sample_pixels`, with the random generator of PyTorch. The published code of
    [1] has the defaults below, and for the memory ``temperature=0.07``, ``max_views=1``
    and a weight of 1 in place of 0.1.

    Args:
        temperature (float): t.
        base_temperature (float): t0.
        max_samples (int): Most anchors of a batch.
        max_views (int): Most anchors of a class in an image. Classes with no more
            pixels than that in an image are left out there.
        ignore_index (int): Label of pixels that are never used.
        memory (Mapping, optional): Arguments of :class:`ContrastMemory`, whose
            embeddings are further positives and negatives. A loss with memory serves
            one stage of the network.

    Raises:
        ValueError: An argument is not positive.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        base_temperature: float = 0.07,
        max_samples: int = 1024,
        max_views: int = 100,
        ignore_index: int = 255,
        memory: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if min(temperature, base_temperature, max_samples, max_views) <= 0:
            raise ValueError(
                'temperature, base_temperature, max_samples and max_views must be '
                'positive'
            )
        self.temperature, self.base_temperature = temperature, base_temperature
        self.max_samples, self.max_views = max_samples, max_views
        self.ignore_index = ignore_index
        self.memory = ContrastMemory(**memory) if memory is not None else None

    def forward(
        self, embeddings: Tensor, labels: Tensor, predictions: Tensor
    ) -> Tensor:
        """Compute the loss, in at least float32.

        Args:
            embeddings (Tensor): Of length 1 along the channels, shape (N, D, h, w).
            labels (Tensor): Class indices (N, H, W). Resized to (h, w).
            predictions (Tensor): Predicted class indices (N, H', W'), as of
                ``logits.argmax(1)``. Resized to (h, w).

        Returns:
            Tensor: Scalar. 0 if no anchor has positives or none has negatives; it has a
            graph in any case, so that distributed training gets all gradients.

        Raises:
            UserError: The shapes do not fit.
        """
        anchors = self.sample(embeddings, labels, predictions)
        loss = self.compare(anchors, [anchors, *self.remembered()])
        self.remember(embeddings, labels)
        return loss

    def sample(
        self, embeddings: Tensor, labels: Tensor, predictions: Tensor
    ) -> Samples:
        """Draw anchors; for the arguments see :meth:`forward`."""
        _check_shapes(embeddings, labels, predictions)
        size = embeddings.shape[2:]
        labels = resize_labels(labels, size)
        drawn = sample_pixels(
            labels,
            resize_labels(predictions, size),
            self.max_samples,
            self.max_views,
            self.ignore_index,
        )
        pixels = size[0] * size[1]
        features = embeddings.flatten(2)[drawn // pixels, :, drawn % pixels]
        return Samples(_at_least_float(features), labels.flatten()[drawn])

    def compare(self, anchors: Samples, others: Sequence[Samples]) -> Tensor:
        """Compute the loss of anchors.

        Args:
            anchors (Samples): Anchors.
            others (Sequence[Samples]): What they are compared with. An entry that is
                `anchors` itself is compared without each anchor's pair with itself.

        Returns:
            Tensor: Scalar.
        """
        features, labels = anchors
        if not others:
            return features.sum() * 0  # connected to the graph
        with torch.autocast(features.device.type, enabled=False):
            similar = [features @ o.features.to(features).T for o in others]
            same = [labels[:, None] == o.labels for o in others]
            positive = [
                s & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
                if other is anchors
                else s
                for s, other in zip(same, others, strict=True)
            ]
            loss = contrast_rows(
                torch.cat(similar, 1) / self.temperature,
                torch.cat(positive, 1),
                ~torch.cat(same, 1),
            )
        return self.temperature / self.base_temperature * loss

    def remembered(self) -> list[Samples]:
        """Return the contents of the memory, as a list of one; [] without memory."""
        return [] if self.memory is None else [self.memory.contents()]

    def remember(self, embeddings: Tensor, labels: Tensor) -> None:
        """Put a batch into the memory, if there is one and the module is training."""
        if self.memory is not None and self.training:
            labels = resize_labels(labels, embeddings.shape[2:])
            self.memory.update(embeddings, labels, self.ignore_index)


def contrast_weight(iteration: int, weight: float, warmup: int) -> float:
    """Weight of the contrastive loss in an iteration.

    Args:
        iteration (int): Iteration, from 0.
        weight (float): Weight after the warm-up.
        warmup (int): Iterations in which the loss is multiplied by 0. It is computed
            all the same, so that the projection gets gradients on all ranks.

    Returns:
        float: `weight`, or 0.0.
    """
    return weight if iteration >= warmup else 0.0


def contrast_rows(logits: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Mean over the rows with positives of their mean contrastive loss.

    Args:
        logits (Tensor): Similarity of n anchors to k samples (n, k), divided by the
            temperature.
        positive (Tensor): Pairs to pull together (n, k), bool.
        negative (Tensor): Pairs to push apart (n, k), bool.

    Returns:
        Tensor: Scalar, without the factor t/t0. 0 if no row has positives.
    """
    # not -inf: for a row without negatives the backward would compute inf - inf
    lowest = torch.finfo(logits.dtype).min
    pushed = logits.masked_fill(~negative, lowest).logsumexp(1, keepdim=True)
    # log(e^s + e^pushed) - s
    pairs = -logsigmoid(logits - pushed)
    count = positive.sum(1)
    rows = (pairs * positive).sum(1) / count.clamp(min=1)
    return rows.sum() / (count > 0).sum().clamp(min=1)


def _at_least_float(x: Tensor) -> Tensor:
    """Cast half precision to float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _check_shapes(embeddings: Tensor, labels: Tensor, predictions: Tensor) -> None:
    """Raise if three tensors are not embeddings, labels and predictions of a batch."""
    shapes = [tuple(x.shape) for x in (embeddings, labels, predictions)]
    lengths = {len(shape) and shape[0] for shape in shapes}
    if [len(shape) for shape in shapes] != [4, 3, 3] or len(lengths) > 1:
        raise UserError(
            'embeddings, labels and predictions must have the shapes (N, D, h, w), '
            f'(N, H, W) and (N, H, W), got {shapes}: give logits.argmax(1) for '
            'logits, and labels.squeeze(1) for labels with a channel'
        )
