"""`VIReIDMetric`: visible-infrared person re-identification in mmengine's test loop."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.registry import METRICS

from mmir.evaluation.feature_metric import FeatureMetric
from mmir.evaluation.galleries import draw_galleries, load_permutations
from mmir.evaluation.protocols import Protocol, get_protocol
from mmir.evaluation.rank_features import rank_features
from mmir.evaluation.ranking import Ranking
from mmir.evaluation.tables import markdown
from mmir.utils.errors import UserError

MEASURES = ('R1', 'R5', 'R10', 'R20', 'mAP', 'mINP')


@METRICS.register_module()
class VIReIDMetric(FeatureMetric):
    """CMC, mAP and mINP by one or several protocols, in percent.

    Collects the features of all images of the test loader once, draws the galleries of
    all trials from them and ranks by cosine similarity in float64. Which image is a
    query is decided by its `modality`, never by its place in a batch. Every line of the
    log, and every name of a value, begins with the name of the protocol.

    Padded samples of distributed loaders count once: images are told apart by their
    path. An image that is missing is an error.

    Results: `<protocol>/R1`, `R5`, `R10`, `R20`, `mAP`, `mINP`, the mean over the
    trials, and with several trials `<protocol>/R1_std`, `mAP_std`, `mINP_std`.

    Args:
        protocols (str | Mapping | Sequence): Names of :data:`mmir.evaluation.PROTOCOLS`
            or attributes of a :class:`Protocol`; one or several.
        feature (str): Field of a sample that holds its feature (C,).
        permutations (str, optional): `exp/rand_perm_cam.mat` of SYSU-MM01, for its
            official galleries.
        rerank (bool): Also report results with k-reciprocal re-ranking, under the name
            `<protocol>+rerank`.
        collect_device (str): Device to gather results on: 'cpu' or 'gpu'.
        prefix (str, optional): Prefix of the names.

    Raises:
        UserError: A protocol is unknown or does not say which modality the queries
            have, the permutations are missing, a sample lacks a field, or images are
            missing.
    """

    def __init__(
        self,
        protocols: str | Mapping | Sequence[str | Mapping],
        feature: str = 'feature',
        permutations: str | None = None,
        rerank: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(feature, collect_device, prefix)
        if isinstance(protocols, str | Mapping):
            protocols = [protocols]
        self.protocols = [get_protocol(protocol) for protocol in protocols]
        for protocol in self.protocols:
            if protocol.query is None:
                raise UserError(
                    f'{protocol.name} does not say which modality the queries have; '
                    "use another one, or dict(name='mine', query='ir', ...)"
                )
            if protocol.draw == 'official' and permutations is None:
                raise UserError(
                    f'{protocol.name} needs permutations=<data_root>/exp/'
                    'rand_perm_cam.mat'
                )
        self.rerank = rerank
        self.permutations = load_permutations(permutations) if permutations else None

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Evaluate by all protocols.

        Args:
            results (list[tuple]): Feature and labels of every sample, with padding.

        Returns:
            dict[str, float]: Name -> value in percent.
        """
        unique, features = self.unique(results)
        features = torch.from_numpy(features).double()
        found, rows = {}, []
        for protocol in self.protocols:
            for reranked in (False, True) if self.rerank else (False,):
                ranking = self._rank(protocol, features, unique, reranked)
                name = f'{protocol.name}{"+rerank" * reranked}'
                found |= _values(name, ranking)
                rows += _rows(name, ranking)
        head = ('protocol', 'queries', *MEASURES)
        print_log('\n' + markdown(head, rows), 'current')
        return found

    def _rank(
        self,
        protocol: Protocol,
        features: torch.Tensor,
        samples: Sequence[tuple],
        reranked: bool,
    ) -> Ranking:
        """Evaluate by one protocol."""
        pids, cams = (np.array([row[k] for row in samples]) for k in (1, 2))
        asked = np.array([row[3] == protocol.query for row in samples])
        query, pool = np.flatnonzero(asked), np.flatnonzero(~asked)
        if not len(query) or not len(pool):
            raise UserError(
                f'{protocol.name}: {len(query)} images are {protocol.query!r} and '
                f'{len(pool)} are not; the test loader must hold both modalities'
            )
        paths = [samples[k][-1] for k in pool]
        labels = [(pids[k], cams[k]) for k in (query, pool)]
        galleries = draw_galleries(protocol, *labels[1], paths, self.permutations)
        sides = (features[torch.as_tensor(k)] for k in (query, pool))
        return rank_features(*sides, *labels, protocol, galleries, reranked)


def _values(name: str, ranking: Ranking) -> dict[str, float]:
    """Name the measures of a ranking, in percent."""
    found = {f'{name}/{key}': 100 * ranking.mean[key] for key in MEASURES}
    if len(ranking.trials) > 1:
        stds = ('R1', 'mAP', 'mINP')
        found |= {f'{name}/{key}_std': 100 * ranking.std[key] for key in stds}
    return found


def _rows(name: str, ranking: Ranking) -> list[list[str]]:
    """Table rows: all queries, their deviation over the trials, and by camera."""
    lines = {'all': ranking.mean}
    if len(ranking.trials) > 1:
        lines[f'std of {len(ranking.trials)} trials'] = ranking.std
    if len(ranking.cameras) > 1:
        lines |= {f'camera {cam}': row for cam, row in ranking.cameras.items()}
    return [
        [name, what, *(f'{100 * values[key]:.2f}' for key in MEASURES)]
        for what, values in lines.items()
    ]
