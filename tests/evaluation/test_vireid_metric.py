"""The metric in a test loop: modalities, padding, protocols in every line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import METRICS
from rank_reference import evaluate
from torch import multiprocessing
from torch.nn import functional

from mmir.evaluation import VIReIDMetric, draw_galleries, vireid_metric
from mmir.utils.errors import UserError

TWO = ['sysu_all_agw', 'sysu_indoor_agw']


def people(seed=0, ids=8, images=3, noise=0.8):
    """Samples in the style of SYSU-MM01, in random order."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(ids, 6))
    samples = []
    for pid in range(1, ids + 1):
        for cam in range(1, 7):
            for k in range(images):
                feature = centers[pid - 1] + noise * rng.normal(size=6)
                samples.append(
                    dict(
                        feature=torch.tensor(feature, dtype=torch.float32),
                        pid=pid,
                        cam_id=cam,
                        modality='ir' if cam in (3, 6) else 'rgb',
                        img_path=f'cam{cam}/{pid:04d}/{k:04d}.jpg',
                    )
                )
    return [samples[k] for k in rng.permutation(len(samples))]


def run(samples, size=None, **options):
    metric = VIReIDMetric(**options)
    for k in range(0, len(samples), 7):
        metric.process({}, samples[k : k + 7])
    return metric.evaluate(len(samples) if size is None else size)


def test_equals_the_plain_evaluation():
    samples = people()
    got = run(samples, protocols=TWO)
    query, pool = (
        [s for s in samples if s['modality'] == name] for name in ('ir', 'rgb')
    )
    labels = [
        tuple(np.array([s[key] for s in side]) for key in ('pid', 'cam_id'))
        for side in (query, pool)
    ]
    a, b = (
        functional.normalize(torch.stack([s['feature'].double() for s in side]))
        for side in (query, pool)
    )
    for name in TWO:
        galleries = draw_galleries(name, *labels[1], [s['img_path'] for s in pool])
        assert len(galleries) == 10
        trials = [
            evaluate(
                (-a @ b[torch.as_tensor(index)].t()).numpy(),
                labels[0],
                tuple(column[index] for column in labels[1]),
                'same_place',
                True,
            )[0]
            for index in galleries
        ]
        for key in ('R1', 'R5', 'R10', 'R20', 'mAP', 'mINP'):
            values = [100 * trial[key] for trial in trials]
            assert got[f'{name}/{key}'] == pytest.approx(np.mean(values), abs=1e-9)
            if f'{name}/{key}_std' in got:
                assert got[f'{name}/{key}_std'] == pytest.approx(np.std(values))
    assert len(got) == 2 * 9


def test_the_order_of_the_loader_does_not_matter():
    samples = people()
    shuffled = [samples[k] for k in np.random.default_rng(5).permutation(len(samples))]
    one, other = (run(s, protocols='sysu_all_agw') for s in (samples, shuffled))
    assert other == pytest.approx(one, abs=1e-9)


def test_the_table_names_the_protocol_in_every_line(monkeypatch):
    said = []
    monkeypatch.setattr(vireid_metric, 'print_log', lambda text, *_: said.append(text))
    got = run(people(), protocols='sysu_all_agw')
    head, _, *rows = said[0].strip().splitlines()
    assert head.startswith('| protocol | queries | R1 |')
    assert all(row.startswith('| sysu_all_agw |') for row in rows)
    kinds = [row.split(' | ')[1] for row in rows]
    assert kinds == ['all', 'std of 10 trials', 'camera 3', 'camera 6']
    assert f'{got["sysu_all_agw/mAP"]:.2f}' in rows[0]


def test_re_ranking_has_names_of_its_own():
    got = run(people(ids=12), protocols='sysu_all_agw', rerank=True)
    assert got['sysu_all_agw+rerank/mAP'] != got['sysu_all_agw/mAP']


def test_a_protocol_of_your_own():
    mine = dict(name='mine', query='rgb', hidden='same_view')
    got = run(people(noise=0.0), protocols=mine)
    assert got['mine/R1'] == got['mine/mINP'] == pytest.approx(100)
    assert set(got) == {f'mine/{key}' for key in vireid_metric.MEASURES}


