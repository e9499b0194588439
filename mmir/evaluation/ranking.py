"""`rank_metrics`: CMC, mAP and mINP of visible-infrared person re-identification."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor

from mmir.evaluation.protocols import SAME_PLACE, Protocol, get_protocol
from mmir.evaluation.rank_scores import QueryScores, query_scores
from mmir.evaluation.side_by_side import map_side_by_side
from mmir.utils.errors import UserError

RANKS = (1, 5, 10, 20)
MEMORY = 2**29
"""Bytes of the distances of all trials that are evaluated at a time on a CPU."""

Values = Mapping[str, float]
Ids = Sequence[int] | np.ndarray | Tensor


@dataclass(frozen=True)
class Ranking:
    """Result of an evaluation. All measures are fractions from 0 to 1.

    Attributes:
        protocol: Name of the protocol.
        trials: Measures of every trial: `R1`, `R5`, `R10`, `R20` (CMC), `mAP`, `mINP`.
        cameras: Camera of the queries -> measures, the mean over the trials. Cameras
            none of whose queries has a right image are left out.
        valid: Number of queries with a right image, per trial.
        skipped: Number of queries without one, which count in no mean, per trial.
        ties: Number of queries where a right image is as far as another image, per
            trial. Equal distances are ranked in the order of the gallery.
    """

    protocol: str
    trials: tuple[Values, ...]
    cameras: Mapping[int, Values]
    valid: tuple[int, ...]
    skipped: tuple[int, ...]
    ties: tuple[int, ...]

    @cached_property
    def mean(self) -> dict[str, float]:
        """Mean of every measure over the trials."""
        return _over(self.trials, np.mean)

    @cached_property
    def std(self) -> dict[str, float]:
        """Standard deviation over the trials (divided by their number)."""
        return _over(self.trials, np.std)


@dataclass(frozen=True)
class Side:
    """Identities and cameras (N,) of the queries or of the gallery, int64."""

    ids: Tensor
    cams: Tensor

    def __getitem__(self, index: Tensor) -> 'Side':
        return Side(self.ids[index], self.cams[index])


def rank_metrics(
    distances: Tensor | np.ndarray,
    query_ids: Ids,
    gallery_ids: Ids,
    query_cams: Ids,
    gallery_cams: Ids,
    protocol: str | Protocol,
    galleries: Sequence[Ids] | None = None,
) -> Ranking:
    """Evaluate a ranking by CMC, mAP and mINP.

    One matrix of distances serves all trials: each takes its gallery from it. Works on
    the device of the distances.

    A query without a right image counts in no mean; how many there are is logged. Where
    the gallery has fewer identities (or images) than a rank of the CMC, every query
    with a right image has found it there, so the CMC is 1; this is logged as well.

    Args:
        distances (Tensor | np.ndarray): Distances (Q, G) of float32 or float64, small
            for a match. For cosine similarity, pass its negative. Fastest if stored by
            gallery image: `-(gallery @ query.T).T`.
        query_ids (Sequence[int] | np.ndarray | Tensor): Identities (Q,) of the queries.
        gallery_ids (Sequence[int] | np.ndarray | Tensor): Identities (G,).
        query_cams (Sequence[int] | np.ndarray | Tensor): Cameras (Q,), from 1.
        gallery_cams (Sequence[int] | np.ndarray | Tensor): Cameras (G,), from 1.
        protocol (str | Protocol): Rules, or the name of one of
            :data:`mmir.evaluation.PROTOCOLS`.
        galleries (Sequence, optional): Indices into the gallery, one sequence per
            trial, see :func:`mmir.evaluation.draw_galleries`. Default: one trial with
            all images of the searched cameras.

    Returns:
        Ranking: Measures of every trial, their mean and deviation.

    Raises:
        UserError: Shapes do not fit, distances are not finite, a gallery is empty, a
            camera is not of the protocol, or no query has a right image.
    """
    rules = get_protocol(protocol)
    matrix = torch.as_tensor(distances)
    query = side_of(query_ids, query_cams, matrix, 0)
    gallery = side_of(gallery_ids, gallery_cams, matrix, 1)
    check_cameras(query.cams, rules.query_cams, 'query', rules)
    check_cameras(gallery.cams, rules.known_cams, 'gallery', rules)
    indices = _indices(galleries, gallery, rules)
    work = partial(_trial, matrix, query, gallery, rules)
    found = map_side_by_side(work, indices, _workers(matrix, indices))
    scores, sides = zip(*found, strict=True)
    result = _ranking(scores, sides, rules)
    _log(result, sides, rules)
    return result


def _trial(
    matrix: Tensor, query: Side, gallery: Side, rules: Protocol, index: Tensor
) -> tuple[QueryScores, tuple[Side, Side]]:
    """Score all queries against the gallery of a trial; return both sides as well."""
    part = matrix.t().index_select(0, index)
    asked, searched = query, gallery[index]
    if rules.swapped:
        part, asked, searched = part.t().contiguous(), searched, asked
    check_distances(part)
    hide_(part, asked, searched, rules)
    scores = query_scores(part, asked.ids, searched.ids, rules.unique_ids)
    return scores, (asked, searched)


def _workers(matrix: Tensor, indices: Sequence[Tensor]) -> int:
    """Number of trials at a time: as many as threads, and as fit into the memory."""
    if matrix.is_cuda:
        return 1
    size = matrix.element_size() * len(matrix) * max(map(len, indices))
    return min(torch.get_num_threads(), len(indices), max(1, MEMORY // size))


def join_rankings(rankings: Sequence[Ranking]) -> Ranking:
    """Join evaluations into one whose trials are those of all, such as RegDB's ten.

    Args:
        rankings (Sequence[Ranking]): Evaluations by the same protocol, at least one.

    Returns:
        Ranking: All trials in order. Measures by camera are the mean of those given.

    Raises:
        UserError: There are none, or the protocols differ.
    """
    names = sorted({ranking.protocol for ranking in rankings})
    if len(names) != 1:
        raise UserError(f'only evaluations by one protocol can be joined, got {names}')
    cameras: dict[int, list[Values]] = {}
    for ranking in rankings:
        for camera, values in ranking.cameras.items():
            cameras.setdefault(camera, []).append(values)
    return Ranking(
        protocol=names[0],
        trials=tuple(trial for ranking in rankings for trial in ranking.trials),
        cameras={c: _over(values, np.mean) for c, values in sorted(cameras.items())},
        valid=tuple(n for ranking in rankings for n in ranking.valid),
        skipped=tuple(n for ranking in rankings for n in ranking.skipped),
        ties=tuple(n for ranking in rankings for n in ranking.ties),
    )


def hide_(part: Tensor, query: Side, gallery: Side, rules: Protocol) -> None:
    """Set hidden distances to inf, in place.

    Args:
        part (Tensor): Distances (G, Q), by gallery image.
        query (Side): Labels of the queries.
        gallery (Side): Labels of the gallery.
        rules (Protocol): What is hidden.
    """
    if rules.hidden == 'same_view':
        hidden = gallery.ids[:, None] == query.ids
        hidden &= gallery.cams[:, None] == query.cams
        part.masked_fill_(hidden, torch.inf)
    elif rules.hidden == 'same_place':
        asked, dropped = SAME_PLACE
        rows = (gallery.cams == dropped).nonzero()
        part[rows, (query.cams == asked).nonzero().flatten()] = torch.inf


def _measures(scores: QueryScores, chosen: Tensor) -> dict[str, float]:
    """Average scores over the chosen queries (Q,) that have a right image."""
    first, total = scores.first[chosen], int(chosen.sum())
    values = {f'R{k}': (first <= k).double().mean() for k in RANKS}
    values |= dict(
        mAP=scores.ap[chosen].sum() / total, mINP=scores.inp[chosen].sum() / total
    )
    stacked = torch.stack([value.double() for value in values.values()])
    return dict(zip(values, stacked.tolist(), strict=True))


def _ranking(
    scores: Sequence[QueryScores],
    sides: Sequence[tuple[Side, Side]],
    rules: Protocol,
) -> Ranking:
    """Sum up the trials."""
    trials, valid, skipped = [], [], []
    cameras: dict[int, list[Values]] = {}
    for number, (score, (query, _)) in enumerate(zip(scores, sides, strict=True)):
        found = score.matches > 0
        valid.append(int(found.sum()))
        skipped.append(len(found) - valid[-1])
        if not valid[-1]:
            raise UserError(
                f'{rules.name}, trial {number}: no query has a right image in the '
                'gallery. Check that both sides use the same identity numbers and that '
                'queries and gallery are not swapped'
            )
        trials.append(_measures(score, found))
        for camera in query.cams.unique().tolist():
            chosen = found & (query.cams == camera)
            if chosen.any():
                cameras.setdefault(camera, []).append(_measures(score, chosen))
    return Ranking(
        protocol=rules.name,
        trials=tuple(trials),
        cameras={c: _over(values, np.mean) for c, values in sorted(cameras.items())},
        valid=tuple(valid),
        skipped=tuple(skipped),
        ties=tuple(int((s.tied & (s.matches > 0)).sum()) for s in scores),
    )


def _over(trials: Sequence[Values], average: Callable) -> dict[str, float]:
    """Apply `average` to every measure over the trials."""
    return {name: float(average([t[name] for t in trials])) for name in trials[0]}


def _log(result: Ranking, sides: Sequence[tuple[Side, Side]], rules: Protocol) -> None:
    """Log what a reader of the numbers must know."""
    if any(result.skipped):
        print_log(
            f'{rules.name}: {max(result.skipped)} of '
            f'{result.valid[0] + result.skipped[0]} queries have no right image in the '
            'gallery and are not counted',
            'current',
        )
    if any(result.ties):
        print_log(
            f'{rules.name}: up to {max(result.ties)} queries per trial have a right '
            'image as far as another image; such ties are ranked in gallery order',
            'current',
        )
    sizes = [
        len(gallery.ids.unique()) if rules.unique_ids else len(gallery.ids)
        for _, gallery in sides
    ]
    if min(sizes) < RANKS[-1]:
        unit = 'identities' if rules.unique_ids else 'images'
        print_log(
            f'{rules.name}: a gallery has only {min(sizes)} {unit}, so the CMC is 1 '
            'from there on',
            'current',
            logging.WARNING,
        )


def side_of(ids: Ids, cams: Ids, matrix: Tensor, axis: int) -> Side:
    """Check the labels of one side of a matrix.

    Args:
        ids (Ids): Identities.
        cams (Ids): Cameras.
        matrix (Tensor): Distances (queries, gallery).
        axis (int): 0 for the queries, 1 for the gallery.

    Returns:
        Side: The labels, on the device of the matrix.

    Raises:
        UserError: They do not fit the matrix, or it is empty or not of floats.
    """
    name = ('query', 'gallery')[axis]
    if matrix.ndim != 2 or not matrix.is_floating_point():
        raise UserError(
            'distances must be a float matrix (queries, gallery), got '
            f'{matrix.dtype} of shape {tuple(matrix.shape)}'
        )
    if not matrix.shape[axis]:
        raise UserError(f'there are no {name} images; check the lists of the dataset')
    values = [torch.as_tensor(v, device=matrix.device).long() for v in (ids, cams)]
    for kind, value in zip(('ids', 'cams'), values, strict=True):
        if value.shape != matrix.shape[axis : axis + 1]:
            raise UserError(
                f'{name}_{kind} has the shape {tuple(value.shape)}, but the distances '
                f'{tuple(matrix.shape)} need ({matrix.shape[axis]},)'
            )
    return Side(*values)


def check_cameras(
    cams: Tensor, known: tuple[int, ...], name: str, rules: Protocol
) -> None:
    """Refuse cameras that a protocol does not know.

    Args:
        cams (Tensor): Cameras.
        known (tuple[int, ...]): Those of the protocol; empty for any.
        name (str): 'query' or 'gallery'.
        rules (Protocol): The protocol.

    Raises:
        UserError: There are others.
    """
    unknown = sorted(set(cams.unique().tolist()) - set(known)) if known else []
    if unknown:
        raise UserError(
            f'{rules.name}: {name} images of the cameras {unknown}, but the protocol '
            f'has {name} cameras {list(known)}. Check the direction and the numbers'
        )


def check_distances(part: Tensor) -> None:
    """Refuse distances that are not finite.

    Args:
        part (Tensor): Distances.

    Raises:
        UserError: One is NaN or infinite.
    """
    low, high = torch.aminmax(part)
    if not (torch.isfinite(low) and torch.isfinite(high)):  # aminmax keeps NaN
        raise UserError(
            'distances hold NaN or infinite values: the model has diverged, or a '
            'feature of length 0 was normalized'
        )


def _indices(
    galleries: Sequence[Ids] | None, gallery: Side, rules: Protocol
) -> list[Tensor]:
    """Indices of the gallery of every trial, int64."""
    cams, size = gallery.cams, len(gallery.cams)
    searched = torch.ones_like(cams, dtype=torch.bool)
    if rules.gallery_cams:
        searched = torch.isin(cams, cams.new_tensor(rules.gallery_cams))
    if galleries is None:
        galleries = [searched.nonzero().flatten()]
    if not len(galleries):
        raise UserError(f'{rules.name}: galleries holds no trial')
    found = [torch.as_tensor(g, device=cams.device).long() for g in galleries]
    for number, index in enumerate(found):
        where = f'{rules.name}, trial {number}: the gallery'
        if index.ndim != 1 or not len(index):
            raise UserError(f'{where} is empty; check the lists of the dataset')
        if index.min() < 0 or index.max() >= size:
            raise UserError(f'{where} has an index outside of 0 to {size - 1}')
        if not searched[index].all():
            wrong = sorted(set(cams[index[~searched[index]]].tolist()))
            raise UserError(
                f'{where} has images of the cameras {wrong}, which are not searched; '
                f'searched are {list(rules.gallery_cams)}'
            )
    return found
