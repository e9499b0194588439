"""Every config of IV-tuning builds at small scale, trains a step and predicts."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from det_converters import convert
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, METRICS, MODELS, init_default_scope
from torch import nn

from mmir.cli.config import apply_options
from mmir.testing import shrink
from mmir.testing.scenes import render_scene, write_flir
from mmir.testing.scenes.det_layouts import write_llvip, write_m3fd
from mmir.testing.scenes.seg_layouts import write_mfnet, write_msrs, write_vtsod

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'configs/ivtuning'
CONFIGS = sorted(FOLDER.glob('*.py'))
BASELINES = {'full': 'Full', 'frozen': 'Frozen', 'lora': 'LoRA'}
SIZE = (160, 128)
CROP = 64
each = pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic pairs in the layout of each dataset, in folders of its name."""
    root = tmp_path_factory.mktemp('scenes')
    options = dict(size=SIZE, progress=False)
    write_flir(root / 'flir', train=3, val=1, **options)
    for name, write, more in (
        ('m3fd', write_m3fd, dict(val=1)),
        ('llvip', write_llvip, dict(test=1)),
    ):
        write(root / name, train=3, **more, **options)
        assert convert(name, root / name) == 0
    write_mfnet(root / 'mfnet', train=3, val=1, test=1, **options)
    write_msrs(root / 'msrs', train=3, test=1, **options)
    write_vtsod(root / 'vt5000', train=3, test=1, **options)
    for split in ('train', 'val'):
        for k, name in enumerate(('bicycle', 'car', 'person')):
            scene = render_scene(k, (40, 32))
            for kind, image in (('rgb', scene.rgb), ('ir', scene.thermal8)):
                folder = root / 'pairs' / split / kind / name
                folder.mkdir(parents=True)
                cv2.imwrite(str(folder / '1.png'), image)
    return root


def task_of(cfg: Config) -> str:
    """What a config is for: det, seg, sod or cls."""
    if 'decode_head' not in cfg.model:
        return 'cls' if 'head' in cfg.model else 'det'
    return 'sod' if 'SODHead' in cfg.model.decode_head.type else 'seg'


def small(path: Path, data: Path) -> Config:
    """The config with a small network and images, on synthetic pairs."""
    cfg = Config.fromfile(path)
    task = task_of(cfg)
    cfg = shrink(cfg, (CROP, CROP) if task in ('seg', 'sod') else (128, 128))
    name = path.stem.split('_')[1]
    for key in ('train_dataloader', 'test_dataloader'):
        dataset = cfg[key].dataset
        dataset = dataset.get('dataset', dataset)
        dataset.data_root = str(data / name)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    return cfg


def train_step(cfg: Config) -> nn.Module:
    """Train one step; exactly the trainable parameters get a gradient and change."""
    model = MODELS.build(cfg.model)
    model.init_weights()  # as the runner does
    train = DATASETS.build(cfg.train_dataloader.dataset)
    optim = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    data = model.data_preprocessor(pseudo_collate([train[0], train[1]]), training=True)
    assert data['inputs'].shape[1] == 6
    total, _ = model.parse_losses(model(**data, mode='loss'))
    assert torch.isfinite(total)
    total.backward()
    named = list(model.named_parameters())
    assert [k for k, p in named if p.requires_grad != (p.grad is not None)] == []
    optim.step()
    changed = {k for k, p in named if not torch.equal(p, before[k])}
    assert changed <= {k for k, p in named if p.requires_grad}
    assert any('backbone' in k for k in changed)
    model.eval()
    return model


def check_predicts(cfg: Config, model: nn.Module) -> None:
    """Predict an image of the test set and evaluate it."""
    test = DATASETS.build(cfg.test_dataloader.dataset)
    metric = METRICS.build(cfg.test_evaluator)
    metric.dataset_meta = test.metainfo
    item = test[0]
    batch = pseudo_collate([item])
    with torch.no_grad():
        samples = model.test_step(batch)
    classes, size = len(test.metainfo['classes']), item['data_samples'].ori_shape
    check_prediction(samples[0], task_of(cfg), classes, size)
    metric.process(batch, [sample.to_dict() for sample in samples])
    # mmdet gives no figures where there are no boxes
    boxless = task_of(cfg) == 'det' and len(samples[0].pred_instances) == 0
    assert bool(metric.evaluate(1)) != boxless


