"""Ranks of the right gallery images for every query, without sorting the gallery."""

from dataclasses import dataclass

import torch
from torch import Tensor

MANY = 32
"""Right images per query above which sorting is faster than counting."""

CHUNK = 2**18
"""Distances per chunk of queries: 2 MiB of float64, which the cache of a core holds."""

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
    distances: Tensor,
    right: Tensor,
    hidden: Tensor | None,
    gallery_ids: Tensor,
    unique_ids: bool,
) -> QueryScores:
    """Score queries against one gallery.

    The rank of a right image is one more than the number of images that are nearer, so
    each of the few right images costs one pass over the gallery. Equal distances are
    ranked in the order of the gallery, as by a stable sort. The queries concerned are
    rare; they are sorted.

    Args:
        distances (Tensor): Distances (G, Q), finite, float32 or float64. One row per
            gallery image, so that what is done for each gallery image is contiguous.
        right (Tensor): Which gallery images show the person of the query (G, Q), bool.
        hidden (Tensor, optional): Which are hidden from the query (G, Q), bool.
        gallery_ids (Tensor): Identities (G,) of the gallery, int64.
        unique_ids (bool): Count `first` in identities.

    Returns:
        QueryScores: Scores of the queries.
    """
    groups = _groups(gallery_ids) if unique_ids else None
    limit = GPU_CHUNK if distances.is_cuda else CHUNK
    step = max(1, limit // len(distances))
    parts = []
    for start in range(0, distances.shape[1], step):
        chunk = slice(start, start + step)
        near, match = distances[:, chunk], right[:, chunk]
        if hidden is not None:
            near = near.masked_fill(hidden[:, chunk], torch.inf)
            match = match & ~hidden[:, chunk]
        parts.append(_score(near, *_columns(match), groups))
    return QueryScores(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _groups(ids: Tensor) -> Tensor:
    """List the gallery images (I, M) of every identity, the last one repeated."""
    order = torch.argsort(ids, stable=True)
    counts = torch.unique_consecutive(ids[order], return_counts=True)[1]
    ends = counts.cumsum(0)
    slots = torch.arange(int(counts.max()), device=ids.device)
    return order[torch.minimum((ends - counts)[:, None] + slots, ends[:, None] - 1)]


def _columns(match: Tensor) -> tuple[Tensor, Tensor]:
    """List the right images (K, Q) of every query, and how many there are (Q,)."""
    counts = match.sum(0)
    query, image = match.t().nonzero(as_tuple=True)
    slot = torch.arange(len(query), device=match.device)
    slot -= (counts.cumsum(0) - counts)[query]
    most = int(counts.max()) if len(counts) else 0
    table = image.new_zeros(most, len(counts))
    table[slot, query] = image
    return table, counts


def _score(
    near: Tensor, images: Tensor, counts: Tensor, groups: Tensor | None
) -> tuple[Tensor, ...]:
    """Score a chunk of queries; see the attributes of :class:`QueryScores`."""
    many = len(images) > MANY
    ranks, tied = _ranks(near) if many else near, None
    wanted = ranks.gather(0, images)
    used = torch.arange(len(images), device=near.device)[:, None] < counts
    if many:
        position = wanted
        tied = _has_tie(near, images, used)
    else:
        position, tied = _count_nearer(ranks, wanted, used)
    first, ap, inp = _averages(position.masked_fill(~used, torch.inf), counts)
    if groups is not None:
        nearest = wanted.masked_fill(~used, torch.inf)
        first = _identities_before(ranks, nearest, groups) + 1
    first = torch.where(counts > 0, first.long(), torch.iinfo(torch.int64).max)
    if not many and bool(tied.any()):
        # Ranks of a stable sort have no ties, and as distances they give these ranks.
        again = _score(_ranks(near[:, tied]), images[:, tied], counts[tied], groups)
        for values, new in zip((first, ap, inp), again, strict=False):
            values[tied] = new
    return first, ap, inp, counts, tied


def _ranks(near: Tensor) -> Tensor:
    """Rank the gallery (G, Q) from 1 by distance, equal ones in their order."""
    order = near.argsort(dim=0, stable=True)
    numbers = torch.arange(1, len(near) + 1, device=near.device, dtype=torch.float64)
    return near.new_empty(near.shape, dtype=torch.float64).scatter_(
        0, order, numbers[:, None].expand_as(order)
    )


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


def _has_tie(near: Tensor, images: Tensor, used: Tensor) -> Tensor:
    """Tell for which queries (Q,) a right image is as far as another image."""
    values = near.sort(dim=0)[0].t().contiguous()
    wanted = near.gather(0, images).t().contiguous()
    low, high = (
        torch.searchsorted(values, wanted, side=side) for side in ('left', 'right')
    )
    return ((high - low > 1) & used.t()).any(1)


def _averages(position: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """First rank, average precision and INP (Q,) from ranks (K, Q), unused ones inf.

    Average precision is the mean of the precision at every right image; INP is that of
    Ye et al., TPAMI 2021, equation 7.
    """
    if not len(position):
        zeros = counts.double()
        return zeros, zeros, zeros.clone()
    position = position.sort(dim=0)[0]
    order = torch.arange(1, len(position) + 1, device=position.device)
    total = counts.clamp(min=1)
    ap = (order[:, None] / position).sum(0) / total
    last = position.gather(0, (total - 1)[None])[0]
    return position[0].nan_to_num(posinf=0), ap, counts / last


def _identities_before(near: Tensor, nearest: Tensor, groups: Tensor) -> Tensor:
    """Count the identities (Q,) with an image nearer than the first right one."""
    if not len(nearest):
        return nearest.new_zeros(near.shape[1], dtype=torch.int64)
    best = near[groups[:, 0]]
    for images in groups.t()[1:]:
        best = torch.minimum(best, near[images])
    return _count(best < nearest.amin(0))
