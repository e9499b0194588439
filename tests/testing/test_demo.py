"""Shipped configs with `--demo`."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmir.testing import demo, demo_pairs

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / 'configs/tensorfact').glob('*'))
CONFIGS = [path for path in CONFIGS if path.suffix == '.py']


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Write demo data with a few images to a separate folder."""
    monkeypatch.setattr(demo, 'DATA', tmp_path / 'data')
    monkeypatch.setattr(demo, 'IMAGES', {'rgb': 3, 'ir': 3})
    monkeypatch.setattr(demo, 'VAL_IMAGES', 2)
    monkeypatch.setattr(demo_pairs, 'TRAIN', 3)
    monkeypatch.setattr(demo_pairs, 'TEST', 1)
    return tmp_path


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_every_config_has_a_demo(path: Path, small: Path) -> None:
    cfg = Config.fromfile(path)
    before = cfg.pretty_text
    made = demo.apply_demo(cfg, str(small / 'work/x'))
    assert cfg.pretty_text == before
    yolo = 'YOLOv7' in cfg.model.backbone.type
    if yolo:
        assert made.model.backbone.arch == made.model.neck.arch == 'tiny'
        assert made.model.bbox_head.head_module.in_channels == (128, 256, 512)
        # the weight of YOLOv7-tiny, for a quarter of the pixels
        assert made.model.bbox_head.obj_weight == pytest.approx(0.25)
    else:  # networks of other hosts are unchanged
        assert made.model.backbone == cfg.model.backbone
    assert made.train_cfg.max_epochs == demo.EPOCHS[cfg.demo.modality]
    assert made.train_dataloader.batch_size == demo.BATCH_SIZE
    infrared, street = cfg.demo.modality == 'ir', cfg.demo.data == 'street'
    shipped = yolo and street and not (infrared and cfg.load_from is None)
    assert made.load_from == (str(ROOT / 'demo' / demo.DETECTOR) if shipped else None)
    rate = cfg.optim_wrapper.optimizer.lr if shipped else demo.FROM_SCRATCH
    assert made.optim_wrapper.optimizer.lr == rate
    train = made.train_dataloader.dataset
    train = train.get('dataset', train)
    assert train.get('subset') is None  # all of the few images
    for dataset in (train, made.val_dataloader.dataset, made.test_dataloader.dataset):
        assert dataset.data_root.startswith(str(small / 'data'))
        assert (Path(dataset.data_root) / dataset.ann_file).is_file()
        assert (Path(dataset.data_root) / dataset.data_prefix.img).is_dir()
    rgb = 'rgb' in train.ann_file or 'drone_rgb' in train.data_root
    assert rgb == (not infrared)
    assert made.model.get('adapt') == cfg.model.get('adapt')


def test_single_images_are_zoomed_in_place_of_mosaics(small: Path) -> None:
    cfg = Config.fromfile(next(p for p in CONFIGS if p.stem == 'yolo_flir_1pct'))
    made = demo.apply_demo(cfg, str(small / 'work/x'))
    kinds = [t.type for t in made.train_dataloader.dataset.pipeline]
    assert kinds[:2] == ['RandomResize', 'mmdet.RandomCrop']
    gone = {'Mosaic', 'mmir.CenteredRandomAffine', 'CachedMixUp', 'mmdet.Resize'}
    assert not gone & set(kinds)


def test_samples_of_the_demo_are_hardly_padded(small: Path) -> None:
    """Scenes and samples are 5:4: only those that are zoomed out have a border."""
    pytest.importorskip('mmdet')
    from mmengine.registry import DATASETS, DefaultScope

    cfg = Config.fromfile(next(p for p in CONFIGS if p.stem == 'yolo_flir_1pct'))
    made = demo.apply_demo(cfg, str(small / 'work/x'))
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(made.train_dataloader.dataset)
        images = [dataset[k % 3]['inputs'] for k in range(30)]
    assert {tuple(image.shape) for image in images} == {(3, 256, 320)}
    padded = [(image == 114).all(0).float().mean().item() for image in images]
    assert sum(padded) / len(padded) < 0.1
    assert max(padded) < 0.25


