"""Rank metrics equal a plain evaluation of one query at a time, and known examples."""

import numpy as np
import pytest
import torch
from rank_reference import evaluate, one_query

from mmir.evaluation import rank_scores, ranking
from mmir.evaluation.protocols import PROTOCOLS, Protocol, get_protocol
from mmir.evaluation.rank_scores import query_scores
from mmir.evaluation.ranking import join_rankings, rank_metrics
from mmir.utils.errors import UserError

# Oracle: gallery (identity, camera) and four queries with their ranked gallery.
GALLERY = ([1, 1, 2, 2, 3, 3, 4], [1, 2, 1, 4, 2, 5, 4])
QUERIES = ([1, 2, 3, 5], [3, 6, 3, 6])
RANKED = ([1, 4, 3, 2, 0, 5, 6], [3, 4, 5, 2, 0, 1, 6], [0, 6, 4, 5, 1, 2, 3], range(7))


def tiny():
    distances = torch.zeros(4, 7, dtype=torch.float64)
    for row, ranked in zip(distances, RANKED, strict=True):
        for rank, image in enumerate(ranked):
            row[image] = rank / 8
    return distances


def random_case(protocol, queries=60, images=90, identities=12, levels=None, seed=0):
    """Random distances, ids and cameras that the protocol knows."""
    rng = np.random.default_rng(seed)
    distances = rng.normal(size=(queries, images))
    if levels:  # many ties
        distances = np.round(distances * levels) / levels
    sides = []
    for number, cams in ((queries, protocol.query_cams), (images, protocol.known_cams)):
        ids = rng.integers(0, identities, number)
        sides.append((ids, rng.choice(cams or (1, 2, 3), number)))
    return distances, *sides


def check(protocol, distances, query, gallery, galleries=None):
    """Compare with the plain evaluation, trial by trial."""
    got = rank_metrics(
        distances, query[0], gallery[0], query[1], gallery[1], protocol, galleries
    )
    if galleries is None:
        cams = protocol.gallery_cams or (1, 2, 3)
        galleries = [np.flatnonzero(np.isin(gallery[1], cams))]
    rules = (protocol.hidden, protocol.unique_ids)
    for trial, index in enumerate(galleries):
        part, other = np.asarray(distances)[:, index], [v[index] for v in gallery]
        asked = query
        if protocol.swapped:
            part, asked, other = part.T, other, asked
        wanted, valid = evaluate(part, asked, other, *rules)
        assert got.trials[trial] == pytest.approx(wanted, abs=1e-12, rel=0)
        assert (got.valid[trial], got.skipped[trial]) == (valid, len(part) - valid)
    return got


@pytest.mark.parametrize(
    ('name', 'cmc', 'mean_ap', 'inp'),
    [
        ('sysu_all_agw', (1 / 3, 2 / 3, 1), 17 / 36, 7 / 18),
        ('plain', (2 / 3, 2 / 3, 1), 28 / 45, 7 / 15),
    ],
)
def test_the_known_example(name, cmc, mean_ap, inp):
    got = rank_metrics(tiny(), QUERIES[0], GALLERY[0], QUERIES[1], GALLERY[1], name)
    assert got.mean['mAP'] == pytest.approx(mean_ap, abs=1e-15)
    assert got.mean['mINP'] == pytest.approx(inp, abs=1e-15)
    assert got.mean['R1'] == pytest.approx(cmc[0], abs=1e-15)
    assert (got.valid, got.skipped, got.ties) == ((3,), (1,), (0,))
    scores = example_scores(get_protocol(name))
    for k, wanted in enumerate(cmc, 1):
        found = (scores.first[:3] <= k).double().mean()
        assert found == pytest.approx(wanted, abs=1e-15)


def example_scores(rules):
    ids, cams = torch.tensor(GALLERY[0]), torch.tensor(GALLERY[1])
    asked = torch.tensor(QUERIES[0]), torch.tensor(QUERIES[1])
    distances = tiny().t().contiguous()
    if rules.hidden == 'same_place':
        distances[(cams == 2)[:, None] & (asked[1] == 3)] = torch.inf
    return query_scores(distances, asked[0], ids, rules.unique_ids)


