"""`VerificationMetric`: recognition of faces between two modalities."""

from collections.abc import Sequence

import numpy as np
from mmengine.logging import print_log
from mmengine.registry import METRICS

from mmir.utils.errors import UserError

from .feature_metric import FeatureMetric
from .tables import markdown
from .verification import verify


@METRICS.register_module()
class VerificationMetric(FeatureMetric):
    """Rank 1, and verification rates at false accept rates, in percent.

    All images of the modality `probe` are compared with all others, by the cosine of
    their features. Rank 1 is the share of probes whose most similar image shows the
    same person. The verification rate VR@FAR=x is that of the point of the receiver
    operating characteristic whose false accept rate is nearest to x, over all pairs.

    Results: `R1`, and `VR@FAR=<x>` of each rate, such as `VR@FAR=0.001`.

    Args:
        fars (Sequence[float]): False accept rates.
        probe (str): Modality of the probes.
        feature (str): Field of a sample that holds its feature (C,).
        collect_device (str): Device to gather results on: 'cpu' or 'gpu'.
        prefix (str): Prefix of the names.

    Raises:
        UserError: A rate is not in (0, 1); a sample lacks a field; images or a modality
            are missing; there are no pairs of the same person, or of different ones.
    """

    def __init__(
        self,
        fars: Sequence[float] = (0.01, 0.001),
        probe: str = 'ir',
        feature: str = 'pooled',
        collect_device: str = 'cpu',
        prefix: str = 'face',
    ) -> None:
        super().__init__(feature, collect_device, prefix)
        if odd := [far for far in fars if not 0 < far < 1]:
            raise UserError(f'false accept rates must be between 0 and 1, got {odd}')
        self.fars, self.probe = tuple(fars), probe

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Evaluate.

        Args:
            results (list[tuple]): Feature and labels of every sample, with padding.

        Returns:
            dict[str, float]: Name -> value in percent.
        """
        rows, features = self.unique(results)
        asked = np.array([row[3] == self.probe for row in rows])
        pids = np.array([row[1] for row in rows])
        if asked.all() or not asked.any():
            raise UserError(
                f'{asked.sum()} of {len(rows)} test images are {self.probe!r}; the '
                'test loader must hold probes and a gallery of the other modality'
            )
        try:
            rank1, roc = verify(
                features[asked], features[~asked], pids[asked], pids[~asked]
            )
        except ValueError as error:
            raise UserError(f'{self.prefix}: {error}') from error
        found = {'R1': 100 * rank1}
        found |= {f'VR@FAR={far:g}': 100 * roc.at(far) for far in self.fars}
        head = ('probes', 'gallery', *found)
        line = [asked.sum(), (~asked).sum(), *(f'{x:.2f}' for x in found.values())]
        print_log('\n' + markdown(head, [[*map(str, line)]]), 'current')
        return found
