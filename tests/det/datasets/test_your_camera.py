"""The config of README.md and docs/your_camera.md, copied as a user would."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import nn

from mmir.adapters import trainable_report
from mmir.testing.scenes import write_flir

ROOT = Path(__file__).parents[3]
PAGES = {'README': ROOT / 'README.md', 'page': ROOT / 'docs/your_camera.md'}


def block(page: str, title: str) -> str:
    """Return the only code block of a page with this title."""
    pattern = rf'<!-- config: {re.escape(title)} -->\n```python\n(.*?)```'
    (found,) = re.findall(pattern, PAGES[page].read_text(), re.DOTALL)
    return found


@pytest.fixture(scope='module')
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic thermal images, stored as the page says."""
    root = tmp_path_factory.mktemp('camera')
    flir = write_flir(
        root / 'flir', train=4, val=2, size=(160, 128), far=20.0, progress=False
    )
    for split in ('train', 'val'):
        coco = json.loads((flir / split / 'thermal_annotations.json').read_text())
        (root / 'my_camera' / split).mkdir(parents=True)
        for image in coco['images']:
            source = flir / split / image['file_name']
            image['file_name'] = source.name
            shutil.copy(source, root / 'my_camera' / split)
        (root / 'my_camera' / f'{split}.json').write_text(json.dumps(coco))
    return root / 'my_camera'


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mmir::` finds the configs of this checkout, as in an installed package."""
    package = tmp_path / 'mmir'
    (package / '.mim').mkdir(parents=True)
    for name in ('configs', 'model-index.yml'):
        (package / '.mim' / name).symlink_to(ROOT / name)
    find = 'mmengine.config.config.get_installed_path'
    monkeypatch.setattr(find, lambda name: {'mmir': str(package)}[name])


def config_of(tmp_path: Path, data: Path, *blocks: str) -> Config:
    """Write the blocks to one config file that points to the data."""
    path = tmp_path / 'my_camera.py'
    path.write_text('\n'.join(blocks).replace('data/my_camera/', f'{data}/'))
    return Config.fromfile(path)


def build(cfg: Config) -> tuple[nn.Module, dict, dict]:
    """Build the model, and load a packed sample of both datasets."""
    init_default_scope(cfg.default_scope)
    train = DATASETS.build(cfg.train_dataloader.dataset)
    val = DATASETS.build(cfg.val_dataloader.dataset)
    for dataset in (train, val):
        assert dataset.metainfo['classes'] == ('person', 'car')
    assert (len(train), len(val)) == (4, 2)
    assert cfg.test_dataloader == cfg.val_dataloader
    return MODELS.build(cfg.model), train[0], val[0]


def test_config_is_short_and_the_same_on_both_pages() -> None:
    config = block('README', 'my_camera.py')
    assert config == block('page', 'my_camera.py')
    lines = config.splitlines()
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 88


def test_four_lines_adapt_a_stock_detector(tmp_path: Path) -> None:
    lines = block('README', 'four lines')
    assert len(lines.splitlines()) == 4
    base = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'
    cfg = config_of(tmp_path, tmp_path, lines.replace('my_rgb_detector.py', base))
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None  # it would be downloaded
    model = MODELS.build(cfg.model)
    report = trainable_report(model)
    assert (report.method, report.name) == ('ConvLoRA', 'ir')
    assert set(report.trainable) == {'adapters', 'heads', 'norms'}


@pytest.mark.usefixtures('installed')
@pytest.mark.parametrize('page', PAGES)
def test_a_training_step(tmp_path: Path, scenes: Path, page: str) -> None:
    torch.manual_seed(0)
    cfg = config_of(tmp_path, scenes, block(page, 'my_camera.py'))
    model, train, val = build(cfg)
    assert cfg.model.adapt.type == 'ConvLoRA'
    assert model.bbox_head.num_classes == 2
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optim = build_optim_wrapper(model, cfg.optim_wrapper)
    losses = model.train_step(pseudo_collate([train]), optim)
    assert all(torch.isfinite(value).all() for value in losses.values())
    after = model.state_dict()
    assert not any(
        torch.equal(before[key], after[key]) for key in after if key.endswith('ir.A')
    )
    assert all(
        torch.equal(before[key], after[key])
        for key in after
        if key.endswith('.conv.weight') and 'bbox_head' not in key
    )
    assert max(val['inputs'].shape) == 640 + 32
    assert val['data_samples'].instances


@pytest.mark.usefixtures('installed')
def test_full_fine_tuning_of_the_page(tmp_path: Path, scenes: Path) -> None:
    blocks = [block('page', name) for name in ('my_camera.py', 'full fine-tuning')]
    cfg = config_of(tmp_path, scenes, *blocks)
    model, _, _ = build(cfg)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert cfg.model.adapt == dict(type='Full')
    assert cfg.optim_wrapper.optimizer.lr == 1e-3


@pytest.mark.usefixtures('installed')
def test_16_bit_images_of_the_page(tmp_path: Path, scenes: Path) -> None:
    data = shutil.copytree(scenes, tmp_path / 'sixteen')
    for split in ('train', 'val'):
        coco = json.loads((data / f'{split}.json').read_text())
        for image in coco['images']:
            source = data / split / image['file_name']
            counts = cv2.imread(str(source), cv2.IMREAD_GRAYSCALE).astype(np.uint16)
            image['file_name'] = f'{source.stem}.png'
            cv2.imwrite(str(source.with_suffix('.png')), counts * 20 + 20000)
        (data / f'{split}.json').write_text(json.dumps(coco))
    blocks = [block('page', name) for name in ('my_camera.py', '16 bit')]
    cfg = config_of(tmp_path, data, *blocks)
    # what the Inferencers of the hosts look for and keep
    read = dict(type='LoadImageFromFile', _scope_='mmir', bit_depth=16)
    assert cfg.test_dataloader.dataset.pipeline[0] == read
    _, train, val = build(cfg)
    for sample in (train, val):
        assert sample['inputs'].dtype == torch.uint8
        assert len(sample['inputs'].unique()) > 50  # neither flat nor clipped
