"""The study of visible-infrared re-identification: sets, rows, settings, report."""

import importlib
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
from safetensors.torch import save_file

from mmir.engine import NonFiniteLossError
from mmir.utils.errors import UserError
from mmir.utils.files import write_json

pytest.importorskip('mmpretrain')

FOLDER = Path(__file__).resolve().parents[2] / 'tools/benchmark'
NAMES = '_runs', '_paired', '_vireid_rows', '_vireid_tasks'
STUDY = 'vireid_study', 'vireid_study_report'


@pytest.fixture(scope='module')
def modules() -> Iterator[dict[str, ModuleType]]:
    sys.path.insert(0, str(FOLDER))
    yield {name: importlib.import_module(name) for name in (*NAMES, *STUDY)}
    sys.path.remove(str(FOLDER))
    for name in (*NAMES, *STUDY):
        sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def scope(monkeypatch: pytest.MonkeyPatch):
    known = DefaultScope._instance_dict
    monkeypatch.setattr(DefaultScope, '_instance_dict', known.copy())


@pytest.fixture
def args(tmp_path: Path, modules, monkeypatch) -> Namespace:
    """Arguments of the study, with 9 people cut from noise, 6 of them for training."""
    lines = ['pid,frame,ir_height,rgb_height']
    rng = np.random.default_rng(0)
    for pid in range(1, 10):
        lines.append(f'{pid:05d},x,9,9')
        for kind in ('rgb', 'ir'):
            path = tmp_path / f'person_crops/{kind}/{pid:05d}.jpg'
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), rng.integers(0, 255, (32, 16, 3), np.uint8))
    (tmp_path / 'person_crops/index.csv').write_text('\n'.join(lines) + '\n')
    monkeypatch.setattr(modules['_vireid_tasks'], 'TRAIN_PEOPLE', 6)
    folders = dict(data=tmp_path, weights=tmp_path, clip=Path())
    return Namespace(**folders, out=tmp_path / 'out')


def small(modules, monkeypatch) -> None:
    """Make the task of the crops small, without weights."""
    tasks = modules['_vireid_tasks']
    backbone = dict(type='mmpretrain.MobileNetV2', widen_factor=0.25)
    values = dict(tasks.TASKS['crops'].__dict__, backbone=lambda _: backbone)
    values |= dict(batch=(3, 1))
    monkeypatch.setitem(tasks.TASKS, 'crops', tasks.Task(**values))


def test_people_are_split_by_identity(modules, args) -> None:
    tasks = modules['_vireid_tasks']
    root = args.data / 'person_crops'
    splits = [tasks.TASKS['crops'].images(root, seed) for seed in (0, 1)]
    for train, test in splits:
        known, asked = ({image.pid for image in part} for part in (train, test))
        assert (len(known), len(asked), len(train), len(test)) == (6, 3, 12, 6)
        assert known | asked == {*range(1, 10)}
        assert {(i.cam, i.modality) for i in test} == {(1, 'rgb'), (2, 'ir')}
    assert splits[0] != splits[1]
    kept, held = tasks.held_out(splits[0][0])
    assert sorted(kept + held) == sorted(splits[0][0])
    ids = sorted({image.pid for image in splits[0][0]})
    assert {image.pid for image in held} == {ids[2], ids[5]}


