"""Random choice of the pixels to contrast, balanced between images and classes."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def resize_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize class indices (N, H, W) to `size`, by the nearest pixel, as int64."""
    # float32 holds class indices exactly, and interpolation takes no integers
    return interpolate(labels[:, None].float(), size, mode='nearest')[:, 0].long()


def ranks(group: Tensor, order: Tensor | None = None) -> Tensor:
    """Number the members of each group from 0.

    Args:
        group (Tensor): Integer group of each member (P,).
        order (Tensor, optional): Permutation of the members (P,): the order in which
            they are numbered. Default: as given.

    Returns:
        Tensor: Number of each member within its group (P,), int64.
    """
    if order is None:
        order = torch.arange(len(group), device=group.device)
    values, by_group = group[order].sort(stable=True)
    place = torch.arange(len(group), device=group.device)
    result = torch.empty_like(place)
    result[order[by_group]] = place - torch.searchsorted(values, values)
    return result


def shuffle(like: Tensor) -> Tensor:
    """Draw a random permutation of the elements of a vector, on its device."""
    return torch.randperm(len(like), device=like.device)


def groups_of(labels: Tensor) -> Tensor:
    """Number the pairs of image and class.

    Args:
        labels (Tensor): Class indices (N, h, w), not empty.

    Returns:
        Tensor: Shape (N*h*w,), int64. Pixels of the same image and class, and no
        others, share a number.
    """
    image = torch.arange(len(labels), device=labels.device)[:, None, None]
    low = labels.min()
    return (image * (labels.max() - low + 1) + labels - low).flatten()


def sample_pixels(
    labels: Tensor,
    predictions: Tensor,
    max_samples: int,
    max_views: int,
    ignore_index: int,
) -> Tensor:
    """Draw the same number of pixels for each image and class.

    This is the semi-hard sampling of W. Wang et al., "Exploring cross-image pixel
    contrast for semantic segmentation", ICCV 2021. A pair of image and class takes part
    if it has more than `max_views` pixels. Each of these G pairs gives
    ``V = min(max_samples // G, max_views)`` pixels, at least one. Half of them are
    predicted wrongly (hard; the larger half if V is odd), the others rightly; if either
    run short, the others fill up. If there are more pairs than `max_samples`, so many
    are drawn from them.

    Args:
        labels (Tensor): Class indices (N, h, w), int64.
        predictions (Tensor): Predicted class indices (N, h, w), int64.
        max_samples (int): Most pixels to draw.
        max_views (int): Most pixels of a pair of image and class.
        ignore_index (int): Label of pixels that are never drawn.

    Returns:
        Tensor: Indices into the flattened labels, sorted, int64, at most `max_samples`.
    """
    label = labels.flatten()
    if not len(label):
        return label.new_empty(0)
    hard = (predictions.flatten() != label).long()
    group, member, count = groups_of(labels).unique(
        return_inverse=True, return_counts=True
    )
    eligible = (count > max_views) & _any_valid(label != ignore_index, member, group)
    order = shuffle(group)
    eligible[order] &= eligible[order].cumsum(0) <= max_samples
    views = (max_samples // eligible.sum().clamp(min=1)).clamp(max=max_views)
    hard_count = torch.zeros_like(count).index_add_(0, member, hard)
    half = torch.maximum((views + 1) // 2, views - (count - hard_count))
    hard_views = torch.minimum(half, hard_count)
    quota = torch.stack([views - hard_views, hard_views], 1) * eligible[:, None]
    drawn = ranks(member * 2 + hard, shuffle(label)) < quota[member, hard]
    return drawn.nonzero().squeeze(1)


def _any_valid(valid: Tensor, member: Tensor, group: Tensor) -> Tensor:
    """Tell which groups have valid members (all or none of a group are)."""
    found = torch.zeros_like(group, dtype=torch.bool)
    found[member] = valid
    return found
