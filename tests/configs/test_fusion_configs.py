"""Every fusion config builds at small scale, trains a step and predicts on pairs."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, METRICS, MODELS, init_default_scope

from mmir.adapters.checkpoint_fit import CheckpointMismatchError, check_fits
from mmir.structures import drop_modalities
from mmir.testing import shrink
from mmir.testing.scenes import write_flir
from mmir.testing.scenes.seg_layouts import write_msrs

ROOT = Path(__file__).resolve().parents[2]
FUSION = ROOT / 'configs/fusion'
TINY = sorted(FUSION.glob('yolo-tiny*.py'))
NANO = sorted(FUSION.glob('yolox-nano*.py'))
DET = [*TINY, *NANO]
SEG = sorted(FUSION.glob('deeplab*.py'))
SIZE = (160, 128)


@pytest.fixture(scope='module')
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('street') / 'flir'
    return write_flir(root, train=5, val=2, size=SIZE, progress=False)


@pytest.fixture(scope='module')
def msrs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('masks') / 'msrs'
    return write_msrs(root, train=4, test=2, size=SIZE, progress=False)


def small_det(path: Path, street: Path) -> Config:
    cfg = shrink(Config.fromfile(path), (128, 128))
    cfg.train_dataloader.dataset.dataset.data_root = str(street)
    cfg.test_dataloader.dataset.data_root = str(street)
    return cfg


def small_seg(path: Path, msrs: Path) -> Config:
    cfg = Config.fromfile(path)
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(msrs)
    resize = cfg.train_dataloader.dataset.pipeline[2].transforms
    resize[0].scale, resize[1].crop_size = SIZE, (64, 64)
    cfg.model.data_preprocessor.size = (64, 64)
    return cfg


def train_step(cfg: Config) -> torch.nn.Module:
    """Train one step; every trainable parameter gets a gradient."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    train = DATASETS.build(cfg.train_dataloader.dataset)
    optim = build_optim_wrapper(model, cfg.optim_wrapper)
    batch = pseudo_collate([train[0], train[1]])
    data = model.data_preprocessor(batch, training=True)
    total, _ = model.parse_losses(model(**data, mode='loss'))
    assert torch.isfinite(total)
    total.backward()
    trained = [(k, p) for k, p in model.named_parameters() if p.requires_grad]
    assert [k for k, p in trained if p.grad is None] == []
    before = [p.detach().clone() for _, p in trained]
    optim.step()
    assert any(not torch.equal(a, p) for a, (_, p) in zip(before, trained, strict=True))
    return model.eval()


@pytest.mark.parametrize('path', DET, ids=lambda p: p.stem)
def test_detectors_train_and_predict(path: Path, street: Path) -> None:
    cfg = small_det(path, street)
    model = train_step(cfg)
    test = DATASETS.build(cfg.test_dataloader.dataset)
    metric = METRICS.build(cfg.test_evaluator)
    metric.dataset_meta = test.metainfo
    for item in test:
        assert item['inputs'].shape == (6, 128, 160)  # half a stride of border and more
        assert item['data_samples'].modalities == ('rgb', 'ir')
        batch = pseudo_collate([item])
        with torch.no_grad():
            samples = model.test_step(batch)
            lone = model.test_step(drop_modalities(batch, ['rgb']))[0].pred_instances
        boxes = samples[0].pred_instances.bboxes
        assert len(boxes) <= (300 if path in TINY else 20 * 16 + 10 * 8 + 5 * 4)
        assert torch.isfinite(boxes).all()
        assert torch.isfinite(lone.bboxes).all()
        metric.process(batch, [sample.to_dict() for sample in samples])
    assert 'bbox_mAP' in metric.compute_metrics(metric.results)


@pytest.mark.parametrize('path', SEG, ids=lambda p: p.stem)
def test_segmentors_train_and_predict(path: Path, msrs: Path) -> None:
    cfg = small_seg(path, msrs)
    model = train_step(cfg)
    test = DATASETS.build(cfg.test_dataloader.dataset)
    batch = pseudo_collate([test[0], test[1]])
    assert batch['inputs'][0].shape == (4, SIZE[1], SIZE[0])
    for data in (batch, drop_modalities(batch, ['ir'])):
        with torch.no_grad():
            samples = model.test_step(data)
        for sample in samples:
            assert sample.pred_sem_seg.data.shape == (1, SIZE[1], SIZE[0])
            assert sample.seg_logits.data.shape[0] == len(test.metainfo['classes'])
            assert torch.isfinite(sample.seg_logits.data).all()


