"""`VerificationMetric`: visible-infrared face recognition in mmengine's test loop."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.registry import METRICS
from torch.nn.functional import normalize

from mmir.evaluation.feature_metric import FeatureMetric
from mmir.evaluation.tables import markdown
from mmir.utils.errors import UserError


def roc(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the points of a ROC, one per distinct score.

    Args:
        scores (ndarray): Similarities of pairs (N,).
        same (ndarray): Whether a pair shows one identity (N,), bool.

    Returns:
        tuple[ndarray, ndarray]: False and true positive rates, ascending, from (0, 0)
        to (1, 1).

    Raises:
        UserError: No pair, or every pair, shows one identity.
    """
    if same.all() or not same.any():
        raise UserError(
            f'{int(same.sum())} of {len(same)} pairs show one identity: a ROC needs '
            'pairs of both kinds. Do probes and gallery show the same identities?'
        )
    order = np.argsort(-scores, kind='stable')
    ranked = scores[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    hits = np.cumsum(same[order])[ends]
    misses = ends + 1 - hits
    rates = (misses / misses[-1], hits / hits[-1])
    return tuple(np.concatenate([[0.0], rate]) for rate in rates)


def rate_at(false: np.ndarray, true: np.ndarray, wanted: float) -> float:
    """Read the true positive rate at a false positive rate.

    Args:
        false (ndarray): False positive rates of a ROC.
        true (ndarray): True positive rates.
        wanted (float): False positive rate.

    Returns:
        float: Rate at the point whose false positive rate is nearest; the highest of
        several.
    """
    distance = np.abs(false - wanted)
    nearest = np.isclose(distance, distance.min(), rtol=1e-9, atol=1e-12)
    return float(true[nearest].max())


@METRICS.register_module()
class VerificationMetric(FeatureMetric):
    """Rank-1 and verification rate at false accept rates, in percent.

    Infrared images are the probes, RGB images the gallery, and the similarity is the
    cosine, in float64, as in the public evaluation of near-infrared face recognition
    (insightface, `recognition/idmmd`). The ROC is that of all pairs of a probe and a
    gallery image.

    Results: `R1`, and `VR@FAR=<rate>` for each rate, such as `VR@FAR=0.01`.

    Args:
        rates (Sequence[float]): False accept rates.
        feature (str): Field of a sample that holds its feature (C,).
        collect_device (str): Device to gather results on: 'cpu' or 'gpu'.
        prefix (str, optional): Prefix of the names.

    Raises:
        UserError: A rate is not between 0 and 1, a sample lacks a field, images are
            missing, or a modality is.
    """

    def __init__(
        self,
        rates: Sequence[float] = (0.01, 0.001),
        feature: str = 'feature',
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(feature, collect_device, prefix)
        if not all(0 < rate < 1 for rate in rates):
            raise UserError(f'rates={rates}: must be between 0 and 1')
        self.rates = tuple(rates)

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Compare all probes with all gallery images.

        Args:
            results (list[tuple]): Feature and labels of every sample, with padding.

        Returns:
            dict[str, float]: Name -> value in percent.
        """
        unique, _ = self.unique(results)
        probe, gallery = ([r for r in unique if r[3] == m] for m in ('ir', 'rgb'))
        if not probe or not gallery:
            raise UserError(
                f'{len(probe)} images are infrared and {len(gallery)} are RGB; the '
                'test loader must hold both'
            )
        features, pids = zip(*map(_columns, (probe, gallery)), strict=True)
        scores = (features[0] @ features[1].T).numpy()
        same = pids[0][:, None] == pids[1]
        found = {
            'R1': 100 * float(same[np.arange(len(probe)), scores.argmax(1)].mean())
        }
        points = roc(scores.ravel(), same.ravel())
        for rate in self.rates:
            found[f'VR@FAR={rate:g}'] = 100 * rate_at(*points, rate)
        row = [
            str(len(probe)),
            str(len(gallery)),
            *(f'{v:.2f}' for v in found.values()),
        ]
        print_log('\n' + markdown(('probes', 'gallery', *found), [row]), 'current')
        return found


def _columns(rows: Sequence[tuple]) -> tuple[torch.Tensor, np.ndarray]:
    """Features of length 1 (N, C) and identities (N,)."""
    features = torch.from_numpy(np.stack([row[0] for row in rows])).double()
    return normalize(features), np.array([row[1] for row in rows])
