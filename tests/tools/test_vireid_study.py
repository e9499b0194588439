"""The study of visible-infrared re-identification: sets, rows, settings."""

import importlib
import itertools
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
from mmengine.dataset import BaseDataset
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS, DefaultScope
from reid_models import people
from safetensors.torch import save_file
from study_modules import study_modules

from mmir.engine import NonFiniteLossError
from mmir.reid.samplers import CrossModalIdentitySampler
from mmir.utils.errors import UserError
from mmir.utils.files import write_json

pytest.importorskip('mmpretrain')

NAMES = '_runs', '_vireid_rows', '_vireid_runs', '_vireid_tasks', 'vireid_study'
FRAMES = ['00004N', '00004N', '00016N', '00029N', '00033N', '00040D']
FRAMES += ['00053D', '00060D', '00061N']
SCENES = {1: 0, 2: 0, 3: 0, 4: 1, 5: 1, 6: 2, 7: 3, 8: 3, 9: 4}
"""12 frames further is the same scene, 13 frames or night is another one."""


@pytest.fixture(scope='module')
def modules() -> Iterator[dict[str, ModuleType]]:
    with study_modules(*NAMES) as found:
        yield found


@pytest.fixture(autouse=True)
def scope(monkeypatch: pytest.MonkeyPatch):
    known = DefaultScope._instance_dict
    monkeypatch.setattr(DefaultScope, '_instance_dict', known.copy())


@pytest.fixture
def args(tmp_path: Path, modules, monkeypatch) -> Namespace:
    """Arguments of the study, with 9 people cut from noise, 6 of them for training.

    They belong to 5 scenes: the people 1-3, 4-5, 6, 7-8 and 9.
    """
    lines = ['pid,frame,ir_height,rgb_height']
    rng = np.random.default_rng(0)
    for pid, frame in enumerate(FRAMES, 1):
        lines.append(f'{pid:05d},{frame}.png,9,9')
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


def test_scenes(modules, args) -> None:
    tasks = modules['_vireid_tasks']
    assert tasks._crop_scenes(args.data / 'person_crops') == SCENES
    names = ['00020N.png', '00004N.png', '00008N.png']  # in any order
    assert tasks.scenes_of(names) == [0, 0, 0]
    assert tasks.scenes_of([names[0], names[1]]) == [1, 0]
    with pytest.raises(UserError, match="frame 'x' must be a number"):
        tasks.scenes_of(['00004N.png', 'x'])


@pytest.mark.parametrize('seed', range(6))
def test_scenes_are_not_divided(modules, seed) -> None:
    """The first part is full: no other scene would fit."""
    split = modules['_vireid_tasks'].split_scenes
    first, rest = split(SCENES, 6, seed)
    assert (first | rest, first & rest) == ({*SCENES}, set())
    assert not {SCENES[pid] for pid in first} & {SCENES[pid] for pid in rest}
    left = [SCENES[pid] for pid in rest]
    assert len(first) <= 6 < len(first) + min(map(left.count, left))
    first, rest = split(dict.fromkeys(range(5), 0) | dict.fromkeys((8, 9), 1), 6, seed)
    assert (first, rest) in (({*range(5)}, {8, 9}), ({8, 9}, {*range(5)}))


