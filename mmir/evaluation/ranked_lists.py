"""Ranked gallery of each query, under the rules of a protocol."""

from torch import Tensor

from mmir.evaluation.protocols import Protocol, get_protocol
from mmir.evaluation.ranking import (
    Ids,
    check_cameras,
    check_distances,
    hide_,
    side_of,
)


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

    Raises:
        UserError: The protocol is unknown, labels and distances do not fit each other,
            a distance is not finite, or the gallery has cameras that the protocol does
            not search.
    """
    rules = get_protocol(protocol)
    query = side_of(*query_labels, distances, 0)
    gallery = side_of(*gallery_labels, distances, 1)
    check_cameras(gallery.cams, rules.gallery_cams, 'gallery', rules)
    check_distances(distances)
    part = distances.t().clone()
    hide_(part, query, gallery, rules)
    order = part.t().argsort(dim=1, stable=True)[:, :top]
    return order.masked_fill(part.t().gather(1, order).isinf(), -1)