@each
def test_trains_and_predicts(path: Path, data: Path) -> None:
    cfg = small(path, data)
    model = train_step(cfg)
    check_stage(path, model)
    check_predicts(cfg, model)


def check_stage(path: Path, model: nn.Module) -> None:
    """Of the backbone, what the method says trains; of the rest, everything."""
    trains = {k for k, p in model.named_parameters() if p.requires_grad}
    body = {k for k, _ in model.named_parameters() if k.startswith('backbone.')}
    rest = {k for k, _ in model.named_parameters()} - body
    assert rest <= trains  # neck and heads
    inside = trains & body
    adapters = {k for k in body if '.adapters.' in k}
    stem = {k for k in body if '.patch_embed.' in k and '.adapters.' not in k}
    kind = path.stem.rpartition('_')[2]
    if kind == 'full':
        # TransformerTaps freezes what no tap reads: the final norm
        assert all('.ln1.' in k and '.layers.' not in k for k in body - inside)
    elif kind == 'frozen':
        assert inside == stem
    elif kind == 'lora':
        assert inside == adapters | stem
    else:
        assert inside == adapters
    assert bool(adapters) == (kind not in ('full', 'frozen'))


def check_prediction(
    sample: object, task: str, classes: int, size: tuple[int, int]
) -> None:
    """The result has the form of its task and is finite."""
    if task == 'det':
        boxes = sample.pred_instances
        assert torch.isfinite(boxes.bboxes).all()
        assert ((boxes.labels >= 0) & (boxes.labels < classes)).all()
    elif task == 'cls':
        assert sample.pred_score.shape == (classes,)
        assert sample.pred_score.sum().item() == pytest.approx(1, abs=1e-5)
    else:
        channels = 1 if task == 'sod' else classes
        assert sample.seg_logits.data.numel() == channels * size[0] * size[1]
        assert torch.isfinite(sample.seg_logits.data).all()


def street(real: Path, root: Path) -> None:
    """Street pairs with boxes, in FLIR layout as they are."""
    root.parent.mkdir(parents=True, exist_ok=True)
    root.symlink_to(real / 'street_pairs')


def fields(real: Path, root: Path) -> None:
    """Red and near infrared of a field with soil, crop and weed, in layout of MSRS."""
    images = json.loads((real / 'cwfid/index.json').read_text())['images']
    for split in ('train', 'test'):
        for row in [r for r in images if r['split'] == split][:3]:
            for source, target in (
                ('red/{}.jpg', 'vi/{}.png'),
                ('nir/{}.jpg', 'ir/{}.png'),
                ('label/{}.png', 'Segmentation_labels/{}.png'),
            ):
                image = cv2.imread(str(real / 'cwfid' / source.format(row['id'])), -1)
                save(image, root / split / target.format(row['id']))


def leaves(real: Path, root: Path) -> None:
    """Leaves in RGB and thermal images, in the layout of VT5000."""
    rows = json.loads((real / 'apple_rgbt/index.json').read_text())
    for split in ('train', 'test'):
        for row in [r for r in rows if r['split'] == split][:3]:
            name = row['name']
            for source, target, factor in (
                ('rgb', f'RGB/{name}.jpg', 1),
                ('thermal8', f'T/{name}.jpg', 1),
                ('mask', f'GT/{name}.png', 255),
            ):
                file = next((real / 'apple_rgbt' / source).glob(f'{name}.*'))
                image = cv2.imread(str(file), -1) * np.uint8(factor)
                save(image, root / split.capitalize() / target)


def crops(real: Path, root: Path) -> None:
    """Crops of the boxes of the street pairs, one folder per class."""
    names = {1: 'person', 2: 'bicycle', 3: 'car'}
    for split in ('train', 'val'):
        folder = real / 'street_pairs' / split
        coco = json.loads((folder / 'thermal_annotations.json').read_text())
        files = {row['id']: Path(row['file_name']).stem for row in coco['images']}
        for label, name in names.items():
            own = (a for a in coco['annotations'] if a['category_id'] == label)
            large = [a for a in own if min(a['bbox'][2:]) >= 16][:2]
            for k, thing in enumerate(large):
                x, y, w, h = map(int, thing['bbox'])
                for kind, where in (('rgb', 'RGB'), ('ir', 'thermal_8_bit')):
                    file = next((folder / where).glob(f'{files[thing["image_id"]]}.*'))
                    image = cv2.imread(str(file), -1)[y : y + h, x : x + w]
                    save(image, root / split / kind / name / f'{k}.png')