def test_people_are_split_by_scene(modules, args) -> None:
    tasks = modules['_vireid_tasks']
    root = args.data / 'person_crops'
    splits = [tasks.TASKS['crops'].images(root, seed) for seed in (0, 1, 2)]
    for seed, (train, test) in enumerate(splits):
        known, asked = ({image.pid for image in part} for part in (train, test))
        assert (len(known), len(asked), len(train), len(test)) == (6, 3, 12, 6)
        assert known | asked == {*range(1, 10)}
        assert {(i.cam, i.modality) for i in test} == {(1, 'rgb'), (2, 'ir')}
        kept, held = tasks.held_out(train, SCENES, seed)
        assert sorted(kept + held) == sorted(train)
        parts = [{SCENES[image.pid] for image in part} for part in (kept, held, test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 5
        assert 0 < len(kept) <= 2 * 4  # two thirds of six people
    assert len({str(split) for split in splits}) > 1


def test_a_third_of_the_synthetic_people_is_held_out(modules) -> None:
    tasks = modules['_vireid_tasks']
    images = [tasks.PersonImage(f'{k}.jpg', k, 1, 'rgb') for k in range(1, 31)]
    kept, held = tasks.held_out(images, {k: k for k in range(1, 31)}, 0)
    assert (len(kept), len(held)) == (20, 10)
    assert sorted(kept + held) == sorted(images)
    assert held != tasks.held_out(images, {k: k for k in range(1, 31)}, 1)[1]


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
    samplers = [cfg.train_dataloader.sampler for cfg in cfgs.values()]
    assert samplers == [samplers[0]] * 13


def test_endless_batches_are_those_of_the_epochs(modules) -> None:
    letters = dict(r='rgb', i='ir')
    samples = [
        dict(gt_label=label, modality=letters[letter])
        for label, letter in zip([0, 0, 0, 1, 1, 2, 2], 'rirriri', strict=True)
    ]
    dataset = BaseDataset(serialize_data=False, lazy_init=True)
    dataset.data_list, dataset._fully_initialized = samples, True
    options = dict(ids_per_batch=2, images_per_id=1, seed=3)
    epochs = CrossModalIdentitySampler(dataset, **options)
    wanted = []
    for epoch in range(3):
        epochs.set_epoch(epoch)
        wanted += epochs
    endless = modules['_vireid_runs'].EndlessIdentitySampler(dataset, **options)
    found = list(itertools.islice(endless, len(wanted)))
    assert found == wanted
    assert wanted[: len(epochs)] != wanted[len(epochs) : 2 * len(epochs)]


def test_schedule(modules) -> None:
    """The rate rises to its full value in a tenth of the steps and ends at 1 %."""
    found = modules['_vireid_runs'].schedule(0.2, 40, 0.1)
    assert found['train_cfg']['max_iters'] == 40
    wrapper, net = found['optim_wrapper'], torch.nn.Module()
    net.backbone = torch.nn.Linear(1, 1, bias=False)
    net.backbone.transfer = torch.nn.Linear(1, 1, bias=False)
    net.head = torch.nn.Linear(1, 1, bias=False)
    optim = build_optim_wrapper(net, dict(wrapper, type='mmengine.OptimWrapper'))
    names = [name for name, _ in net.named_parameters()]
    rates = dict(zip(names, optim.get_lr()['lr'], strict=True))
    wanted = {'backbone': 0.02, 'backbone.transfer': 0.2, 'head': 0.2}
    assert rates == pytest.approx({f'{k}.weight': v for k, v in wanted.items()})
    schedulers = [
        PARAM_SCHEDULERS.build(dict(cfg, optimizer=optim.optimizer))
        for cfg in found['param_scheduler']
    ]
    history = []
    for _ in range(40):
        history.append(optim.get_lr()['lr'][-1])
        optim.optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert history[0] == pytest.approx(0.02)
    assert history[3] == pytest.approx(0.2)  # the last of 4 steps of warmup
    assert max(history) == pytest.approx(0.2)
    assert history[-1] == pytest.approx(0.002, rel=0.2)


def test_masks_of_pedmix_differ_between_seeds(modules, args) -> None:
    study = modules['vireid_study']
    choice = json.dumps(dict(rate=0.1, steps=20))
    images = torch.tensor([0.0, 1.0] * 4).view(8, 1, 1, 1).repeat(1, 3, 144, 72)
    batch = dict(
        inputs=images, data_samples=people(['rgb', 'ir'] * 4, [0, 0, 1, 1, 2, 2, 3, 3])
    )
    mixed = []
    for seed in (0, 3, 3):
        run = study.Run('crops', 'PedMix', seed, choice=choice)
        cfg = study.run_config(run, args).model.data_preprocessor
        assert cfg.seed == seed
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            mixed.append(MODELS.build(cfg).mix(batch)['inputs'])
    assert not torch.equal(mixed[0], mixed[1])
    assert torch.equal(mixed[1], mixed[2])
    assert not torch.equal(mixed[1], images)


def test_one_search_counts_for_all_seeds_of_one_split(modules, args) -> None:
    study = modules['vireid_study']
    for row, best in (('baseline', 0.003), ('TMPA', 0.001)):
        for run in study.search_runs('people', [row], [0]):
            value = float(json.loads(run.choice)['rate'] == best)
            values = dict(sysu_all_agw=dict(mAP=value), rgb2ir=dict(mAP=value))
            write_json(dict(values=values), run.folder(args.out) / 'result.json')
    for seed in (0, 2):
        found = study.chosen('people', args.out, seed, study.SEARCH_ROWS)
        rates = {key: json.loads(value)['rate'] for key, value in found.items()}
        assert rates == dict(agw=0.003, tmpa=0.001)


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
        modules['_vireid_tasks'], 'held_out', lambda images, *_: [images] * 2
    )
    study.execute(run, args)
    result = json.loads((run.folder(args.out) / 'result.json').read_text())
    assert result['values']['ir2rgb'] == dict(R1=0, mAP=0, mINP=0)
    with pytest.raises(NonFiniteLossError):
        study.execute(study.Run('crops', 'baseline', 0, choice=choice), args)


def write_search(study, out: Path, seed: int, best: float, rows=None) -> None:
    """Results of a search in which one rate is the best of all."""
    rows = rows or [*study.SEARCH_ROWS.values()]
    for run in study.search_runs('crops', rows, [seed]):
        rate = json.loads(run.choice)['rate']
        value = 50.0 if rate == best else 10.0 + rate
        values = dict(ir2rgb=dict(mAP=value), rgb2ir=dict(mAP=value + 2))
        write_json(dict(values=values), run.folder(out) / 'result.json')


def test_the_best_rate_of_each_split_is_chosen(modules, args) -> None:
    study = modules['vireid_study']
    runs = study.search_runs('crops', ['baseline', 'TMPA'], [0, 1])
    assert len({run.folder(args.out) for run in runs}) == 2 * 2 * 4
    assert {run.held for run in runs} == {True}
    assert {json.loads(run.choice)['steps'] for run in runs} == {80}
    write_search(study, args.out, 0, 0.03)
    write_search(study, args.out, 1, 0.001, ['baseline'])

    def rates(seed: int) -> dict[str, float]:
        found = study.chosen('crops', args.out, seed, study.SEARCH_ROWS)
        return {key: json.loads(value)['rate'] for key, value in found.items()}

    assert rates(0) == dict(agw=0.03, tmpa=0.03)
    assert rates(1) == dict(agw=0.001, tmpa=0.03)  # the default of TMPA
    assert rates(2) == dict(agw=0.03, tmpa=0.03)
    runs = study.test_runs('crops', ['PedMix', 'MFT', study.CLIP], [0, 1], args.out)
    assert [(run.seed, json.loads(run.choice).get('rate')) for run in runs] == [
        (0, 0.03), (0, 0.03), (0, None), (1, 0.001), (1, 0.03), (1, None)
    ]  # fmt: skip
    assert {json.loads(run.choice).get('steps', 80) for run in runs} == {80}


def test_an_unfinished_search_decides_nothing(modules, args) -> None:
    study = modules['vireid_study']
    write_search(study, args.out, 4, 0.03)
    last = study.search_runs('crops', ['TMPA'], [4])[-1]
    (last.folder(args.out) / 'result.json').unlink()
    with pytest.raises(UserError, match=r'TMPA, seed 4, has 3 of 4 .*--seeds 4'):
        study.test_runs('crops', ['baseline'], [4], args.out)


@pytest.mark.parametrize(
    ('words', 'rows', 'seeds', 'count'),
    [
        ('', {'baseline', 'TMPA'}, {0}, 6),
        ('--task crops --data .', {'baseline', 'TMPA'}, {*range(5)}, 40),
        ('--task crops --data . --rows TMPA --seeds 5 7', {'TMPA'}, {5, 7}, 8),
    ],
)
def test_what_is_searched(modules, monkeypatch, words, rows, seeds, count) -> None:
    study, asked = modules['vireid_study'], []
    words = ['study', '--weights', '.', '--search', *words.split()]
    monkeypatch.setattr(sys, 'argv', words)
    monkeypatch.setattr(study, 'drain', lambda ready, *_: asked.extend(ready()))
    study.main()
    assert len(asked) == count
    assert ({run.row for run in asked}, {run.seed for run in asked}) == (rows, seeds)


def test_rows_that_inherit_are_not_searched(modules, monkeypatch) -> None:
    words = ['study', '--search', '--rows', 'TMPA', 'CAJ']
    monkeypatch.setattr(sys, 'argv', words)
    with pytest.raises(UserError, match=r"does not run \['CAJ'\]"):
        modules['vireid_study'].parse()


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
    monkeypatch.setattr(clip, 'backbone', reached)
    moved = root.rename(args.data / 'moved')
    others = [(args.data, root, names[:2]), (args.data, moved, names)]
    for given in (*others, (args.data / 'other', root, names)):
        with pytest.raises(LookupError, match='computed again'):
            tasks.clip_features(*given, cache)


def reached(*args: object, **kwargs: object) -> None:
    raise LookupError('computed again')