def test_the_infrared_demo_starts_from_the_rgb_demo(small: Path) -> None:
    cfg = Config.fromfile(next(p for p in CONFIGS if p.stem == 'yolo_flir_1pct'))
    work = small / 'work'
    stage = work / 'yolo_rgb_demo'
    stage.mkdir(parents=True)
    (stage / 'epoch_16.pth').touch()
    (stage / 'last_checkpoint').write_text(str(stage / 'epoch_16.pth'))
    made = demo.apply_demo(cfg, str(work / 'yolo_flir_1pct_demo'))
    assert made.load_from == str(stage / 'epoch_16.pth')
    cfg.load_from = str(small / 'own.pth')
    (small / 'own.pth').touch()
    assert demo.apply_demo(cfg, str(work / 'x')).load_from == str(small / 'own.pth')


def test_a_config_without_a_demo_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='has no demo'):
        demo.apply_demo(Config(dict(model=dict())), str(tmp_path))


PAIRS = {
    'upernet-vit-b_mfnet': (60, 224),
    'upernet-vit-b_msrs': (60, 224),
    'sod-vit-b_vt5000': (10, 224),
    'vitdet-b_m3fd': (2, None),
    'rtmdet-vit-s_llvip': (10, None),
    'clip-vit-b_pairs': (10, None),
}


@pytest.mark.parametrize('name', PAIRS)
def test_pairs(name: str, small: Path) -> None:
    pytest.importorskip('mmpretrain')
    from mmengine.registry import DATASETS, init_default_scope

    cfg = Config.fromfile(ROOT / f'configs/ivtuning/{name}.py')
    before = cfg.pretty_text
    made = demo.apply_demo(cfg, str(small / 'work/x'))
    assert cfg.pretty_text == before
    length, width = PAIRS[name]
    loop = made.train_cfg
    assert loop.get('max_epochs', loop.get('max_iters')) == length
    if width is not None:
        assert made.model.data_preprocessor.size == (width, width)
    backbone = made.model.backbone.get('backbone', made.model.backbone)
    assert backbone.arch['embed_dims'] == 32
    assert backbone.init_cfg is None
    init_default_scope(cfg.default_scope)
    sizes = []
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = DATASETS.build(made[key].dataset)
        inside = getattr(dataset, '_dataset', getattr(dataset, 'dataset', dataset))
        assert str(inside.data_root).startswith(str(small / 'data'))
        assert dataset[0]['inputs'].shape[0] == 6
        sizes.append(len(dataset))
    if name != 'clip-vit-b_pairs':  # that has one sample per object
        assert sizes == [3, 1, 1]


def test_unknown_pairs_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"demo.data='KAIST' is unknown.*MFNet"):
        demo_pairs.demo_pairs('KAIST', tmp_path)


CSKNET = {
    'csknet_r50_msrs': (168, 224),
    'deeplabv3plus_r50_mvseg_rgb': (149, 224),
    'csknet_r50_pst900': (126, 224),
    'csknet_m-v2_field': (168, 224),
}


@pytest.mark.parametrize('name', CSKNET)
def test_pairs_of_csknet(name: str, small: Path) -> None:
    pytest.importorskip('mmseg')
    from mmengine.registry import DATASETS, init_default_scope

    cfg = Config.fromfile(ROOT / f'configs/csknet/{name}.py')
    before = cfg.pretty_text
    made = demo.apply_demo(cfg, str(small / 'work/x'))
    assert cfg.pretty_text == before
    assert made.train_cfg.max_iters == demo.PAIR_STEPS
    assert made.model.data_preprocessor.size == CSKNET[name]
    assert made.model.backbone.init_cfg is None
    assert made.optim_wrapper.optimizer.lr == demo.SGD_FROM_SCRATCH
    if name.startswith('csknet'):  # the same share of the training
        assert cfg.model.contrast.warmup == 5000
        assert made.model.contrast.warmup == round(5000 / 40000 * demo.PAIR_STEPS)
    init_default_scope(cfg.default_scope)
    for key, number in (('train', 3), ('val', 1), ('test', 1)):
        dataset = DATASETS.build(made[f'{key}_dataloader'].dataset)
        assert len(dataset) == number
        assert str(dataset.data_root).startswith(str(small / 'data'))
        assert dataset[0]['inputs'].shape[0] == 6