@pytest.mark.parametrize('levels', [None, 2])
@pytest.mark.parametrize('name', PROTOCOLS)
def test_equals_the_plain_evaluation(name, levels):
    protocol = PROTOCOLS[name]
    case = random_case(protocol, levels=levels)
    rng = np.random.default_rng(1)
    known = np.isin(case[2][1], protocol.gallery_cams or (1, 2, 3))
    pool = np.flatnonzero(known)
    galleries = [rng.permutation(pool)[:40] for _ in range(3)]
    got = check(protocol, *case, galleries)
    assert all(got.ties) == (levels is not None)
    check(protocol, *case)


@pytest.mark.parametrize('levels', [None, 2, 0.01])
@pytest.mark.parametrize('unique', [False, True])
def test_many_right_images_are_sorted(unique, levels):
    protocol = Protocol('x', hidden='same_view', unique_ids=unique)
    case = random_case(protocol, images=200, identities=3, levels=levels)
    got = check(protocol, *case)
    assert got.valid == (60,)
    assert rank_scores.MANY < 2 / 3 * 200 / 3
    assert (got.ties[0] > 0) == (levels is not None)


def test_chunks_change_nothing(monkeypatch):
    protocol = PROTOCOLS['sysu_all_agw']
    distances, query, gallery = random_case(protocol)
    args = (query[0], gallery[0], query[1], gallery[1], protocol)
    whole = rank_metrics(distances, *args)
    monkeypatch.setattr(rank_scores, 'CHUNK', 7 * 90)
    chunked = rank_metrics(distances, *args)
    assert chunked.trials[0] == pytest.approx(whole.trials[0], abs=1e-15)


def test_trials_side_by_side_change_nothing(monkeypatch):
    protocol = PROTOCOLS['sysu_all_agw']
    distances, query, gallery = random_case(protocol, levels=4)
    galleries = [np.arange(k, 60 + k) for k in range(20)]
    args = (query[0], gallery[0], query[1], gallery[1], protocol, galleries)
    found = []
    for workers in (1, 3):
        monkeypatch.setattr(ranking, '_workers', lambda *_, workers=workers: workers)
        found.append(rank_metrics(distances, *args))
    assert found[0] == found[1]


def test_the_given_distances_are_left_alone():
    protocol = PROTOCOLS['llcm_rgb2ir_released']
    distances, query, gallery = random_case(protocol)
    given = torch.tensor(distances)
    rank_metrics(given, query[0], gallery[0], query[1], gallery[1], protocol)
    assert torch.equal(given, torch.tensor(distances))


def test_storage_and_type_of_distances_change_nothing():
    protocol = PROTOCOLS['llcm_ir2rgb']
    distances, query, gallery = random_case(protocol, levels=4)
    args = (query[0], gallery[0], query[1], gallery[1], protocol)
    whole = rank_metrics(distances, *args)
    rows = torch.tensor(distances)
    for other in (rows, rows.float(), rows.t().contiguous().t()):
        assert rank_metrics(other, *args) == whole


def test_mean_deviation_and_cameras():
    protocol = PROTOCOLS['sysu_all_agw']
    distances, query, gallery = random_case(protocol)
    galleries = [np.arange(50), np.arange(30, 90)]
    got = check(protocol, distances, query, gallery, galleries)
    first, second = (trial['mAP'] for trial in got.trials)
    assert got.mean['mAP'] == pytest.approx((first + second) / 2)
    assert got.std['mAP'] == pytest.approx(abs(first - second) / 2)
    assert list(got.cameras) == [3, 6]
    for camera in (3, 6):
        scores = [
            one_query(
                distances[k][index], *(v[k] for v in query),
                *(v[index] for v in gallery), 'same_place', True,
            )
            for index in galleries
            for k in np.flatnonzero(query[1] == camera)
        ]  # fmt: skip
        wanted = np.mean([s for s in scores if s], axis=0)
        assert [*got.cameras[camera].values()] == pytest.approx(wanted)


def test_a_perfect_and_a_constant_ranking():
    ids, cams = np.repeat(np.arange(30), 10), np.ones(300, int)
    other = (ids[:, None] != ids).astype(float)
    got = rank_metrics(other, ids, ids, cams, cams, 'regdb_rgb2ir')
    assert set(got.mean.values()) == {1.0}
    # all equal: ranked in gallery order, so identity k is found at 10 k + 1
    got = rank_metrics(np.zeros((300, 300)), ids, ids, cams, cams, 'regdb_ir2rgb')
    assert got.ties == (300,)
    assert got.mean['R1'] == pytest.approx(1 / 30)
    assert got.mean['R20'] == pytest.approx(2 / 30)
    assert got.mean['mINP'] == pytest.approx(np.mean(1 / np.arange(1, 31)))


