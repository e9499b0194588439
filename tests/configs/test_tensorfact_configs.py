"""Every shipped config parses, builds, computes a loss and predicts."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from coco_files import write_flir_v13
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch.nn.modules.batchnorm import _BatchNorm

from mmir.testing import shrink
from mmir.testing.scenes import write_drones, write_flir

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / 'configs/tensorfact').glob('*.py'))
HEAD_PARTS = ('bbox_head', 'rpn_head', 'roi_head')
BASES = sorted((ROOT / 'configs/_base_').rglob('*.py'))


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('scenes')
    write_flir(root / 'street', train=5, val=2, size=(160, 128), progress=False)
    for modality in ('rgb', 'ir'):
        write_drones(root / f'drone_{modality}', modality, 5, 2, progress=False)
    return root


def with_data(cfg: Config, data: Path) -> Config:
    """The small config on synthetic images."""
    small = shrink(cfg, (128, 128))
    source, modality = cfg.demo.data, cfg.demo.modality
    root = data / ('street' if source == 'street' else f'drone_{modality}')
    kind = 'rgb' if modality == 'rgb' else 'thermal'
    train = small.train_dataloader.dataset
    for dataset, split in (
        (train.get('dataset', train), 'train'),
        (small.test_dataloader.dataset, 'val'),
    ):
        dataset.data_root = str(root)
        dataset.pop('subset', None)
        if source == 'street':
            dataset.ann_file = f'{split}/{kind}_annotations.json'
            dataset.data_prefix = dict(img=f'{split}/')
    return small


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_trains_and_predicts(path: Path, data: Path) -> None:
    torch.manual_seed(0)
    cfg = with_data(Config.fromfile(path), data)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    optim = build_optim_wrapper(model, cfg.optim_wrapper)
    train = DATASETS.build(cfg.train_dataloader.dataset)
    test = DATASETS.build(cfg.test_dataloader.dataset)
    classes = train.metainfo['classes']
    assert tuple(classes) == tuple(cfg.classes)
    head = getattr(model, 'bbox_head', None) or model.roi_head.bbox_head
    assert head.num_classes == len(classes)

    before = {k: v.clone() for k, v in model.state_dict().items()}
    losses = model.train_step(pseudo_collate([train[0], train[1]]), optim)
    assert all(torch.isfinite(v).all() for v in losses.values())
    trains = {k for k, p in model.named_parameters() if p.requires_grad}
    for key, parameter in model.named_parameters():
        changed = not torch.equal(before[key], parameter)
        assert not changed or key in trains, key
    assert any(not torch.equal(before[k], model.state_dict()[k]) for k in trains)

    model.eval()
    with torch.no_grad():
        sample = model.test_step(pseudo_collate([test[0]]))[0]
    boxes = sample.pred_instances.bboxes
    test_cfg = cfg.model.test_cfg
    # YOLOX keeps all boxes that NMS leaves
    limit = test_cfg.get('rcnn', test_cfg).get('max_per_img', float('inf'))
    assert len(boxes) <= limit
    assert torch.isfinite(boxes).all()
    # tested with a border of half a stride and more
    steps = [t.type for t in cfg.test_dataloader.dataset.pipeline]
    border = 32 if 'mmir.PadToStride' in steps else 0
    assert max(test[0]['inputs'].shape[1:]) == 128 + border


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_stage_trains_what_it_says(path: Path) -> None:
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(shrink(cfg).model)
    frozen = {k for k, p in model.named_parameters() if not p.requires_grad}
    adapt = cfg.model.get('adapt') or ConfigDict(type='Full')
    if adapt.type == 'Full' or adapt.get('delta', 1) is None:
        assert not frozen
        return
    # of YOLOX only the prediction layers train, of other detectors the whole head
    head = [f'^{part}' for part in HEAD_PARTS]
    if 'yolox' in path.stem:
        head = [r'^bbox_head\.multi_level_conv_(cls|reg|obj)\.']
    body = {
        k for k, _ in model.named_parameters() if not any(re.search(h, k) for h in head)
    }
    norms = {
        f'{name}.{key}'
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        for key in ('weight', 'bias')
    }
    if adapt.type == 'Frozen' and 'norm' not in adapt:
        assert frozen == {k for k in body if k.startswith('backbone.')}
        return
    added = {k for k in body if '.deltas.' in k or '.adapters.' in k}
    assert bool(added) == (adapt.type != 'Frozen')
    assert frozen == body - norms - added


BASELINES = ('full', 'frozen', 'bn', 'scratch', 'tensorfact')


def test_baselines_differ_in_model_start_and_rate_only() -> None:
    pairs = [p for p in CONFIGS if p.stem.endswith(BASELINES)]
    pairs = [p for p in pairs if not p.stem.startswith('yolo_rgb')]
    assert len(pairs) == len(BASELINES) + 2 + 5  # L; tiny; YOLOv5 and YOLOX
    for baseline in pairs:
        ours = baseline.with_name(f'{baseline.stem.rpartition("_")[0]}.py')
        a, b = (Config.fromfile(p).to_dict() for p in (ours, baseline))
        assert {**a['model'], 'adapt': b['model']['adapt']} == b['model']
        a['optim_wrapper']['optimizer'].pop('lr')
        b['optim_wrapper']['optimizer'].pop('lr')
        differing = {k for k in a.keys() | b.keys() if a.get(k) != b.get(k)}
        plain = {'model', 'load_from', 'base_lr', 'factor_rank', 'delta_rank'}
        assert 'model' in differing
        assert differing <= plain, differing
        if baseline.stem.endswith(('full', 'scratch')):
            assert b['model']['adapt'] == dict(type='Full')


def test_recommended_recipe() -> None:
    """ConvLoRA as measured: rank 12, Adam at 3e-3."""
    for name in ('yolo_flir_1pct', 'yolo-tiny_coco_flir_1pct', 'yolo-tiny_drone_ir'):
        cfg = Config.fromfile(ROOT / f'configs/tensorfact/{name}.py')
        assert (cfg.model.adapt.type, cfg.model.adapt.rank) == ('ConvLoRA', 12)
        assert cfg.optim_wrapper.optimizer.type == 'Adam'
        assert cfg.optim_wrapper.optimizer.lr == 3e-3


def test_numbers_of_the_paper() -> None:
    cfg = Config.fromfile(ROOT / 'configs/tensorfact/yolo_flir_1pct_tensorfact.py')
    assert cfg.train_cfg.max_epochs == 200
    assert cfg.train_dataloader.batch_size == 40
    assert cfg.optim_wrapper.optimizer.type == 'Adam'
    assert cfg.optim_wrapper.optimizer.lr == 1e-3
    assert cfg.train_dataloader.dataset.dataset.subset == dict(num=62, seed=0)
    rgb = Config.fromfile(ROOT / 'configs/tensorfact/yolo_rgb.py')
    assert rgb.optim_wrapper.optimizer.lr == 1e-5


def test_metafile_lists_every_config() -> None:
    meta = yaml.safe_load((ROOT / 'configs/tensorfact/metafile.yml').read_text())
    listed = {ROOT / model['Config'] for model in meta['Models']}
    assert listed == set(CONFIGS)
    assert all(model['Name'] == Path(model['Config']).stem for model in meta['Models'])
    page = (ROOT / 'configs/tensorfact/README.md').read_text()
    assert [path.name for path in CONFIGS if f'`{path.name}`' not in page] == []


def test_base_names_are_unique() -> None:
    names = [p.name for p in CONFIGS + BASES]
    assert len(names) == len(set(names))


def test_test_batch_of_flir_has_the_published_shape(tmp_path: Path) -> None:
    """Images of 5:4 at 640 px: half a stride and more of border, 544 x 672."""
    root = write_flir_v13(tmp_path)
    cfg = Config.fromfile(ROOT / 'configs/tensorfact/yolo_flir_1pct.py')
    init_default_scope(cfg.default_scope)
    cfg.val_dataloader.dataset.data_root = str(root)
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    processor = MODELS.build(cfg.model.data_preprocessor)
    batch = processor(pseudo_collate([dataset[0], dataset[1]]))
    assert batch['inputs'].shape == (2, 3, 544, 672)
    # person and car of the file; its dog is not among the classes
    assert batch['data_samples'][0].gt_instances.labels.tolist() == [0, 2]
