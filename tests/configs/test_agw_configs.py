"""Every config of AGW trains a step and finds people at small scale."""

from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import (
    HOOKS,
    LOOPS,
    METRICS,
    PARAM_SCHEDULERS,
)
from mmengine.runner import Runner
from reid_configs import check_step, small_config

pytest.importorskip('mmpretrain')

from mmir.cli.config import apply_options

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'configs/agw'
CONFIGS = sorted(FOLDER.glob('*.py'))
VARIANTS = [
    path for path in CONFIGS if path.stem not in ('agw_r50_regdb', 'agw_r50_llcm')
]
IDS = dict(sysu=395, regdb=206, llcm=713)
LOSSES = {
    'agw_r50_sysu_center': {'id', 'wrt', 'center'},
    'baseline_r50_sysu': {'id', 'triplet'},
}


@pytest.fixture(scope='module')
def people(tmp_path_factory):
    """Folder for synthetic people."""
    return tmp_path_factory.mktemp('people')


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_trains_and_finds(path, people, monkeypatch):
    cfg = small_config(path, people, monkeypatch, WIDTH=32)
    model, images, losses = check_step(cfg)
    height = 85 if path.stem.endswith('llcm') else 64
    assert images.shape == (16, 3, height, 32)
    wanted = LOSSES.get(path.stem, {'id', 'wrt'})
    assert losses == {f'loss_{k}' for k in wanted}
    check_finds(cfg, model)


def check_finds(cfg, model):
    """The evaluation of the config accepts what the model predicts."""
    metric = METRICS.build(cfg.test_evaluator)
    loader = Runner.build_dataloader(cfg.test_dataloader)
    for batch in loader:
        with torch.no_grad():
            samples = model.test_step(batch)
        metric.process(batch, [sample.to_dict() for sample in samples])
    found = metric.evaluate(len(loader.dataset))
    for name in cfg.test_evaluator.protocols:
        assert 0 <= found[f'{name}/mAP'] <= 100
    assert len(metric.protocols) == 2


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_identities_loop_and_hooks(path):
    cfg = Config.fromfile(path)
    assert cfg.model.head.num_classes == IDS[path.stem.split('_')[2]]
    assert LOOPS.get(cfg.train_cfg.type) is not None
    assert [HOOKS.get(hook.type) for hook in cfg.custom_hooks] != [None]
    sampler = cfg.train_dataloader.sampler
    assert cfg.train_dataloader.batch_size == (
        2 * sampler.ids_per_batch * sampler.images_per_id
    )


def test_the_schedule_is_that_of_agw():
    cfg = Config.fromfile(FOLDER / 'agw_r50_sysu.py')
    weights = torch.nn.ModuleDict(
        dict(backbone=torch.nn.Linear(1, 1), head=torch.nn.Linear(1, 1))
    )
    optim = build_optim_wrapper(weights, cfg.optim_wrapper)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(s, optimizer=optim)) for s in cfg.param_scheduler
    ]
    for epoch in range(cfg.max_epochs):
        factor = (epoch + 1) / 10 if epoch < 10 else 1.0
        factor *= 0.1 ** ((epoch >= 20) + (epoch >= 50))
        rates = {round(group['lr'], 9) for group in optim.param_groups}
        assert rates == {round(0.1 * factor, 9), round(0.01 * factor, 9)}, epoch
        optim.step()
        for scheduler in schedulers:
            scheduler.step()
    assert cfg.max_epochs == 81


@pytest.mark.parametrize('path', VARIANTS, ids=lambda p: p.stem)
def test_variants_share_schedule_and_test(path):
    ours = Config.fromfile(FOLDER / 'agw_r50_sysu.py').to_dict()
    other = Config.fromfile(path).to_dict()
    changed = {k for k in ours | other if ours.get(k) != other.get(k)}
    allowed = {'model', 'center', 'triplet'}
    if path.stem.endswith('caj'):
        allowed |= {'train_dataloader', 'erase', 'steps'}
    assert changed <= allowed
    assert ('model' in changed) == (path.stem != 'agw_r50_sysu')


def test_caj_augments_after_the_crop():
    cfg = Config.fromfile(FOLDER / 'agw_r50_sysu_caj.py')
    kinds = [t.type.rpartition('.')[2] for t in cfg.train_dataloader.dataset.pipeline]
    assert kinds[2:] == [
        'RandomCrop', 'RandomFlip', 'RandomErasing', 'ChannelAugment', 'PackInputs'
    ]  # fmt: skip


def test_options_reach_the_model_and_the_data():
    cfg = Config.fromfile(FOLDER / 'agw_r50_regdb.py')
    apply_options(cfg, dict(checkpoint='mine.pth', trial=3))
    assert cfg.model.backbone.backbone.init_cfg.checkpoint == 'mine.pth'
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert cfg[key].dataset.trial == 3


def test_metafile_and_page_list_every_config():
    meta = yaml.safe_load((FOLDER / 'metafile.yml').read_text())
    assert {ROOT / model['Config'] for model in meta['Models']} == set(CONFIGS)
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert 'configs/agw/metafile.yml' in index['Import']
    page = (FOLDER / 'README.md').read_text()
    assert [path.name for path in CONFIGS if f'`{path.name}`' not in page] == []