def test_random_features_of_regdb_are_found_by_chance():
    rng = np.random.default_rng(0)
    ids, cams = np.repeat(np.arange(206), 10), np.ones(2060, int)
    found = rank_metrics(rng.random((2060, 2060)), ids, ids, cams, cams, 'regdb_rgb2ir')
    assert found.mean['R1'] == pytest.approx(10 / 2060, abs=0.005)


def test_both_directions_from_one_matrix():
    rng = np.random.default_rng(3)
    matrix, ids, cams = rng.random((40, 40)), np.repeat(np.arange(8), 5), np.ones(40)
    there = rank_metrics(matrix, ids, ids, cams, cams, 'regdb_rgb2ir')
    back = rank_metrics(matrix.T, ids, ids, cams, cams, 'regdb_ir2rgb')
    wanted, _ = evaluate(matrix.T, (ids, cams), (ids, cams), 'none', False)
    assert back.mean == pytest.approx(wanted, abs=1e-12)
    assert back.mean != there.mean


def test_small_galleries_and_lone_queries_are_logged(monkeypatch):
    said = []
    monkeypatch.setattr(
        'mmir.evaluation.ranking.print_log', lambda text, *_: said.append(text)
    )
    rank_metrics(tiny(), QUERIES[0], GALLERY[0], QUERIES[1], GALLERY[1], 'sysu_all_agw')
    assert '1 of 4 queries have no right image' in said[0]
    assert 'only 4 identities' in said[1]
    assert len(said) == 2
    assert all(text.startswith('sysu_all_agw: ') for text in said)


BAD = {
    'no query images': dict(distances=torch.zeros(0, 7), query_ids=[], query_cams=[]),
    'no gallery images': dict(
        distances=torch.zeros(4, 0), gallery_ids=[], gallery_cams=[]
    ),
    r'query_ids has the shape \(3,\)': dict(query_ids=[1, 2, 3]),
    'float matrix': dict(distances=torch.zeros(4, 7, dtype=torch.int64)),
    r'query images of the cameras \[9\]': dict(query_cams=[3, 6, 3, 9]),
    r'gallery images of the cameras \[3\]': dict(gallery_cams=[1, 2, 3, 4, 2, 5, 4]),
    'NaN or infinite': dict(distances=torch.full((4, 7), torch.nan)),
    'no query has a right image': dict(query_ids=[7, 8, 9, 10]),
    'trial 1: the gallery is empty': dict(galleries=[[0, 1], []]),
    'outside of 0 to 6': dict(galleries=[[0, 7]]),
    'holds no trial': dict(galleries=[]),
    'unknown protocol': dict(protocol='sysu'),
    r'cameras \[4, 5\], which are not searched': dict(
        galleries=[range(7)], protocol='sysu_indoor_agw'
    ),
}


@pytest.mark.parametrize('message', BAD)
def test_bad_input_is_refused(message):
    given = dict(
        distances=tiny(), query_ids=QUERIES[0], gallery_ids=GALLERY[0],
        query_cams=QUERIES[1], gallery_cams=GALLERY[1], protocol='sysu_all_agw',
    )  # fmt: skip
    with pytest.raises(UserError, match=message):
        rank_metrics(**{**given, **BAD[message]})


def test_trials_of_several_models_are_joined():
    rng = np.random.default_rng(0)
    ids, cams = np.repeat(np.arange(5), 8), np.ones(40)
    one, other = (
        rank_metrics(rng.random((40, 40)), ids, ids, cams, cams, 'regdb_rgb2ir')
        for _ in range(2)
    )
    joined = join_rankings([one, other])
    assert joined.trials == (*one.trials, *other.trials)
    assert joined.valid == (40, 40)
    wanted = (one.mean['mAP'] + other.mean['mAP']) / 2
    assert joined.mean['mAP'] == joined.cameras[1]['mAP'] == pytest.approx(wanted)
    back = rank_metrics(rng.random((40, 40)), ids, ids, cams, cams, 'regdb_ir2rgb')
    with pytest.raises(UserError, match=r"\['regdb_ir2rgb', 'regdb_rgb2ir'\]"):
        join_rankings([one, back])
