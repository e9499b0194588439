"""`ContrastMemory`: embeddings of former batches as further positives and negatives."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from .contrast_sampling import groups_of, ranks, shuffle


class Samples(NamedTuple):
    """Embeddings and their classes.

    Attributes:
        features: Shape (n, D).
        labels: Class indices (n,), int64.
    """

    features: Tensor
    labels: Tensor


class _Queue(nn.Module):
    """Ring buffer per class; the oldest embeddings are overwritten first."""

    def __init__(self, num_classes: int, channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer('features', torch.zeros(num_classes, size, channels))
        for name in ('pointer', 'filled'):
            self.register_buffer(name, torch.zeros(num_classes, dtype=torch.long))

    def push(self, samples: Samples) -> None:
        """Append samples; of more than `size` of a class, the first are taken."""
        features, labels = samples
        rank = ranks(labels)
        # two writes to one slot would have no defined order
        fits = rank < self.size
        features, labels, rank = features[fits], labels[fits], rank[fits]
        slot = (self.pointer[labels] + rank) % self.size
        self.features[labels, slot] = features.to(self.features.dtype)
        count = torch.zeros_like(self.filled)
        count.index_add_(0, labels, torch.ones_like(labels))
        self.pointer.add_(count).remainder_(self.size)
        self.filled.add_(count).clamp_(max=self.size)

    def filled_slots(self) -> Tensor:
        """Return a mask (num_classes, size) of the slots that have been written."""
        slots = torch.arange(self.size, device=self.filled.device)
        return slots < self.filled[:, None]


class ContrastMemory(nn.Module):
    """Queues of pixel and region embeddings per class.

    The pixel queue gets a few random pixels of each image and class, the region queue
    the mean embedding of each class of an image, of length 1; see W. Wang et al.,
    "Exploring cross-image pixel contrast for semantic segmentation", ICCV 2021. They
    hold ``2 * num_classes * size * channels`` numbers: 266 MB in float32 for 26 classes
    and the default size.

    The queues are a state of training: they are saved in checkpoints, for a run that is
    resumed, and not needed for inference, so an export of the model leaves them out. In
    distributed training each rank has its own.

    Args:
        num_classes (int): Number of classes.
        channels (int): Channels D of the embeddings.
        size (int): Slots per class of each queue.
        pixel_update (int): Pixels per image and class that enter the pixel queue.

    Raises:
        ValueError: An argument is not positive.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int = 256,
        size: int = 5000,
        pixel_update: int = 10,
    ) -> None:
        super().__init__()
        given = dict(
            num_classes=num_classes,
            channels=channels,
            size=size,
            pixel_update=pixel_update,
        )
        if min(given.values()) < 1:
            raise ValueError(f'all sizes of the memory must be positive, got {given}')
        self.num_classes, self.pixel_update = num_classes, pixel_update
        self.pixels = _Queue(num_classes, channels, size)
        self.regions = _Queue(num_classes, channels, size)

    def contents(self) -> Samples:
        """Return a copy of all embeddings in the queues."""
        features, labels = [], []
        for queue in (self.pixels, self.regions):
            filled = queue.filled_slots()
            features.append(queue.features[filled])
            labels.append(filled.nonzero()[:, 0])
        return Samples(torch.cat(features), torch.cat(labels))

    @torch.no_grad()
    def update(self, embeddings: Tensor, labels: Tensor, ignore_index: int) -> None:
        """Append the embeddings of a batch.

        Args:
            embeddings (Tensor): Of length 1 along the channels, shape (N, D, h, w).
            labels (Tensor): Class indices (N, h, w), int64.
            ignore_index (int): Label of pixels to leave out.
        """
        if not labels.numel():
            return
        embeddings = embeddings.float()
        known = (labels >= 0) & (labels < self.num_classes) & (labels != ignore_index)
        self.regions.push(self._regions(embeddings, labels, known))
        drawn = ranks(groups_of(labels), shuffle(labels.flatten())) < self.pixel_update
        image, row, column = (drawn.view_as(labels) & known).nonzero(as_tuple=True)
        self.pixels.push(
            Samples(embeddings[image, :, row, column], labels[image, row, column])
        )

    def _regions(self, embeddings: Tensor, labels: Tensor, known: Tensor) -> Samples:
        """Compute the mean direction of each class of each image."""
        member = one_hot(labels.where(known, self.num_classes), self.num_classes + 1)
        member = member[..., :-1].flatten(1, 2).to(embeddings.dtype)
        # length 1 makes the mean and the sum the same
        sums = embeddings.flatten(2) @ member
        image, label = member.any(1).nonzero(as_tuple=True)
        return Samples(normalize(sums[image, :, label], dim=1), label)
