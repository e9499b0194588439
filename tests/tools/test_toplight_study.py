"""The study of TOPLight: objects to pretrain on, rows, what waits for what."""

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from study_modules import study_modules

from mmir.reid.toplight import PARTITIONS
from mmir.utils.errors import UserError
from mmir.utils.files import write_json

pytest.importorskip('mmpretrain')

NAMES = '_runs', '_toplight_objects', '_toplight_rows', '_vireid_runs', '_vireid_tasks'
NAMES += ('toplight_study',)
SIZES = (64, 80)


@pytest.fixture(scope='module')
def modules() -> Iterator[dict[str, ModuleType]]:
    with study_modules(*NAMES) as found:
        yield found


@pytest.fixture(autouse=True)
def scope(monkeypatch: pytest.MonkeyPatch) -> None:
    known = DefaultScope._instance_dict
    monkeypatch.setattr(DefaultScope, '_instance_dict', known.copy())


def coco(rows: list[tuple[str, str, list[int]]]) -> dict:
    """COCO file with annotations (file, class, box)."""
    files = sorted({row[0] for row in rows})
    names = sorted({row[1] for row in rows})
    return dict(
        images=[dict(id=k, file_name=name) for k, name in enumerate(files)],
        categories=[dict(id=k, name=name) for k, name in enumerate(names)],
        annotations=[
            dict(image_id=files.index(f), category_id=names.index(n), bbox=box)
            for f, n, box in rows
        ],
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A street with people in one camera or the other, and a bird."""
    seen = [
        ('RGB/1.png', 'car', [5, 5, 20, 20]),
        ('RGB/1.png', 'bicycle', [40, 30, 20, 24]),  # somebody rides it
        ('RGB/1.png', 'person', [44, 20, 10, 30]),
        ('RGB/2.png', 'car', [30, 20, 24, 16]),  # somebody warm stands before it
        ('RGB/2.png', 'bicycle', [60, 2, 8, 8]),  # too small
        ('RGB/2.png', 'bicycle', [2, 40, 20, 20]),
    ]
    warm = [('thermal_8_bit/2.png', 'person', [50, 30, 6, 20])]
    for split in ('train', 'val'):
        folder = tmp_path / 'street_pairs' / split
        (folder / 'RGB').mkdir(parents=True)
        rows = seen if split == 'train' else [('RGB/3.png', 'car', [0, 0, 60, 40])]
        (folder / 'rgb_annotations.json').write_text(json.dumps(coco(rows)))
        (folder / 'thermal_annotations.json').write_text(json.dumps(coco(warm)))
        for name in {row[0] for row in rows}:
            image(folder / name)
    flying = [('a.png', 'bird', [10, 10, 16, 18]), ('a.png', 'drone', [0, 0, 9, 9])]
    flying.append(('b.png', 'drone', [10, 10, 20, 20]))  # invisible against the sky
    (tmp_path / 'drone_rgb/images').mkdir(parents=True)
    for split in ('train', 'test'):
        file = tmp_path / f'drone_rgb/{split}.json'
        file.write_text(json.dumps(coco(flying)))
    image(tmp_path / 'drone_rgb/images/a.png')
    sky = np.random.default_rng(0).normal(128, 2, (*SIZES, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / 'drone_rgb/images/b.png'), sky)
    return tmp_path


def image(path: Path) -> None:
    """Image whose blue and green channels are three times the column and the row."""
    columns, rows = np.meshgrid(np.arange(SIZES[1]), np.arange(SIZES[0]))
    pixels = np.stack([3 * columns, 3 * rows, 0 * rows], -1).astype(np.uint8)
    cv2.imwrite(str(path), pixels)


def test_objects_without_people(modules, data: Path) -> None:
    cut = modules['_toplight_objects'].object_folder
    root = cut(data, data / 'out')
    assert root == data / 'out'
    files = {path.name: sorted(path.iterdir()) for path in root.iterdir()}
    counts = dict(bicycle=1, bird=2, car=2)
    assert {name: len(paths) for name, paths in files.items()} == counts
    assert modules['_toplight_objects'].class_counts(root) == counts
    corners = {
        name: [tuple(cv2.imread(str(path))[0, 0, :2] // 3) for path in paths]
        for name, paths in files.items()
    }
    # margins of 1.2; a crop is moved into the image where it would leave it
    assert corners == dict(car=[(3, 3), (0, 0)], bicycle=[(0, 38)], bird=[(7, 8)] * 2)
    assert cv2.imread(str(files['car'][1])).shape[:2] == (64, 64)
    before = files['car'][0].stat().st_mtime_ns
    assert cut(data, data / 'out') == root
    assert files['car'][0].stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ('one', 'other', 'shared'),
    [
        ((0, 0, 4, 4), (3, 3, 4, 4), True),
        ((0, 0, 4, 4), (4, 0, 4, 4), False),
        ((0, 0, 9, 9), (2, 2, 1, 1), True),
        ((0, 5, 4, 4), (1, 0, 4, 5), False),
    ],
)
def test_overlap(modules, one, other, shared: bool) -> None:
    overlap = modules['_toplight_objects'].overlap
    assert overlap(one, other) is shared
    assert overlap(other, one) is shared


def test_people_of_a_pretraining(modules, tmp_path: Path) -> None:
    """RGB images only, and only those of the people that are given."""
    study, known = modules['_toplight_objects'], modules['_vireid_tasks'].PersonImage
    images = [
        known(f'cam{cam}/{pid:04d}/1.jpg', pid, cam, kind)
        for pid in (3, 7, 9)
        for cam, kind in ((1, 'rgb'), (2, 'rgb'), (3, 'ir'))
    ]
    for k, found in enumerate(images):
        (tmp_path / found.path).parent.mkdir(parents=True)
        (tmp_path / found.path).write_bytes(bytes([k]))
    root = study.people_folder(images[:6], tmp_path, tmp_path / 'first/train_0')
    found = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob('*.jpg')}
    assert found == {
        '0003/cam1_0003_1.jpg': b'\0', '0003/cam2_0003_1.jpg': b'\1',
        '0007/cam1_0007_1.jpg': b'\3', '0007/cam2_0007_1.jpg': b'\4',
    }  # fmt: skip


def build(modules, row: str, pretrained: Path | None = None) -> torch.nn.Module:
    """Model of a row, without ImageNet weights."""
    rows = modules['_toplight_rows']
    light = dict(type='mmpretrain.MobileNetV2')
    cfg = rows.model_config(rows.ROWS[row], light, pretrained, 5)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(cfg)


def test_rows_start_where_they_say(modules, tmp_path: Path) -> None:
    """Both forms of a pretraining load whole, and differ in what exists twice."""
    row, rows = PARTITIONS['mobilenetv2'], modules['_toplight_rows']
    backbone = dict(type='mmir.LightMobileNetV2')
    dual = dict(type='mmir.DualPathBackbone', backbone=backbone, network='mobilenetv2')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        net = MODELS.build(dual)
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(torch.rand_like(value))
    states = dict(paths=net.state_dict(), soup=net.soup()[0].state_dict())
    for start, file in (('paths', rows.PATHS_FILE), ('soup', rows.SOUP_FILE)):
        torch.save(dict(state_dict=states[start]), tmp_path / file)
    twice = dict.fromkeys(('TOP, L_id', 'plain, two paths'), row.paths)
    twice |= dict.fromkeys(('TOP, soup', 'plain', 'TOP, soup, FDR'), row.stem)
    for name, doubled in twice.items():
        chosen = rows.ROWS[name]
        model = build(modules, name, tmp_path if chosen.pretraining else None)
        model.init_weights()
        state = model.backbone.state_dict()
        found = {k.split('.')[1] for k in state if '.copies.' in k}
        assert found == {part.split('.')[0] for part in doubled}
        if chosen.pretraining:
            for key, value in states[chosen.start].items():
                torch.testing.assert_close(state[key], value, rtol=0, atol=0)
        maps = model.eval().backbone(torch.rand(2, 3, 64, 32), ['rgb', 'ir'])
        assert model.neck(maps)[-1].shape == (2, 1920 if chosen.fdr else 1280)


def test_resnet_50(modules) -> None:
    """Its published size, 23.51 million without classifier, and a second stem."""
    model = build(modules, 'ResNet-50')
    assert model.backbone(torch.rand(2, 3, 64, 32), ['rgb', 'ir'])[-1].shape[1] == 2048
    stem = 3 * 64 * 49 + 2 * 64
    assert sum(p.numel() for p in model.backbone.parameters()) == 23_508_032 + stem


def test_pretrainings_follow_the_configs(modules) -> None:
    rows = modules['_toplight_rows']
    parts = {
        name: rows.pretraining_parts(name, dict(type='net'), 6, (72, 144))
        for name in rows.PRETRAININGS
    }
    heads = {name: part['model']['head'] for name, part in parts.items()}
    assert [n for n, head in heads.items() if head['domain']] == ['L_idc + L_fd']
    assert tuple(heads['L_idc + L_fd']['domain']['channels']) == (32, 1280)
    assert {head['num_classes'] for head in heads.values()} == {6}
    weight = {name: head['identity']['consistency'] for name, head in heads.items()}
    assert weight == {'generic': 0, 'L_id': 0, 'L_idc': 1, 'L_idc + L_fd': 1}
    kinds = {
        name: [[s['type'] for s in view] for view in part['pipeline'][1]['transforms']]
        for name, part in parts.items()
    }
    assert [n for n, (_, two) in kinds.items() if two[-1].endswith('Grayscale')] == [
        'L_id', 'L_idc', 'L_idc + L_fd'
    ]  # fmt: skip
    for part in parts.values():
        crops = [view[0] for view in part['pipeline'][1]['transforms']]
        assert [crop['scale'] for crop in crops] == [(72, 144)] * 2
        for crop in crops:  # a third wider or narrower than the view
            assert crop['aspect_ratio_range'] == pytest.approx((3 / 8, 2 / 3))


def test_what_waits_for_a_pretraining(modules, tmp_path: Path) -> None:
    study = modules['toplight_study']
    names = ['plain', 'TOP, L_idc + L_fd', 'TOP, soup', 'plain, FDR']
    words = dict(task='crops', out=tmp_path)
    words |= dict(search_pretraining=False)
    args = Namespace(**words, search=False, seeds=[3], rows=names)
    runs = study.all_runs(args)
    choice = json.dumps(dict(rate=study.PLANS['crops'].rate))
    first = study.Run('crops', 'pretraining, L_idc + L_fd', 3, choice=choice)
    assert [run.row for run in runs] == [names[0], first.row, *names[1:]]
    now = [run.row for run in study.ready(runs, tmp_path)]
    assert now == ['plain', first.row, 'plain, FDR']
    write_json({}, first.folder(tmp_path) / 'result.json')
    assert study.ready(runs, tmp_path) == runs
    search = study.all_runs(Namespace(**words, search=True, seeds=[0, 1]))
    assert {(run.row, run.held) for run in search} == {
        ('plain', True), ('plain, FDR', True)
    }  # fmt: skip
    assert len({run.folder(tmp_path) for run in search}) == 2 * 2 * 4


def test_rows_of_one_pooling_share_the_rate(modules, tmp_path: Path) -> None:
    study = modules['toplight_study']
    best = {'plain': 0.03, 'plain, FDR': 0.003}
    for row, rate in best.items():
        for run in study.search_runs('crops', [row], [0]):
            value = float(json.loads(run.choice)['rate'] == rate)
            values = dict(ir2rgb=dict(mAP=value), rgb2ir=dict(mAP=value))
            write_json(dict(values=values), run.folder(tmp_path) / 'result.json')
    names = [*study.PLANS['crops'].rows]
    assert {*modules['_toplight_rows'].ROWS} - {*names} == {'ResNet-50'}
    words = dict(task='crops', out=tmp_path, search=False, seeds=[0])
    words |= dict(search_pretraining=False)
    runs = study.all_runs(Namespace(**words, rows=names))
    rates = {run.row: json.loads(run.choice).get('rate') for run in runs}
    assert {row: rates[row] for row in names} == {
        row: 0.003 if 'FDR' in row else 0.03 for row in names
    }


def test_the_best_pretraining_of_a_split_is_for_all_rows(modules, tmp_path) -> None:
    study = modules['toplight_study']
    words = dict(task='crops', out=tmp_path, search=False, rows=['plain', 'TOP, L_id'])
    search = study.all_runs(Namespace(**words, search_pretraining=True, seeds=[0, 1]))
    rates = study.PLANS['crops'].rates
    for first, run in zip(search[::2], search[1::2], strict=True):
        assert study.pretraining_of(run) == first
        assert (first.held, run.held, run.row) == (False, True, 'TOP, soup')
    assert len({run.folder(tmp_path) for run in search}) == 2 * 2 * len(rates)
    for run in search[1::2]:
        rate = json.loads(run.choice)['pretraining_rate']
        value = float(rate == rates[1 + run.seed])
        values = dict(ir2rgb=dict(mAP=value), rgb2ir=dict(mAP=value))
        write_json(dict(values=values), run.folder(tmp_path) / 'result.json')
    words |= dict(search_pretraining=False)
    runs = study.all_runs(Namespace(**words, seeds=[0, 1, 2]))
    found = {
        (run.row, run.seed): json.loads(run.choice).get('pretraining_rate')
        for run in runs
        if not run.row.startswith('pretraining')
    }
    assert found == {
        **{('plain', seed): None for seed in range(3)},
        ('TOP, L_id', 0): rates[1],
        ('TOP, L_id', 1): rates[2],
        ('TOP, L_id', 2): study.PLANS['crops'].rate,
    }
    (search[-1].folder(tmp_path) / 'result.json').unlink()
    with pytest.raises(UserError, match='seed 1, has 3 of 4 runs: finish it'):
        study.all_runs(Namespace(**words, seeds=[1]))


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ('--task scratch --search-pretraining', 'scratch has one rate, 0.05'),
        ('--data . --weights . --search --rows plain', 'takes no --rows'),
        ('--data .', 'needs --data and --weights'),
        ('--data . --weights . --rows ResNet-50', r"no rows \['ResNet-50'\]"),
        ('--task scratch --rows plain ResNet-50', None),
    ],
)
def test_command_line(modules, monkeypatch, words: str, message: str | None) -> None:
    monkeypatch.setattr(sys, 'argv', ['study', *words.split()])
    parse = modules['toplight_study'].parse
    if message is None:
        assert (parse().rows, parse().seeds) == (['plain', 'ResNet-50'], [0, 1, 2])
        return
    with pytest.raises(UserError, match=message):
        parse()


def test_search_of_scratch(modules, monkeypatch) -> None:
    """All seeds have the same people, so the first one is searched."""
    study = modules['toplight_study']
    monkeypatch.setattr(sys, 'argv', ['study', '--task', 'scratch', '--search'])
    runs = study.all_runs(study.parse())
    assert {(run.row, run.seed) for run in runs} == {
        (row, 0) for row in ('plain', 'plain, FDR', 'ResNet-50')
    }
    assert len(runs) == 3 * len(modules['_vireid_tasks'].TASKS['scratch'].searched)


@pytest.mark.slow
def test_from_pretraining_to_result(modules, tmp_path: Path, monkeypatch) -> None:
    """A step or two of each kind. The pretraining sees the training people only."""
    study, tasks = modules['toplight_study'], modules['_vireid_tasks']
    counts = dict(train=8, test=3, images=1)
    values = dict(tasks.TASKS['scratch'].__dict__, batch=(2, 1), steps=2)
    values |= dict(root=lambda data, out: tasks._people_root(data, out, counts))
    values |= dict(protocols=tasks.BOTH)
    monkeypatch.setitem(tasks.TASKS, 'scratch', tasks.Task(**values))
    plan = dict(study.PLANS['scratch'].__dict__, size=(32, 64), steps=1)
    plan |= dict(quantized=('TOP, soup, FDR',))
    monkeypatch.setitem(study.PLANS, 'scratch', study.Plan(**plan))
    monkeypatch.setattr(study, 'BATCH', 2)
    monkeypatch.setattr(study, 'MEASURED', 1)
    rows = ['plain', 'TOP, L_idc + L_fd', 'TOP, soup, FDR']
    words = ['study', '--task', 'scratch', '--out', str(tmp_path), '--seeds', '0']
    monkeypatch.setattr(sys, 'argv', [*words, '--rows', *rows])
    study.main()
    files = {path.parent.name: path for path in tmp_path.rglob('result.json')}
    found = {name: json.loads(path.read_text()) for name, path in files.items()}
    first = found.pop('pretraining-L_idc_+_L_fd_rate=0.05_seed0')
    train, test = tasks.TASKS['scratch'].images(tmp_path / 'scratch/people_images', 0)
    own, others = ({image.pid for image in part} for part in (train, test))
    assert {*map(int, first['images'])} == own
    assert not own & others
    assert {*first['losses']} == {'loss', 'loss_identity', 'loss_domain'}
    assert first['distance'] > 0
    results = {run['settings']['row']: run for run in found.values()}
    assert {*results} == {*rows}
    for run in results.values():
        assert all(0 <= value['mAP'] <= 100 for value in run['values'].values())
    assert [row for row, run in results.items() if 'int8' in run] == [rows[-1]]
    rough = results[rows[-1]]
    assert rough['int8'].keys() == {'ir2rgb', 'rgb2ir'}
    assert rough['cosines'].keys() == {'int8', 'int8, all'}
    assert all(0 < cosine < 1 for cosine in rough['cosines'].values())
    assert not [*tmp_path.rglob('*.onnx')]
    macs = {row: run['macs'] for row, run in results.items()}
    assert macs['plain'] == macs['TOP, L_idc + L_fd']
    fdr = 2 * 1280 * 960 * 5 * 3  # a 1x1 convolution for each set of slices
    assert macs['TOP, soup, FDR'] - macs['plain'] == fdr
