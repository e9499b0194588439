"""Every config of TOPLight trains a step and predicts at small scale."""

from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, MODELS
from mmengine.runner import Runner
from reid_configs import check_step, small_config
from torch import nn

pytest.importorskip('mmpretrain')

from mmir.reid.toplight import PARTITIONS

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'configs/toplight'
CONFIGS = sorted(FOLDER.glob('*.py'))
FACES = [path for path in CONFIGS if path.stem.endswith(('faces', 'faces_caj'))]
TOP = [path for path in CONFIGS if path.stem.startswith('top_')]
FINE = [path for path in CONFIGS if path not in [*TOP, *FACES]]
IDS = dict(sysu=395, regdb=206, llcm=713)
ROWS = dict(
    mbv3l='mobilenetv3_large',
    mbv3s='mobilenetv3_small',
    mbv2='mobilenetv2',
    ghost10='ghostnet_1.0x',
    ghost13='ghostnet_1.3x',
    shuffle10='shufflenetv2_1.0x',
    shuffle15='shufflenetv2_1.5x',
    r50='resnet50',
    convnext='convnext_tiny',
    swin='swin_tiny',
    vit='vit_base',
)
"""Network in the name of a config -> row of the table of blocks."""


def only_different(paths: list[Path]) -> list[Path]:
    """Configs that differ at small scale, where light networks are the same."""
    others = {'mbv3s', 'mbv2', 'ghost10', 'ghost13', 'shuffle10', 'shuffle15'}
    return [path for path in paths if path.stem.split('_')[1] not in others]


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for synthetic images."""
    return tmp_path_factory.mktemp('data')


def check_predicts(cfg: Config, model: nn.Module) -> dict[str, float]:
    """The evaluation of the config accepts what the model predicts."""
    evaluators = cfg.test_evaluator
    metric = METRICS.build(evaluators)
    loader = Runner.build_dataloader(cfg.test_dataloader)
    for batch in loader:
        with torch.no_grad():
            samples = model.test_step(batch)
        metric.process(batch, [sample.to_dict() for sample in samples])
    found = metric.evaluate(len(loader.dataset))
    assert all(0 <= value <= 100 for value in found.values())
    return found


@pytest.mark.parametrize('path', only_different(FINE), ids=lambda p: p.stem)
def test_fine_tunes_and_finds(
    path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = small_config(path, data, monkeypatch)
    model, _, losses = check_step(cfg)
    assert losses == {'loss_id', 'loss_wrt'}
    found = check_predicts(cfg, model)
    assert {f'{name}/mAP' for name in cfg.test_evaluator.protocols} <= found.keys()


@pytest.mark.parametrize('path', only_different(TOP), ids=lambda p: p.stem)
def test_pretrains_and_classifies(
    path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = small_config(path, data, monkeypatch)
    model, _, losses = check_step(cfg)
    domain = Config.fromfile(path).model.head.domain
    expected = {'loss_identity'} | ({'loss_domain'} if domain else set())
    assert losses == expected
    assert check_predicts(cfg, model).keys() == {'accuracy/top1'}
    soup, report = model.backbone.soup()
    assert report.parameters > 0
    maps = soup(torch.zeros(2, 3, 64, 32), ['rgb', 'ir'])
    assert maps[-1].shape[1] == cfg.model.head.in_channels


@pytest.mark.parametrize('path', FACES, ids=lambda p: p.stem)
def test_faces_are_verified(
    path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = small_config(path, data, monkeypatch)
    model, _, losses = check_step(cfg)
    assert losses == {'loss_id'}
    found = check_predicts(cfg, model)
    assert found.keys() == {'R1', 'VR@FAR=0.01', 'VR@FAR=0.001'}


def plain_of(cfg: Config) -> nn.Module:
    """The network at its full size; skips without timm if it needs that."""
    network = cfg.model.backbone.backbone
    if 'Ghost' in network.type:
        pytest.importorskip('timm')
    return MODELS.build(network)


@pytest.mark.parametrize('key', ROWS)
def test_stems_and_blocks_are_those_of_the_table(key: str) -> None:
    row = PARTITIONS[ROWS[key]]
    cfg = Config.fromfile(FOLDER / f'plain_{key}_sysu.py')
    assert tuple(cfg.model.backbone.stem) == row.stem
    assert cfg.model.head.in_channels == row.channels[1]
    path = FOLDER / f'top_{key}.py'
    if path.is_file():
        top = Config.fromfile(path)
        assert top.model.backbone.network == ROWS[key]
        assert tuple(top.model.head.domain.channels) == row.channels
        assert top.model.head.in_channels == row.channels[1]
        plain = cfg.model.backbone.backbone
        assert top.model.backbone.backbone == plain
    net = plain_of(cfg)
    names = {name for name, _ in net.named_modules()}
    assert {*row.stem} <= names


@pytest.mark.parametrize('path', FINE, ids=lambda p: p.stem)
def test_sizes_fit(path: Path) -> None:
    cfg = Config.fromfile(path)
    kind, key, data = path.stem.split('_')[:3]
    assert cfg.model.head.num_classes == IDS[data]
    channels = PARTITIONS[ROWS[key]].channels[1]
    fdr = (cfg.model.neck or {}).get('fdr')
    if fdr:
        assert fdr.in_channels == channels
        built = MODELS.build(dict(cfg.model.neck))
        assert built.fdr.out_channels == cfg.model.head.in_channels
    else:
        assert cfg.model.head.in_channels == channels
    if kind == 'toplight':
        assert cfg.model.backbone.backbone.get('init_cfg') is None
        stage = Path(cfg.model.backbone.init_cfg.checkpoint).parent.name
        assert (FOLDER / f'{stage}.py').is_file()
        assert stage.split('_')[1] == key


def test_rows_of_table_3_differ_in_one_thing_each() -> None:
    names = ('no_fdr', 'attention', 'rows', 'slices', 'vectors', 'se', 'cbam')
    ours = Config.fromfile(FOLDER / 'toplight_mbv3l_sysu.py').model
    for name in names:
        other = Config.fromfile(FOLDER / f'toplight_mbv3l_sysu_{name}.py').model
        assert ours.backbone == other.backbone
        assert ours.neck != other.neck
    plain = Config.fromfile(FOLDER / 'toplight_mbv3l_sysu_no_fdr.py').model
    for name in ('generic', 'id', 'idc'):
        other = Config.fromfile(FOLDER / f'toplight_mbv3l_sysu_{name}.py').model
        assert other.neck == plain.neck
        assert f'top_mbv3l_{name}/' in other.backbone.init_cfg.checkpoint


@pytest.mark.parametrize('path', TOP, ids=lambda path: path.stem)
def test_views_are_validated_as_they_are_trained(
    path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second view of validation is gray where that of the training is."""
    cfg = small_config(path, data, monkeypatch)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        samples = [sample['inputs'] for sample in DATASETS.build(loader.dataset)]
        colored = [
            any((view != view[:1]).any() for view in views)
            for views in zip(*samples, strict=True)
        ]
        assert colored == [True, path.stem == 'top_mbv3l_generic']


def test_metafile_and_page_list_every_config() -> None:
    meta = yaml.safe_load((FOLDER / 'metafile.yml').read_text())
    assert {ROOT / model['Config'] for model in meta['Models']} == set(CONFIGS)
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert 'configs/toplight/metafile.yml' in index['Import']
    page = (FOLDER / 'README.md').read_text()
    assert [path.name for path in CONFIGS if f'`{path.name}`' not in page] == []
