"""Every config of CSK-Net builds at small scale, trains a step and predicts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, LOOPS, METRICS, MODELS, init_default_scope
from torch import nn

from mmir.cli.config import apply_options
from mmir.fusion import AddFusion
from mmir.layers.modality_norm import ModalityNorm, PerModality
from mmir.layers.modality_shared import exchanging_norms
from mmir.structures import drop_modalities
from mmir.testing import shrink
from mmir.testing.scenes.field import write_field
from mmir.testing.scenes.seg_layouts import write_seg_set

pytest.importorskip('mmseg')

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'configs/csknet'
CONFIGS = sorted(FOLDER.glob('*.py'))
STUDENTS = [path for path in CONFIGS if path.stem.startswith('csknet')]
VARIANTS = [path for path in STUDENTS if path.stem.count('_') > 2]
SIZE = (96, 64)
SETS = {'msrs': 'MSRS', 'mfnet': 'MFNet', 'mvseg': 'MVSeg', 'pst900': 'PST900'}
CLASSES = dict(msrs=9, mfnet=9, mvseg=26, pst900=5, field=3)


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic pairs in the layout of each dataset, in folders of its name."""
    root = tmp_path_factory.mktemp('scenes')
    options = dict(train=2, test=1, size=SIZE, progress=False)
    for folder, name in SETS.items():
        write_seg_set(name, root / folder, **options)
    write_field(root / 'field', **options)
    return root


def small(path: Path, data: Path) -> Config:
    """The config with a small network and images, on synthetic pairs."""
    cfg = shrink(Config.fromfile(path), SIZE)
    for key in ('train_dataloader', 'test_dataloader'):
        cfg[key].dataset.data_root = str(data / path.stem.split('_')[2])
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    return cfg


def train_step(cfg: Config) -> nn.Module:
    """Train one step; every parameter gets a gradient, and the network changes."""
    model = MODELS.build(cfg.model)
    model.init_weights()  # as the runner does
    train = DATASETS.build(cfg.train_dataloader.dataset)
    optim = build_optim_wrapper(model, cfg.optim_wrapper)
    decays = {id(p): g['weight_decay'] for g in optim.param_groups for p in g['params']}
    assert {decays[id(p)] for p in model.parameters() if p.ndim == 1} == {0.0}
    assert {decays[id(p)] for p in model.parameters() if p.ndim > 1} == {5e-4}
    data = model.data_preprocessor(pseudo_collate([train[0], train[1]]), training=True)
    assert data['inputs'].shape == (2, 6, *cfg.model.data_preprocessor.size)
    total, _ = model.parse_losses(model(**data, mode='loss'))
    assert torch.isfinite(total)
    total.backward()
    trained = [(k, p) for k, p in model.named_parameters() if p.requires_grad]
    assert [k for k, p in trained if p.grad is None] == []
    before = [p.detach().clone() for _, p in trained]
    optim.step()
    assert any(not torch.equal(a, p) for a, (_, p) in zip(before, trained, strict=True))
    return model.eval()


def check_predicts(cfg: Config, model: nn.Module) -> None:
    """Predict with both cameras and with either, and evaluate."""
    test = DATASETS.build(cfg.test_dataloader.dataset)
    metric = METRICS.build(cfg.test_evaluator)
    metric.dataset_meta = test.metainfo
    item = test[0]
    names = item['data_samples'].modalities
    found = []
    for gone in ([], [names[0]], [names[1]]):
        batch = pseudo_collate([item])
        batch = drop_modalities(batch, gone) if gone else batch
        with torch.no_grad():
            samples = model.test_step(batch)
        logits = samples[0].seg_logits.data
        classes = len(test.metainfo['classes'])
        assert logits.shape == (classes, *item['data_samples'].ori_shape)
        assert torch.isfinite(logits).all()
        metric.process(batch, [sample.to_dict() for sample in samples])
        found.append(logits)
    assert 'mIoU' in metric.evaluate(3)
    if cfg.model.type == 'mmir.CSKNet':
        assert not torch.equal(found[1], found[2])


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_trains_and_predicts(path: Path, data: Path) -> None:
    cfg = small(path, data)
    model = train_step(cfg)
    head = model.decode_head
    assert head.num_classes == CLASSES[path.stem.split('_')[2]]
    assert len(cfg.test_dataloader.dataset.pipeline) >= 3
    check_predicts(cfg, model)