def save(image: np.ndarray, path: Path) -> None:
    """Write an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


REAL = {
    'rtmdet-vit-s_flir': street,
    'upernet-vit-b_msrs': fields,
    'sod-vit-b_vt5000': leaves,
    'clip-vit-b_pairs': crops,
}


@pytest.mark.parametrize('name', REAL)
def test_real_pairs(name: str, real_data: Path, tmp_path: Path) -> None:
    REAL[name](real_data, tmp_path / name.split('_')[1])
    cfg = small(FOLDER / f'{name}.py', tmp_path)
    check_predicts(cfg, train_step(cfg))


@each
def test_the_host_is_unchanged_around_the_backbone(path: Path) -> None:
    cfg = Config.fromfile(path)
    model, kind = cfg.model, path.stem.rpartition('_')[2]
    backbone = model.backbone.get('backbone', model.backbone)
    assert backbone.type == 'mmir.Adapted'
    assert backbone.adapt.type == BASELINES.get(kind, 'IVTuning')
    assert (model.type == 'mmir.EarlyFusion') == (kind in BASELINES)
    assert backbone.init_cfg.type == 'Pretrained'
    assert backbone.init_cfg.checkpoint == cfg.checkpoint
    # no smaller rate for the backbone, in which the prompts are, but for pretrained
    # weights that train beside adapters or a head
    rates = cfg.optim_wrapper.get('paramwise_cfg', {}).get('custom_keys', {})
    small = {'patch_embed': {'lr_mult': 0.1}}
    assert rates == (small if kind in ('frozen', 'lora') else {})


@pytest.mark.parametrize('kind', ['', '_full', '_frozen', '_lora'])
def test_weights_of_the_plain_backbone_load(kind: str, tmp_path: Path) -> None:
    cfg = shrink(Config.fromfile(FOLDER / f'sod-vit-b_vt5000{kind}.py'), (CROP, CROP))
    init_default_scope(cfg.default_scope)
    inner = cfg.model.backbone.backbone
    plain = {k: v for k, v in inner.items() if k not in ('target', 'adapt')}
    torch.manual_seed(0)
    weights = MODELS.build(dict(plain, type=inner.target)).state_dict()
    torch.save(dict(state_dict=weights), tmp_path / 'vit.pth')
    inner.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'vit.pth'))
    model = MODELS.build(cfg.model)
    model.init_weights()
    loaded = model.backbone.backbone.state_dict()
    key = 'patch_embed.projection.weight'
    kernel = loaded[key]
    assert torch.equal(kernel[:, :3], weights[key])
    assert kernel.shape[1] == (6 if kind else 3)
    assert not kernel[:, 3:].any()  # baselines start as the RGB model
    rest = weights.keys() - {key}
    assert [k for k in rest if not torch.equal(loaded[k], weights[k])] == []


def test_the_checkpoint_is_one_option() -> None:
    for path in CONFIGS:
        cfg = Config.fromfile(path)
        apply_options(cfg, dict(checkpoint='mine.pth'))
        backbone = cfg.model.backbone.get('backbone', cfg.model.backbone)
        assert backbone.init_cfg.checkpoint == 'mine.pth', path


def test_baselines_differ_in_the_model_and_the_rate_only() -> None:
    found = [p for p in CONFIGS if p.stem.rpartition('_')[2] in BASELINES]
    tasks = {task_of(Config.fromfile(p)) for p in found if p.stem.endswith('_lora')}
    assert tasks == {'det', 'seg', 'sod', 'cls'}
    for path in found:
        ours = path.with_name(f'{path.stem.rpartition("_")[0]}.py')
        a, b = (Config.fromfile(p).to_dict() for p in (ours, path))
        for cfg in (a, b):
            cfg['optim_wrapper']['optimizer'].pop('lr')
            cfg['optim_wrapper'].pop('paramwise_cfg', None)
            model = cfg.pop('model')
            backbone = model['backbone'].get('backbone', model['backbone'])
            backbone.pop('adapt')
            for key in ('target', 'fusion', 'type'):
                model.pop(key, None)
            cfg['rest'] = model
        assert a == b


def count(path: Path) -> dict[str, int]:
    """Parameters of the backbone, built without memory."""
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        backbone = MODELS.build(cfg.model).backbone
    sizes = [(p.numel(), p.requires_grad) for p in backbone.parameters()]
    learnt = sum(n for n, trains in sizes if trains)
    return dict(trains=learnt, frozen=sum(n for n, _ in sizes) - learnt)


# mmpretrain's networks have a final norm and EVA-02 a bias of the keys, unlike those
# of the authors
EVA_BIAS, FINAL_NORM = 24 * 1024, 2 * 1024
PUBLISHED = {
    'sod-eva02-l_vt5000': (8_899_652, 303_778_752 + EVA_BIAS + FINAL_NORM),
    'segformer-eva02-l_mfnet': (8_899_652, 304_237_504 + EVA_BIAS + FINAL_NORM),
    'segformer-eva02-l_msrs': (8_899_652, 304_237_504 + EVA_BIAS + FINAL_NORM),
    'setr-vit-l_mfnet': (8_899_652, 304_147_456 + FINAL_NORM),
    'setr-vit-l_msrs': (8_899_652, 304_147_456 + FINAL_NORM),
    # one more kernel of the patch embedding; its bias is shared
    'setr-vit-l_mfnet_full': (304_934_912 - 1024, FINAL_NORM),
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_counts_are_those_of_the_authors(name: str) -> None:
    found = count(FOLDER / f'{name}.py')
    assert (found['trains'], found['frozen']) == PUBLISHED[name]


@pytest.mark.parametrize('name', ['dino-swin-l_m3fd', 'segformer-swin-l_mfnet'])
def test_counts_of_swin_are_those_of_the_authors(name: str) -> None:
    """Swin computes drop rates while it is built, so not on the meta device."""
    cfg = Config.fromfile(FOLDER / f'{name}.py').model.backbone
    cfg.drop_path_rate = 0
    backbone = MODELS.build(cfg)
    sizes = [(p.numel(), p.requires_grad) for p in backbone.parameters()]
    assert sum(n for n, trains in sizes if trains) == 6_062_788
    assert sum(n for n, trains in sizes if not trains) == 195_201_204


def test_the_recipe_of_the_authors() -> None:
    sod = Config.fromfile(FOLDER / 'sod-eva02-l_vt5000.py')
    assert sod.optim_wrapper.optimizer == dict(type='Adam', lr=5e-5)
    assert (sod.train_cfg.max_epochs, sod.train_dataloader.batch_size) == (199, 8)
    assert sod.model.data_preprocessor.size == (384, 384)
    taps = sod.model.backbone
    assert (taps.blocks, taps.scales) == ((7, 11, 15, 23), (4, 2, 1, 0.5))
    dino = Config.fromfile(FOLDER / 'dino-swin-l_m3fd.py')
    assert (dino.optim_wrapper.optimizer.type, dino.base_lr) == ('AdamW', 1e-4)
    assert dino.optim_wrapper.clip_grad.max_norm == 0.1
    assert dino.param_scheduler[0].milestones == [27, 33]
    assert (dino.train_cfg.max_epochs, dino.train_dataloader.batch_size) == (50, 2)
    seg = Config.fromfile(FOLDER / 'segformer-eva02-l_mfnet.py')
    assert seg.train_cfg == dict(
        type='IterBasedTrainLoop', max_iters=40000, val_interval=4000
    )
    assert seg.model.data_preprocessor.size == (512, 512)


def test_metafile_and_page_list_every_config() -> None:
    meta = yaml.safe_load((FOLDER / 'metafile.yml').read_text())
    listed = {ROOT / model['Config'] for model in meta['Models']}
    assert listed == set(CONFIGS)
    assert all(model['Name'] == Path(model['Config']).stem for model in meta['Models'])
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert 'configs/ivtuning/metafile.yml' in index['Import']
    page = (FOLDER / 'README.md').read_text()
    assert [path.name for path in CONFIGS if f'`{path.name}`' not in page] == []
