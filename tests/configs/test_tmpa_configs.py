"""Every config of TMPA trains a step and finds people at small scale."""

from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import METRICS
from mmengine.runner import Runner
from reid_configs import check_step, small_config
from torch import nn

pytest.importorskip('mmpretrain')


pytestmark = pytest.mark.usefixtures('mmpretrain_scope')
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'configs/tmpa'
CONFIGS = sorted(FOLDER.glob('*.py'))
VARIANTS = [path for path in CONFIGS if path.stem.startswith('tmpa_r50_sysu_')]
IDS = dict(sysu=395, regdb=206, llcm=713)
LOSSES = {'loss_id', 'loss_wrt', 'loss_shared', 'loss_mss', 'loss_msi'}


@pytest.fixture(scope='module')
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for synthetic people."""
    return tmp_path_factory.mktemp('people')


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_trains_and_finds(
    path: Path, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = small_config(path, people, monkeypatch)
    model, images, losses = check_step(cfg)
    height = 171 if path.stem.endswith('llcm') else 128
    count = 32 if path.stem.endswith('append') else 16
    assert images.shape == (count, 3, height, 64)
    assert losses == LOSSES
    check_finds(cfg, model)


def check_finds(cfg: Config, model: nn.Module) -> None:
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


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_sizes_fit(path: Path) -> None:
    cfg = Config.fromfile(path)
    assert cfg.model.head.num_classes == IDS[path.stem.split('_')[2]]
    rows, cols = cfg.model.data_preprocessor.pedmix.grid
    assert (rows * 16, cols * 16) == (cfg.height, cfg.width)
    slots = 2 if cfg.model.neck.fusion == 'weighted' else 3
    assert cfg.model.head.in_channels == slots * cfg.model.head.branch_channels


def test_the_backbone_learns_slower_and_mft_does_not() -> None:
    cfg = Config.fromfile(FOLDER / 'tmpa_r50_sysu.py')
    parts = dict(backbone=nn.Linear(1, 1), transfer=nn.Linear(1, 1))
    model = nn.ModuleDict(
        dict(backbone=nn.ModuleDict(parts), neck=nn.Linear(1, 1), head=nn.Linear(1, 1))
    )
    optim = build_optim_wrapper(model, cfg.optim_wrapper)
    rates = {
        id(p): group['lr'] for group in optim.param_groups for p in group['params']
    }
    found = {name: round(rates[id(p)], 9) for name, p in model.named_parameters()}
    slow = [name for name, rate in found.items() if rate == 0.01]
    assert slow == ['backbone.backbone.weight', 'backbone.backbone.bias']
    assert {rate for name, rate in found.items() if name not in slow} == {0.1}


@pytest.mark.parametrize('path', VARIANTS, ids=lambda p: p.stem)
def test_variants_change_the_model_only(path: Path) -> None:
    ours = Config.fromfile(FOLDER / 'tmpa_r50_sysu.py').to_dict()
    other = Config.fromfile(path).to_dict()
    changed = {k for k in ours | other if ours.get(k) != other.get(k)}
    assert 'model' in changed
    assert changed <= {'model', 'ratios'}
    parts = [k for k in ours['model'] if ours['model'][k] != other['model'][k]]
    assert parts == ['neck', 'head'] or len(parts) == 1


def test_metafile_and_page_list_every_config() -> None:
    meta = yaml.safe_load((FOLDER / 'metafile.yml').read_text())
    assert {ROOT / model['Config'] for model in meta['Models']} == set(CONFIGS)
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert 'configs/tmpa/metafile.yml' in index['Import']
    page = (FOLDER / 'README.md').read_text()
    assert [path.name for path in CONFIGS if f'`{path.name}`' not in page] == []