def fields(real: Path, root: Path) -> None:
    """Red and near infrared of a field, as the config for a camera pair reads them."""
    rows = json.loads((real / 'cwfid/index.json').read_text())['images']
    root.mkdir()
    for kind in ('red', 'nir', 'label'):
        (root / kind).symlink_to(real / 'cwfid' / kind)
    for split in ('train', 'test'):
        names = [row['id'] for row in rows if row['split'] == split]
        (root / f'{split}.txt').write_text('\n'.join(names))


def test_real_pairs(real_data: Path, tmp_path: Path) -> None:
    fields(real_data, tmp_path / 'field')
    cfg = small(FOLDER / 'csknet_m-v2_field.py', tmp_path)
    check_predicts(cfg, train_step(cfg))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_the_loop_and_the_schedule(path: Path) -> None:
    cfg = Config.fromfile(path)
    assert LOOPS.get(cfg.test_cfg.type) is not None
    one_camera = cfg.model.type == 'mmir.SingleModality'
    assert cfg.test_cfg.type == (
        'TestLoop' if one_camera else 'mmir.MissingModalityTestLoop'
    )
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4
    )
    assert (cfg.train_cfg.max_iters, cfg.train_dataloader.batch_size) == (40000, 8)
    assert cfg.model.data_preprocessor.size == cfg.crop_size


@pytest.mark.parametrize('path', VARIANTS, ids=lambda p: p.stem)
def test_variants_differ_in_the_model_only(path: Path) -> None:
    ours = Config.fromfile(FOLDER / 'csknet_r50_msrs.py').to_dict()
    other = Config.fromfile(path).to_dict()
    assert ours.pop('model') != other.pop('model')
    assert ours == other


def test_baselines_share_data_and_schedule_with_the_student() -> None:
    ours = Config.fromfile(FOLDER / 'csknet_r50_msrs.py').to_dict()
    for name in ('rgb', 'ir', 'early'):
        path = FOLDER / f'deeplabv3plus_r50_msrs_{name}.py'
        other = Config.fromfile(path).to_dict()
        keys = {k for k in ours | other if ours.get(k) != other.get(k)}
        # the hook only logs
        assert keys <= {'model', 'decoder', 'test_cfg', 'custom_hooks'}
        assert other['model']['backbone'] == ours['model']['backbone']
        assert other['model']['decode_head'] == ours['model']['decode_head']['decoder']


def built(name: str) -> nn.Module:
    """The small network of a variant of the student on MSRS."""
    cfg = shrink(Config.fromfile(FOLDER / f'csknet_r50_msrs{name}.py'), SIZE)
    init_default_scope('mmseg')
    return MODELS.build(cfg.model)


def test_variants_are_what_their_names_say() -> None:
    base = built('')
    norms = [m for m in base.backbone.modules() if isinstance(m, ModalityNorm)]
    assert len(norms) == 55
    assert len([*exchanging_norms(base)]) == 16
    plain = built('_no-exchange')
    assert [*exchanging_norms(plain)] == []
    assert not plain.backbone.layer3._forward_hooks
    channel, spatial = built('_channel'), built('_spatial')
    assert len([*exchanging_norms(channel)]) == 16
    assert not channel.backbone.layer4._forward_hooks
    assert [*exchanging_norms(spatial)] == []
    hooked = [
        len(getattr(spatial.backbone, f'layer{k}')._forward_hooks) for k in range(1, 5)
    ]
    assert hooked == [0, 0, 1, 1]
    shared = built('_shared-bn').backbone
    assert not any(isinstance(m, PerModality) for m in shared.modules())
    assert isinstance(built('_separate').backbone.layer1[0].conv1, PerModality)
    assert isinstance(built('_add').decode_head.fusion, AddFusion)
    assert built('_concat-gate').decode_head.fusion.gate == 'concat'
    assert built('_no-contrast').contrast is None
    assert built('_contrast-all').contrast.losses[0].scope == 'all'
    assert base.contrast.losses[0].scope == 'intra'
    _, norm = next(exchanging_norms(built('_sparse')))
    assert norm.exchange.sparsity == 2e-4
    assert (base.p_solo, built('_solo').p_solo) == (0.0, 0.3)