def test_rows_differ_in_what_they_say(modules, args) -> None:
    study, rows = modules['vireid_study'], modules['_vireid_rows']
    choice = json.dumps(dict(rate=0.1, steps=20))

    def config(row: str) -> dict:
        return study.run_config(study.Run('crops', row, 0, choice=choice), args)

    cfgs = {row: config(row) for row in rows.ROWS}
    assert len(cfgs) == 13
    kinds = {row: cfg.model.backbone.type for row, cfg in cfgs.items()}
    plain = [row for row, kind in kinds.items() if kind == 'mmir.TwoStemBackbone']
    assert plain == ['baseline', 'CAJ', 'PedMix']
    steps = {
        row: [s['type'] for s in cfg.train_dataloader.dataset.pipeline]
        for row, cfg in cfgs.items()
    }
    assert [r for r in steps if 'mmir.ChannelAugment' in steps[r]] == ['CAJ']
    mixed = [r for r, c in cfgs.items() if 'pedmix' in c.model.data_preprocessor]
    assert mixed == [row for row in rows.ROWS if row not in ('baseline', 'CAJ', 'MFT')]
    ratios = cfgs['TMPA, sub-center'].model.data_preprocessor.pedmix.ratios
    assert tuple(ratios) == (0, 0.5, 0)
    assert cfgs['TMPA, ratio 75 %'].model.data_preprocessor.pedmix.ratios[2] == 0.75
    assert cfgs['TMPA, attention only'].model.backbone.transfer.paths == ['attention']
    others = {k: v for k, v in cfgs['MFT'].items() if k not in ('model', 'work_dir')}
    for row in ('baseline', 'TMPA', 'TMPA, outer'):
        for key in ('optim_wrapper', 'train_cfg', 'param_scheduler', 'randomness'):
            assert cfgs[row][key] == others[key]


def test_the_network_of_people_runs(modules) -> None:
    rows, task = modules['_vireid_rows'], modules['_vireid_tasks'].TASKS['people']
    x = torch.rand(2, 3, 144, 72)
    for name, width in (('baseline', 128), ('TMPA', 384)):
        backbone = task.backbone(Path())
        cfg = rows.model_config(rows.ROWS[name], backbone, task.stem, task.channels, 5)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = MODELS.build(cfg).eval()
        maps = model.backbone(x, ['rgb', 'ir'])
        assert maps[0].shape == (2, 128, 9, 5)
        assert model.neck(maps)[-1].shape == (2, width)


@pytest.mark.parametrize('row', ['CAJ', 'TMPA'])
def test_a_run(row, modules, args, monkeypatch) -> None:
    study = modules['vireid_study']
    small(modules, monkeypatch)
    run = study.Run('crops', row, 0, choice=json.dumps(dict(rate=0.01, steps=2)))
    study.execute(run, args)
    result = json.loads((run.folder(args.out) / 'result.json').read_text())
    assert result['settings']['choice'] == dict(rate=0.01, steps=2)
    assert result['values'].keys() == {'ir2rgb', 'rgb2ir'}
    for values in result['values'].values():
        assert 0 <= values['R1'] <= 100
        assert values['mAP'] == values['mINP']  # one right image per query


def test_a_rate_of_the_search_may_diverge(modules, args, monkeypatch) -> None:
    study = modules['vireid_study']
    small(modules, monkeypatch)
    choice = json.dumps(dict(rate=1e30, steps=4))
    run = study.Run('crops', 'baseline', 0, True, choice)
    # three of the six training people are too few to hold some out of
    monkeypatch.setattr(
        modules['_vireid_tasks'], 'held_out', lambda images: [images] * 2
    )
    study.execute(run, args)
    result = json.loads((run.folder(args.out) / 'result.json').read_text())
    assert result['values']['ir2rgb'] == dict(R1=0, mAP=0, mINP=0)
    with pytest.raises(NonFiniteLossError):
        study.execute(study.Run('crops', 'baseline', 0, choice=choice), args)


def test_the_best_of_a_finished_search_is_chosen(modules, args) -> None:
    study, tasks = modules['vireid_study'], modules['_vireid_tasks']
    defaults = tasks.TASKS['crops'].defaults
    runs = study.search_runs('crops')
    assert len(runs) == 2 * 4 * 2 * 2
    assert {run.held for run in runs} == {True}
    for k, run in enumerate(runs):
        rate = json.loads(run.choice)['rate']
        value = 50.0 if rate == 0.03 else 10.0 + rate
        values = dict(ir2rgb=dict(mAP=value), rgb2ir=dict(mAP=value + 2))
        if k < len(runs) - 1:  # the last one, of TMPA, is still to come
            write_json(dict(values=values), run.folder(args.out) / 'result.json')
    found = study.chosen('crops', args.out)
    steps = round(0.5 * defaults['agw']['steps'])
    assert found == dict(agw=dict(rate=0.03, steps=steps), tmpa=defaults['tmpa'])
    runs = study.test_runs('crops', ['PedMix', study.CLIP], [7], args.out)
    assert [json.loads(run.choice) for run in runs] == [found['agw'], {}]


