"""Ranks of the right gallery images for every query, without sorting the gallery."""

from dataclasses import dataclass

import torch
from torch import Tensor

MANY = 32
"""Right images per query above which sorting is faster than counting."""

CHUNK = 2**20
"""Distances per chunk of queries: 8 MiB of float64."""

GPU_CHUNK = 2**24
"""The same on a GPU, where a larger chunk keeps all cores busy."""


@dataclass(frozen=True)
class QueryScores:
    """Scores of every query.

    Attributes:
        first: Rank (Q,) of the first right image from 1, in images or in identities,
            int64. Large where `matches` is 0.
        ap: Average precision (Q,), float64; 0 where `matches` is 0.
        inp: Inverse negative penalty (Q,), float64: number of right images over the
            rank of the last one; 0 where `matches` is 0.
        matches: Number (Q,) of right images, int64.
        tied: Whether a right image is as far as another image (Q,), bool.
    """

    first: Tensor
    ap: Tensor
    inp: Tensor
    matches: Tensor
    tied: Tensor


def query_scores(
    distances: Tensor, query_ids: Tensor, gallery_ids: Tensor, unique_ids: bool
) -> QueryScores:
    """Score queries against one gallery.

    The rank of a right image is one more than the number of images that are nearer, so
    each of the few right images costs one pass over the gallery. Equal distances are
    ranked in the order of the gallery, as by a stable sort. The queries concerned are
    rare; they are sorted.

    Args:
        distances (Tensor): Distances (G, Q), float32 or float64; inf where an image is
            hidden from a query. One row per gallery image, so that what is done for
            each gallery image is contiguous.
        query_ids (Tensor): Identities (Q,) of the queries, int64.
        gallery_ids (Tensor): Identities (G,) of the gallery, int64.
        unique_ids (bool): Count `first` in identities.

    Returns:
        QueryScores: Scores of the queries.
    """
    groups, sizes, known = _groups(gallery_ids)
    place = torch.searchsorted(known, query_ids).clamp(max=len(known) - 1)
    sizes = torch.where(known[place] == query_ids, sizes[place], 0)
    limit = GPU_CHUNK if distances.is_cuda else CHUNK
    step = max(1, limit // len(distances))
    parts = []
    for start in range(0, distances.shape[1], step):
        chunk = slice(start, start + step)
        near, images = distances[:, chunk], groups[:, place[chunk]]
        slots = torch.arange(len(images), device=images.device)
        used = slots[:, None] < sizes[chunk]
        used &= near.gather(0, images) < torch.inf
        parts.append(_score(near, images, used, groups if unique_ids else None))
    return QueryScores(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _groups(ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Group the gallery by identity.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Images (M, I) of every identity, the last one
        repeated; how many there are (I,); the identities (I,) in ascending order.
    """
    order = torch.argsort(ids, stable=True)
    known, sizes = torch.unique_consecutive(ids[order], return_counts=True)
    ends = sizes.cumsum(0)
    slots = torch.arange(int(sizes.max()), device=ids.device)[:, None]
    return order[torch.minimum(ends - sizes + slots, ends - 1)], sizes, known


def _score(
    near: Tensor, images: Tensor, used: Tensor, groups: Tensor | None
) -> tuple[Tensor, ...]:
    """Score a chunk of queries; see the attributes of :class:`QueryScores`.

    Args:
        near: Distances (G, Q), those of hidden images inf.
        images: Images (K, Q) of the identity of every query.
        used: Which of them count (K, Q), bool.
        groups: Images (M, I) of every identity, to count ranks in identities.
    """
    counts, ranks = used.sum(0), None
    wanted = near.gather(0, images)
    if len(images) > MANY:
        ranks, position, tied = _sort(near, images, used)
    else:
        position, tied = _count_nearer(near, wanted, used)
    first, ap, inp = _averages(position.masked_fill(~used, torch.inf), counts)
    if groups is not None and ranks is None:
        nearest = wanted.masked_fill(~used, torch.inf).amin(0)
        first = _identities_before(near, nearest, groups) + 1
    elif groups is not None:
        first = _identities_before(ranks, first, groups) + 1
    first = torch.where(counts > 0, first.long(), torch.iinfo(torch.int64).max)
    if ranks is None and bool(tied.any()):
        # Ranks of a stable sort have no ties, and as distances they give these ranks.
        ranks = _sort(near[:, tied], images[:, tied], used[:, tied])[0]
        again = _score(ranks, images[:, tied], used[:, tied], groups)
        for values, new in zip((first, ap, inp), again, strict=False):
            values[tied] = new
    return first, ap, inp, counts, tied


def _sort(near: Tensor, images: Tensor, used: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rank the gallery by sorting, equal distances in their order.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Ranks (G, Q) from 1 and those of the right images
        (K, Q), float64; which queries have ties (Q,), bool.
    """
    values, order = near.sort(dim=0, stable=True)
    numbers = torch.arange(1, len(near) + 1, device=near.device, dtype=torch.float64)
    ranks = torch.empty_like(near, dtype=torch.float64)
    ranks.scatter_(0, order, numbers[:, None].expand_as(order))
    same = torch.zeros_like(near, dtype=torch.bool)
    same[1:] = values[1:] == values[:-1]
    same[:-1] |= same[1:].clone()
    position = ranks.gather(0, images)
    tied = (same.gather(0, position.long() - 1) & used).any(0)
    return ranks, position, tied


def _count(below: Tensor) -> Tensor:
    """Count the true values of every column of (G, Q)."""
    dtype = torch.int16 if len(below) < 2**15 else torch.int64
    return below.view(torch.uint8).sum(0, dtype=dtype)  # five times as fast as of bool


def _count_nearer(near: Tensor, wanted: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Rank the right images (K, Q) by counting; tell which queries (Q,) have ties."""
    position = wanted.new_empty(wanted.shape, dtype=torch.float64)
    tied = used.new_zeros(used.shape[1])
    for k, distance in enumerate(wanted):
        nearer = _count(near < distance)
        tied |= used[k] & (_count(near <= distance) - nearer > 1)
        position[k] = nearer + 1
    return position, tied


def _averages(position: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """First rank, average precision and INP (Q,) from ranks (K, Q), unused ones inf.

    Average precision is the mean of the precision at every right image; INP is that of
    Ye et al., TPAMI 2021, equation 7.
    """
    position = position.sort(dim=0)[0]
    order = torch.arange(1, len(position) + 1, device=position.device)
    total = counts.clamp(min=1)
    ap = (order[:, None] / position).sum(0) / total
    last = position.gather(0, (total - 1)[None])[0]
    return position[0].nan_to_num(posinf=0), ap, counts / last


def _identities_before(near: Tensor, nearest: Tensor, groups: Tensor) -> Tensor:
    """Count the identities (Q,) with an image nearer than `nearest` (Q,)."""
    best = near[groups[0]]
    for images in groups[1:]:
        best = torch.minimum(best, near[images])
    return _count(best < nearest)
