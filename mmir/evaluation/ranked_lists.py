"""Ranked gallery of each query, under the rules of a protocol."""

import torch
from torch import Tensor

from mmir.evaluation.protocols import Protocol, get_protocol
from mmir.evaluation.ranking import Ids, Side, hide_


def ranked_lists(
    distances: Tensor,
    query_labels: tuple[Ids, Ids],
    gallery_labels: tuple[Ids, Ids],
    protocol: str | Protocol,
    top: int = 10,
) -> Tensor:
    """List the nearest gallery images that a query may find.

    Equal distances are ranked in the order of the gallery, as in
    :func:`mmir.evaluation.rank_metrics`. Every image has its own place, also under
    protocols that count identities.

    Args:
        distances (Tensor): Distances (Q, G) to the gallery of one trial.
        query_labels (tuple): Identities (Q,) and cameras (Q,) of the queries.
        gallery_labels (tuple): Identities (G,) and cameras (G,) of the gallery.
        protocol (str | Protocol): Rules, or the name of a protocol; says which images
            are hidden from a query.
        top (int): Length of the lists.

    Returns:
        Tensor: Indices into the gallery (Q, K), int64, nearest first, with K the
        smaller one of `top` and G; -1 where nothing is left to find.
    """
    query, gallery = (
        Side(*(torch.as_tensor(v).long() for v in labels))
        for labels in (query_labels, gallery_labels)
    )
    part = distances.t().clone()
    hide_(part, query, gallery, get_protocol(protocol))
    order = part.t().argsort(dim=1, stable=True)[:, :top]
    return order.masked_fill(part.t().gather(1, order).isinf(), -1)
