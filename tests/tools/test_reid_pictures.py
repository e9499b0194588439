"""Pictures of a re-identification model, on synthetic people."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from paired_configs import tool

from mmir.testing import demo, demo_people
from mmir.utils.errors import UserError

pytest.importorskip('mmpretrain')

ROOT = Path(__file__).resolve().parents[2]
FILES = 'ranks.png', 'embedding.png', 'distances.png', 'attention.png'


@pytest.fixture(autouse=True)
def scope(monkeypatch: pytest.MonkeyPatch):
    known = DefaultScope._instance_dict
    monkeypatch.setattr(DefaultScope, '_instance_dict', known.copy())


@pytest.fixture
def pictures():
    with tool('reid_pictures') as module:
        yield module


def model_of(name: str, folder: Path, monkeypatch) -> tuple[str, str]:
    """Config and checkpoint of an untrained small model on a few people."""
    monkeypatch.setattr(demo, 'DATA', folder)
    for key, value in dict(TRAIN=4, TEST=4, IMAGES=2).items():
        monkeypatch.setattr(demo_people, key, value)
    path = ROOT / f'configs/{name.split("_")[0]}/{name}.py'
    cfg = demo.apply_demo(Config.fromfile(path), str(folder / 'x'))
    cfg.dump(folder / 'config.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        model.init_weights()
    checkpoint = dict(state_dict=model.state_dict(), meta={})
    if cfg.get('trial'):
        split = dict(training_split='RegDB trial 7 (ab)')
        checkpoint['meta'] = dict(dataset_meta=split)
    torch.save(checkpoint, folder / 'model.pth')
    return str(folder / 'config.py'), str(folder / 'model.pth')


@pytest.mark.parametrize('name', ['agw_r50_sysu', 'tmpa_r50_sysu'])
def test_all_pictures(name, pictures, tmp_path, monkeypatch) -> None:
    pytest.importorskip('sklearn')
    command = model_of(name, tmp_path, monkeypatch)
    out = tmp_path / 'out'
    options = ['--number', '2', '--top', '3', '--device', 'cpu', '--out', str(out)]
    found = pictures.main([*command, *options])
    assert [cv2.imread(str(out / f)).std() > 1 for f in FILES] == [True] * 4
    assert json.loads((out / 'pictures.json').read_text()) == found
    assert found.keys() == {'protocol', 'ranks', 'distances'}
    assert found['protocol'] == 'sysu_all_agw'
    assert len(found['ranks']) == 2
    for row in found['ranks']:
        assert '/cam3/' in row['query'] or '/cam6/' in row['query']
        people = [Path(p).parent.name for p in (row['query'], *row['matches'])]
        assert row['right'] == [pid == people[0] for pid in people[1:]]
    assert 0 <= found['distances']['same person'] <= 2


def test_maps_of_tmpa_are_those_of_its_image(pictures, tmp_path, monkeypatch) -> None:
    """Rows of a mixed batch equal those of images one by one."""
    config, checkpoint = model_of('tmpa_r50_sysu', tmp_path, monkeypatch)
    (network,) = pictures.networks_of([config, checkpoint], None, {})
    dataset = pictures.build_dataset(network.cfg, 'test')
    model = pictures.build_network(network)
    places = [len(dataset) - 1, 0, 5]
    images = [np.full((128, 64, 3), 100, np.uint8)] * 3

    def rows(chosen: list[int]) -> dict[str, list]:
        batch = pictures.pseudo_collate([dataset[k] for k in chosen])
        return pictures.map_rows(model, batch, images[: len(chosen)])

    together = rows(places)
    assert {'shared map', 'own map', 'attention of MFT'} <= together.keys()
    for k, place in enumerate(places):
        for title, (alone,) in rows([place]).items():
            difference = together[title][k].astype(int) - alone
            assert np.abs(difference).max() <= 2


def test_models_of_another_trial_are_refused(pictures, tmp_path, monkeypatch) -> None:
    command = model_of('agw_r50_regdb', tmp_path, monkeypatch)
    with pytest.raises(UserError, match='trained on RegDB trial 7'):
        pictures.main([*command, '--out', str(tmp_path / 'out')])


def test_what_is_missing_is_named(pictures, monkeypatch) -> None:
    with pytest.raises(UserError, match='use --protocol'):
        pictures.protocol_of({}, None)
    with pytest.raises(UserError, match='plain has no ranked list'):
        pictures.protocol_of({}, 'plain')
    monkeypatch.setitem(sys.modules, 'umap', None)
    with pytest.raises(UserError, match='pip install umap-learn'):
        pictures.in_plane(np.ones((9, 2)), 'umap', 0)


def test_the_metric_is_found_among_several(pictures) -> None:
    ours = dict(type='mmir.VIReIDMetric', protocols=['plain'])
    assert pictures.metric_of(ours) == ours
    assert pictures.metric_of([dict(type='DumpResults'), ours]) == ours
    with pytest.raises(UserError, match='no VIReIDMetric'):
        pictures.metric_of([dict(type='DumpResults')])