def teach(student: str, teacher: str, tmp_path: Path) -> nn.Module:
    """Student whose teacher is the network of another config."""
    cfg = shrink(Config.fromfile(FOLDER / f'{teacher}.py'), SIZE)
    init_default_scope(cfg.default_scope)
    file = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), file)
    cfg = shrink(Config.fromfile(FOLDER / f'{student}.py'), SIZE)
    apply_options(cfg, {'model.teacher.checkpoint': str(file)})
    return MODELS.build(cfg.model)


@pytest.mark.parametrize(
    ('student', 'teacher'),
    [
        ('csknet_r50_msrs', 'deeplabv3plus_r50_msrs_rgb'),
        ('csknet_r50_mvseg', 'deeplabv3plus_r50_mvseg_rgb'),
        ('csknet_m-v2_field', 'deeplabv3plus_m-v2_field_nir'),
    ],
)
def test_the_baseline_is_the_teacher(
    student: str, teacher: str, tmp_path: Path
) -> None:
    model = teach(student, teacher, tmp_path)
    assert model.teacher.modality == teacher.rpartition('_')[2]
    assert {*model.distill.losses} == {'encoder', 'decoder'}


def test_ablations_of_the_distillation(tmp_path: Path) -> None:
    teacher = 'deeplabv3plus_r50_msrs_rgb'
    for kind in ('encoder', 'decoder'):
        model = teach(f'csknet_r50_msrs_{kind}', teacher, tmp_path)
        assert {*model.distill.losses} == {kind}
    assert (
        Config.fromfile(FOLDER / 'csknet_r50_msrs_no-distill.py').model.teacher is None
    )


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_the_checkpoint_of_the_backbone_is_one_option(path: Path) -> None:
    cfg = Config.fromfile(path)
    apply_options(cfg, dict(checkpoint='mine.pth'))
    assert cfg.model.backbone.init_cfg.checkpoint == 'mine.pth'
    assert (cfg.model.get('teacher') or {}).get('checkpoint') is None


@pytest.mark.parametrize('name', ['csknet_r50_msrs', 'deeplabv3plus_r50_msrs_ir'])
def test_counts_are_those_of_the_specified_networks(name: str) -> None:
    cfg = Config.fromfile(FOLDER / f'{name}.py')
    init_default_scope(cfg.default_scope)
    cfg.model.pop('contrast', None)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    found = sum(p.numel() for p in model.parameters())
    plain, head, gates = 41_220_057, 17_692_793, 6 * 512**2 + 512 * 9 + 9
    own = plain + 53_248 + head + gates
    assert found == (own if name.startswith('csknet') else plain)


def test_metafile_and_page_list_every_config() -> None:
    meta = yaml.safe_load((FOLDER / 'metafile.yml').read_text())
    listed = {ROOT / model['Config'] for model in meta['Models']}
    assert listed == set(CONFIGS)
    assert all(model['Name'] == Path(model['Config']).stem for model in meta['Models'])
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert 'configs/csknet/metafile.yml' in index['Import']
    page = (FOLDER / 'README.md').read_text()
    assert [path.name for path in CONFIGS if f'`{path.name}`' not in page] == []
