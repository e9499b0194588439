"""Verification of faces or people: receiver operating characteristic and rank 1."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Roc(NamedTuple):
    """Receiver operating characteristic, from the highest threshold to the lowest.

    Attributes:
        far: False accept rates (n,), float64. The first is 0, the last 1.
        vr: Verification rates, or true accept rates (n,), float64.
    """

    far: np.ndarray
    vr: np.ndarray

    def at(self, far: float) -> float:
        """Verification rate at the point whose false accept rate is nearest to `far`.

        Of several as near, the larger verification rate is taken, as is common in
        heterogeneous face recognition.
        """
        gaps = np.abs(self.far - far)
        return float(self.vr[gaps == gaps.min()].max())


def roc_curve(scores: np.ndarray, same: np.ndarray) -> Roc:
    """Compute a receiver operating characteristic.

    It has a point for each different score, at which pairs with that score or a higher
    one are accepted, and (0, 0).

    Args:
        scores (np.ndarray): Similarity of each pair (N,).
        same (np.ndarray): Whether a pair is of the same person (N,), bool.

    Returns:
        Roc: The curve.

    Raises:
        ValueError: There are no pairs of the same person, or none of different ones, or
            a score is not finite.
    """
    scores, same = np.ravel(scores), np.ravel(same).astype(bool)
    if not np.isfinite(scores).all():
        raise ValueError('a similarity is NaN or infinite')
    matches = int(same.sum())
    if matches in (0, len(same)):
        raise ValueError(
            f'{matches} of {len(same)} pairs are of the same person; a verification '
            'rate needs pairs of both kinds'
        )
    order = np.argsort(-scores, kind='stable')
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    accepted = np.cumsum(same[order])[last]
    wrong = last + 1 - accepted
    return Roc(
        np.append(0.0, wrong / (len(same) - matches)),
        np.append(0.0, accepted / matches),
    )


def verify(
    probes: np.ndarray,
    gallery: np.ndarray,
    probe_ids: Sequence[int],
    gallery_ids: Sequence[int],
) -> tuple[float, Roc]:
    """Compare all probes with all images of a gallery, by cosine similarity.

    Args:
        probes (np.ndarray): Features (P, C).
        gallery (np.ndarray): Features (G, C).
        probe_ids (Sequence[int]): Identities (P,).
        gallery_ids (Sequence[int]): Identities (G,).

    Returns:
        tuple[float, Roc]: Share of the probes whose most similar image of the gallery
        shows the same person, and the curve over all P x G pairs.

    Raises:
        ValueError: See :func:`roc_curve`.
    """
    first, second = _unit(probes), _unit(gallery)
    scores = first @ second.T
    ids = np.asarray(gallery_ids)
    same = np.asarray(probe_ids)[:, None] == ids
    rank1 = np.mean(ids[scores.argmax(1)] == np.asarray(probe_ids))
    return float(rank1), roc_curve(scores, same)


def _unit(features: np.ndarray) -> np.ndarray:
    """Features of length 1, float64."""
    features = np.asarray(features, np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
