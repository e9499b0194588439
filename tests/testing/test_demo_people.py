"""The demo of re-identification: small people, a small network, all else as it was."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmir.testing import demo, demo_people

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ('name', 'size'),
    [
        ('agw_r50_sysu', (64, 128)),
        ('agw_r50_regdb', (64, 128)),
        ('agw_r50_llcm', (64, 171)),
        ('tmpa_r50_sysu', (64, 128)),
        ('tmpa_r50_sysu_weighted', (64, 128)),
    ],
)
def test_demo_of_people(name, size, monkeypatch, tmp_path):
    monkeypatch.setattr(demo, 'DATA', tmp_path)
    for key, value in dict(TRAIN=3, TEST=2, IMAGES=1).items():
        monkeypatch.setattr(demo_people, key, value)
    cfg = Config.fromfile(ROOT / f'configs/{name.split("_")[0]}/{name}.py')
    before = cfg.pretty_text
    made = demo.apply_demo(cfg, str(tmp_path / 'work/x'))
    assert cfg.pretty_text == before
    loader = made.train_dataloader
    sampler = loader.sampler
    assert loader.batch_size == 2 * sampler.ids_per_batch * sampler.images_per_id == 16
    kinds = {t.type: t for t in loader.dataset.pipeline}
    assert tuple(kinds['mmpretrain.Resize'].scale) == size
    assert tuple(kinds['mmpretrain.RandomCrop'].crop_size) == size[::-1]
    backbone = made.model.backbone.backbone
    assert (backbone.depth, backbone.base_channels, backbone.init_cfg) == (50, 8, None)
    head, maps = made.model.head, 1
    if name.startswith('tmpa'):
        maps = 2 if name.endswith('weighted') else 3
        transfer = made.model.backbone.transfer
        assert (transfer.in_channels, transfer.channels) == (256, 64)
        assert head.branch_channels == 256
    assert head.in_channels == maps * 256
    assert 'paramwise_cfg' not in made.optim_wrapper
    length, rate = (40, 0.02) if name.startswith('tmpa') else (20, 0.05)
    assert made.train_cfg.max_epochs == cfg.demo.length == length
    assert made.optim_wrapper.optimizer.lr == rate
    warm, steps = made.param_scheduler
    drops = [round(0.7 * length), round(0.9 * length)]
    assert (warm.end, steps.milestones) == (round(10 / 81 * length), drops)
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset, was = made[key].dataset, cfg[key].dataset
        assert dataset.data_root == str(tmp_path / f'pairs_{cfg.demo.data}')
        assert (dataset.type, dataset.split) == (was.type, was.split)
        assert Path(dataset.data_root).is_dir()
    assert made.test_evaluator == cfg.test_evaluator