def test_it_is_registered_and_runs_in_an_evaluator():
    assert METRICS.get('mmir.VIReIDMetric') is VIReIDMetric
    evaluator = Evaluator([dict(type='VIReIDMetric', protocols='regdb_rgb2ir')])
    samples = people()
    evaluator.process(data_samples=samples, data_batch={})
    assert 0 < evaluator.evaluate(len(samples))['regdb_rgb2ir/mAP'] < 100


def test_padded_samples_count_once():
    samples = people()
    metric = VIReIDMetric('sysu_all_agw')
    metric.process({}, samples)
    metric.size = len(samples)
    padded = metric.compute_metrics([*metric.results, *metric.results[:5]])
    assert padded == pytest.approx(run(samples, protocols='sysu_all_agw'), abs=1e-9)


@pytest.mark.parametrize(
    ('change', 'options', 'message'),
    [
        (lambda s: s[0].pop('cam_id'), {}, 'lack cam_id'),
        (lambda s: s[0].pop('feature'), {}, "lack feature. The model adds 'feature'"),
        (lambda s: s.append(s[0]), {}, '144 different images .* dataset of 145'),
        (lambda s: s[0]['feature'].fill_(torch.nan), {}, 'NaN or infinite'),
        (lambda s: [x.update(modality='rgb') for x in s], {}, "0 images are 'ir'"),
        (None, dict(protocols='plain'), 'which modality the queries have'),
        (None, dict(protocols='sysu'), 'unknown protocol'),
        (None, dict(protocols=dict(query='ir')), 'a protocol has a name'),
        (None, dict(protocols='sysu_all_official'), 'needs permutations='),
    ],
)
def test_what_is_wrong_is_said(change, options, message):
    samples = people()
    if change:
        change(samples)
    with pytest.raises(UserError, match=message):
        run(samples, **{'protocols': 'sysu_all_agw', **options})


def _rank(rank, folder):
    """One of two processes, whose loader pads 144 samples + 1 to 146."""
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2
    )
    samples = people()[:-1]  # an odd number
    own = [*samples, samples[0]][rank::2]
    found = run(own, size=len(samples), protocols=TWO)
    Path(folder, f'{rank}.json').write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    multiprocessing.spawn(_rank, (str(tmp_path),), nprocs=2)
    ranks = [json.loads((tmp_path / f'{rank}.json').read_text()) for rank in range(2)]
    assert ranks[0] == ranks[1]
    assert ranks[0] == pytest.approx(run(people()[:-1], protocols=TWO), abs=1e-9)


@pytest.mark.parametrize('shots', ['', '_10shot'])
def test_official_galleries(tmp_path, shots):
    """Permutations that put the same image first give the same gallery every time."""
    io = pytest.importorskip('scipy.io')
    cell = np.empty((6, 1), object)
    for cam in range(6):
        inner = np.empty((8, 1), object)
        for pid in range(8):
            inner[pid, 0] = np.tile([2, 1, 3], (10, 1)).astype(np.uint8)
        cell[cam, 0] = inner
    path = tmp_path / 'rand_perm_cam.mat'
    io.savemat(path, {'rand_perm_cam': cell})
    samples, name = people(), f'sysu_all_official{shots}'
    got = run(samples, protocols=name, permutations=str(path))
    assert got[f'{name}/mAP_std'] == pytest.approx(0, abs=1e-12)
    drawn = [
        s
        for s in samples
        if s['modality'] == 'ir' or shots or s['img_path'].endswith('/0001.jpg')
    ]
    mine = dict(
        name='mine', query='ir', hidden='same_place', unique_ids=True, draw='all'
    )
    wanted = run(drawn, protocols=mine)
    assert got[f'{name}/mAP'] == pytest.approx(wanted['mine/mAP'])
    assert got[f'{name}/R1'] == pytest.approx(wanted['mine/R1'])