@pytest.mark.parametrize('paths', [TINY, NANO, SEG], ids=['tiny', 'nano', 'seg'])
def test_rows_differ_in_the_model_only(paths: list[Path]) -> None:
    first = dict(Config.fromfile(paths[0])._cfg_dict)
    ours = {'model', 'checkpoints', 'fuse', 'detector', 'segmentor', 'custom_hooks'}
    for path in paths[1:]:
        other = dict(Config.fromfile(path)._cfg_dict)
        keys = first.keys() | other.keys()
        assert {k for k in keys if first.get(k) != other.get(k)} <= ours
        processors = [cfg['model']['data_preprocessor'] for cfg in (first, other)]
        assert processors[0] == processors[1]


def test_single_rows_make_the_checkpoints_of_late_fusion(tmp_path: Path) -> None:
    files = {}
    for name in ('rgb', 'ir'):
        cfg = Config.fromfile(FUSION / f'yolo-tiny_flir_pair_{name}.py')
        init_default_scope(cfg.default_scope)
        files[name] = str(tmp_path / f'{name}.pth')
        torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), files[name])
    late = Config.fromfile(FUSION / 'yolo-tiny_flir_pair_late.py')
    late.model.checkpoints = files
    model = MODELS.build(late.model)
    for name, file in files.items():
        for key, value in torch.load(file)['state_dict'].items():
            assert torch.equal(model.members[name].state_dict()[key], value)


def test_metafile_lists_every_config() -> None:
    meta = yaml.safe_load((FUSION / 'metafile.yml').read_text())
    listed = {ROOT / model['Config'] for model in meta['Models']}
    assert listed == {*DET, *SEG}
    assert all(model['Name'] == Path(model['Config']).stem for model in meta['Models'])
    text = (FUSION / 'README.md').read_text()
    assert all(path.name in text for path in (*DET, *SEG))


def test_names_are_unique() -> None:
    names = [path.name for path in (ROOT / 'configs').rglob('*.py')]
    assert len(names) == len(set(names))


@pytest.mark.parametrize('paths', [TINY, SEG], ids=['det', 'seg'])
def test_training_may_start_from_the_rgb_model(paths: list[Path]) -> None:
    models = {}
    for path in paths:
        cfg = Config.fromfile(path)
        init_default_scope(cfg.default_scope)
        models[path.stem.rpartition('_')[2]] = MODELS.build(cfg.model)
    rgb = models.pop('rgb').state_dict()
    late = models.pop('late')
    assert len(models) >= 3
    for model in models.values():
        check_fits(model, rgb, 'rgb.pth')
        result = model.load_state_dict(rgb, strict=False)
        assert result == ([], [])
    with pytest.raises(CheckpointMismatchError, match='are missing: members'):
        check_fits(late, rgb, 'rgb.pth')  # it uses `checkpoints` instead


@pytest.mark.parametrize('path', [*DET, *SEG], ids=lambda p: p.stem)
def test_the_config_a_run_writes_is_the_same_model(
    path: Path, street: Path, msrs: Path, tmp_path: Path
) -> None:
    ours = (small_det if path in DET else small_seg)(
        path, street if path in DET else msrs
    )
    ours.dump(tmp_path / 'config.py')  # mmengine sorts the keys of all dicts
    written = Config.fromfile(tmp_path / 'config.py')
    init_default_scope(ours.default_scope)
    outputs, state = [], None
    for cfg in (ours, written):
        model = MODELS.build(cfg.model).eval()
        state = state or model.state_dict()
        model.load_state_dict(state)
        batch = pseudo_collate([DATASETS.build(cfg.test_dataloader.dataset)[0]])
        data = model.data_preprocessor(batch)
        assert data['data_samples'][0].modalities == ('rgb', 'ir')
        with torch.no_grad():
            outputs.append(model(data['inputs'], data['data_samples'], mode='tensor'))
    torch.testing.assert_close(*outputs, rtol=0, atol=0)
