"""The study of IV-tuning: rows, choice of settings, report."""

import json
import sys
from collections.abc import Iterator
from types import ModuleType

import cv2
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from study_modules import study_modules
from torch import nn

from mmir.utils.errors import UserError
from mmir.utils.files import write_json

NAMES = 'ivtuning_study', 'ivtuning_study_report', '_clip_rows', '_clip_tasks', '_runs'
WIDTH = 32
TINY = dict(
    type='mmpretrain.VisionTransformer',
    arch=dict(embed_dims=WIDTH, num_layers=12, num_heads=2, feedforward_channels=64),
    img_size=32,
    patch_size=16,
    out_type='featmap',
)


@pytest.fixture(scope='module')
def modules() -> Iterator[dict[str, ModuleType]]:
    with study_modules(*NAMES) as found:
        yield found


TRAINS = {  # parts of the backbone that train; the head does in all rows
    'rgb': set(),
    'ir': set(),
    'two': {'fusions'},
    'frozen': {'patch_embed'},
    'lora': {'patch_embed', 'adapters'},
    'adaptformer': {'patch_embed', 'adapters'},
    'vpt': {'patch_embed', 'adapters'},
    'ivt': {'adapters'},
    'ivt_mp': {'adapters'},
    'ivt_ir': {'adapters'},
}


@pytest.mark.parametrize('name', [*TRAINS, 'full', 'full_rgb', 'full_ir'])
def test_what_a_row_trains(modules, tmp_path, name):
    index = dict(images=[dict(id=f'{k:03}', split='train') for k in range(3)])
    (tmp_path / 'cwfid').mkdir()
    write_json(index, tmp_path / 'cwfid/index.json')
    parts = modules['_clip_tasks'].field(tmp_path, tmp_path, held=True)
    assert (tmp_path / 'field_held_test.txt').read_text() == '002'
    parts.model['decode_head']['in_channels'] = [WIDTH] * 4
    row = modules['_clip_rows'].ROWS[name]
    choice = dict(row.choices[0])
    init_default_scope('mmseg')
    model = MODELS.build(
        modules['_clip_rows'].model_config(row, choice, parts.model, TINY, parts.heads)
    )
    pair = torch.rand(2, 6, 32, 48)
    assert model.decode_head(model.extract_feat(pair)).shape == (2, 3, 8, 12)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    head = {n for n in trained if n.startswith('decode_head')}
    assert head == {n for n, _ in model.named_parameters() if 'decode_head' in n}
    rest = trained - head
    if name in TRAINS:
        kinds = 'adapters', 'patch_embed', 'fusions'
        assert {next(k for k in kinds if k in n) for n in rest} == TRAINS[name]
    else:
        assert {'backbone.backbone.layers.0.ffn.layers.1.weight'} < rest


def test_patch_embeddings_of_baselines_have_a_rate_of_their_own(modules):
    rates = modules['_clip_rows'].rates_by_name
    assert rates('lora', 1e-3) == dict(backbone=1e-3, patch_embed=1e-5)
    for name in ('full', 'frozen', 'ivt', 'two'):
        assert rates(name, 1e-3) == dict(backbone=1e-3)


def test_the_best_rate_on_held_out_images_is_chosen(modules, tmp_path):
    study = modules['ivtuning_study']
    runs = study.search_runs('crops', ['ivt'])
    assert len(runs) == 4
    assert all(run.held for run in runs)
    assert study.chosen('crops', 'ivt', tmp_path) is None
    for run, score in zip(runs, (0.1, 0.4, 0.3, 0.2), strict=True):
        folder = run.folder(tmp_path)
        folder.mkdir(parents=True)
        write_json(dict(score=score), folder / 'result.json')
    best = study.chosen('crops', 'ivt', tmp_path)
    assert best == (runs[1].rate, runs[1].choice)
    assert study.chosen('street', 'rgb', tmp_path) == (1e-3, ())  # nothing to choose


def test_rates_of_the_field_were_chosen_before(modules):
    runs = modules['ivtuning_study'].search_runs('field', ['full'])
    found = {(run.rate, run.choice) for run in runs}
    assert found == {(1e-5, (('init', start),)) for start in ('zero', 'average')}


def test_starts_of_iv_tuning_are_not_searched_in_streets(modules):
    study = modules['ivtuning_study']
    found = {(run.rate, run.choice) for run in study.search_runs('street', ['ivt'])}
    assert found == {(rate, (('zero_init', True),)) for rate in (2e-4, 1e-3)}
    found = {(run.rate, run.choice) for run in study.search_runs('street', ['lora'])}
    starts = [(('init', start),) for start in ('zero', 'average')]
    assert found == {(rate, start) for rate in (2e-4, 1e-3) for start in starts}
    assert study.search_runs('street', ['full_ir']) == []  # its rate is known


