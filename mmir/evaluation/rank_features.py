"""Evaluation from features: distances of the images that the trials need."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mmir.evaluation.protocols import Protocol
from mmir.evaluation.ranking import Ids, Ranking, rank_metrics
from mmir.evaluation.reranking import rerank


def cosine_distances(query: Tensor, gallery: Tensor) -> Tensor:
    """Negative cosine similarity, stored by gallery image as `rank_metrics` reads it.

    Args:
        query (Tensor): Features (Q, C).
        gallery (Tensor): Features (G, C).

    Returns:
        Tensor: Distances (Q, G) of the type of the features, from -1 to 1.
    """
    query, gallery = (functional.normalize(f, dim=1) for f in (query, gallery))
    return (gallery @ query.t()).neg_().t()


def rank_features(
    query: Tensor,
    gallery: Tensor,
    query_labels: tuple[Ids, Ids],
    gallery_labels: tuple[Ids, Ids],
    protocol: str | Protocol,
    galleries: Sequence[np.ndarray],
    reranked: bool = False,
) -> Ranking:
    """Evaluate features by cosine similarity.

    Only distances to images that some trial uses are computed.

    Args:
        query (Tensor): Features (Q, C); float64 for the numbers of AGW.
        gallery (Tensor): Features (G, C) of the pool that galleries are drawn from.
        query_labels (tuple): Identities (Q,) and cameras (Q,).
        gallery_labels (tuple): Identities (G,) and cameras (G,).
        protocol (str | Protocol): Rules, or the name of a protocol.
        galleries (Sequence[np.ndarray]): Indices into the pool, one array per trial.
        reranked (bool): Re-rank every trial by k-reciprocal neighbors, see
            :func:`mmir.evaluation.rerank`.

    Returns:
        Ranking: Measures of every trial, their mean and deviation.

    Raises:
        UserError: See :func:`mmir.evaluation.rank_metrics`.
    """
    used = np.concatenate([np.asarray(index) for index in galleries])
    ends = np.cumsum([len(index) for index in galleries])[:-1]
    if reranked:  # by trial, since it depends on the gallery
        parts = [_rerank(query, gallery, index) for index in galleries]
        distances, places = torch.cat(parts).t(), np.arange(len(used))
    else:
        used, places = np.unique(used, return_inverse=True)
        distances = cosine_distances(query, gallery[torch.as_tensor(used)])
    ids, cams = (np.asarray(labels)[used] for labels in gallery_labels)
    trials = np.split(places.ravel(), ends)
    return rank_metrics(
        distances, query_labels[0], ids, query_labels[1], cams, protocol, trials
    )


def _rerank(query: Tensor, gallery: Tensor, index: np.ndarray) -> Tensor:
    """Re-ranked distances (n, Q) of the gallery of a trial, in float32 for memory."""
    chosen = gallery[torch.as_tensor(index)]
    sides = (functional.normalize(side, dim=1).float() for side in (query, chosen))
    return rerank(*sides).t()