def test_frozen_features_are_ranked(modules, args, monkeypatch) -> None:
    """Features that tell the person give 100 %, in both directions."""
    study = modules['vireid_study']

    def features(weights, root, names, cache):
        return torch.eye(9)[[int(Path(name).stem) - 1 for name in names]]

    monkeypatch.setattr(study, 'clip_features', features)
    found = study.clip_values(study.Run('crops', study.CLIP, 0), args)
    assert found == {
        name: dict(R1=100, mAP=100, mINP=100) for name in ('ir2rgb', 'rgb2ir')
    }


def test_features_are_computed_once(modules, args, monkeypatch) -> None:
    """Gray and color files, by a small transformer in place of CLIP."""
    tasks, clip = modules['_vireid_tasks'], importlib.import_module('_clip_rows')
    arch = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16)
    net = dict(type='mmpretrain.VisionTransformer', arch=arch, patch_size=32)
    monkeypatch.setattr(clip, 'backbone', lambda weights, **kw: dict(net, **kw))
    root, cache = args.data / 'person_crops', args.data / 'cache.pt'
    names = ['rgb/00001.jpg', 'rgb/00002.jpg', 'ir/gray.png']
    cv2.imwrite(str(root / names[2]), np.full((32, 16), 90, np.uint8))
    weights = {'fc.weight': torch.eye(5, 16).half(), 'fc.bias': torch.ones(5).half()}
    file = args.data / 'clip_projection_mmpretrain_fp16.safetensors'
    save_file(weights, file)
    torch.manual_seed(0)
    found = tasks.clip_features(args.data, root, names, cache)
    assert found.shape == (3, 5)
    assert not torch.allclose(found[0], found[1])
    file.unlink()
    assert torch.equal(tasks.clip_features(args.data, root, names, cache), found)
    with pytest.raises(FileNotFoundError):
        tasks.clip_features(args.data, root, names[:2], cache)


def test_report(modules, tmp_path: Path, monkeypatch, capsys) -> None:
    scores = {'baseline': (50.0, 52.0, 51.0), 'TMPA': (53.0, 54.5, 54.0)}
    for row, values in scores.items():
        for seed, value in enumerate(values):
            measures = dict(R1=value - 9, mAP=value, mINP=value)
            settings = dict(task='crops', row=row, seed=seed, held=False, choice={})
            result = dict(settings=settings, seconds=60.0, trainable=2_200_000)
            result |= dict(values=dict(ir2rgb=measures, rgb2ir=measures))
            write_json(result, tmp_path / f'crops/test/{row}_{seed}/result.json')
    monkeypatch.setattr(sys, 'argv', ['report', str(tmp_path)])
    modules['vireid_study_report'].main()
    table = capsys.readouterr().out
    assert '| TMPA | 3 | 44.8 ± 0.8 | 53.8 ± 0.8 |' in table
    # the differences are 3, 2.5 and 3
    assert '**+2.8 [+2.' in table
    assert '| baseline | 3 | 42.0 ± 1.0 | 51.0 ± 1.0 | 51.0 ± 1.0 |  |' in table
    assert len(json.loads((tmp_path / 'results.json').read_text())) == 6
    monkeypatch.setattr(sys, 'argv', ['report', str(tmp_path / 'none')])
    with pytest.raises(UserError, match='no finished runs'):
        modules['vireid_study_report'].main()