def test_boxes_are_computed_in_float32_under_autocast(modules):
    torch.manual_seed(0)
    head = nn.Sequential(nn.Conv2d(4, 4, 1))
    head.forward = lambda maps: [head[0](x) for x in maps]
    model = nn.ModuleDict(dict(neck=nn.Conv2d(4, 4, 1), bbox_head=head))
    modules['_clip_tasks'].keep_boxes_precise_(model)
    with torch.autocast('cpu', torch.bfloat16):
        features = model['neck'](torch.rand(1, 4, 8, 8))
        (found,) = model['bbox_head']([features])
    assert features.dtype == torch.bfloat16
    weight, bias = head[0].weight[:, :, 0, 0], head[0].bias
    expected = torch.einsum('oc,nchw->nohw', weight, features.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected + bias[:, None, None])


@pytest.mark.parametrize('start', ['zero', 'average'])
def test_starts_of_the_infrared_embedding(modules, start):
    rows = modules['_clip_rows']
    net = MODELS.build(rows.reading(rows.ROWS['full'], TINY, dict(init=start)))
    kernel = net.patch_embed.projection.weight
    expected = 0 * kernel[:, :3] if start == 'zero' else kernel[:, :3]
    assert torch.equal(kernel[:, 3:], expected)


def test_a_run_belongs_to_one_process(modules, tmp_path):
    taken = modules['_runs'].taken
    with taken(tmp_path / 'run') as mine, taken(tmp_path / 'run') as other:
        assert (mine, other) == (True, False)
    write_json({}, tmp_path / 'run/result.json')
    with taken(tmp_path / 'run') as mine:
        assert not mine


def test_report(modules, tmp_path, monkeypatch, capsys):
    for row, scores in dict(full=(0.5, 0.6, 0.7), ivt=(0.6, 0.7, 0.8)).items():
        for seed, score in enumerate(scores):
            folder = tmp_path / f'street/test/{row}_seed{seed}'
            folder.mkdir(parents=True)
            settings = dict(task='street', row=row, rate=1e-3, choice={}, seed=seed)
            result = dict(
                settings=settings | dict(held=False),
                score=score,
                trainable=2_000_000,
                adapter_bytes=2**20,
                subsets=dict(rgb=0.25, ir=0.5),
                seconds=90,
            )
            if row == 'ivt':
                result['corruptions'] = {'rgb_fog/3': score - 0.05, 'clean': score}
                result['effective_rank'] = [10, 4 + seed]
            write_json(result, folder / 'result.json')
    monkeypatch.setattr(sys, 'argv', ['report', str(tmp_path)])
    modules['ivtuning_study_report'].main()
    table = capsys.readouterr().out
    assert (tmp_path / 'tables.md').read_text().strip() == table.strip()
    assert '| ivt | 0.001 | 3 | 70.0 ± 10.0 | **+10.0 [+10.0, +10.0]** |' in table
    assert '| 25.0 | 50.0 | 2.00 M | 1.0 MiB | 1.5 |' in table
    assert '| row | clean | rgb_fog/3 |' in table
    assert '| ivt | 70.0 | -5.0 |' in table
    assert '| row | 1 | 2 |' in table
    assert '| ivt | 10 | 5 |' in table
    runs = json.loads((tmp_path / 'results.json').read_text())
    assert {run['settings']['part'] for run in runs} == {'test'}
    picture = cv2.imread(str(tmp_path / 'scores_street.png'))
    assert picture.std() > 10  # not blank
    monkeypatch.setattr(sys, 'argv', ['report', str(tmp_path / 'results.json')])
    modules['ivtuning_study_report'].main()
    assert capsys.readouterr().out == table
    options = [str(tmp_path / 'results.json'), '--baseline', 'ivt']
    monkeypatch.setattr(sys, 'argv', ['report', *options])
    modules['ivtuning_study_report'].main()
    table = capsys.readouterr().out
    assert '| full | 0.001 | 3 | 60.0 ± 10.0 | **-10.0 [-10.0, -10.0]** |' in table
    monkeypatch.setattr(sys, 'argv', ['report', str(tmp_path / 'street/test')])
    with pytest.raises(UserError, match='no finished runs'):
        modules['ivtuning_study_report'].main()
