"""One camera of a CSK-Net as a plain mmseg network, and ONNX of any set of cameras."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

pytest.importorskip('mmseg')

from mmir.layers.solo_statistics import modality_norms
from mmir.registry import MODELS
from mmir.seg.csknet import onnx_export
from mmir.seg.csknet.export import export_single_modality
from mmir.seg.csknet.onnx_export import export_onnx
from mmir.testing import shrink
from mmir.utils.errors import UserError

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / 'configs/csknet/csknet_r50_msrs.py'
SIZE = 64, 96


def small() -> Config:
    cfg = shrink(Config.fromfile(CONFIG), (64, 64))
    cfg.model.backbone.update(base_channels=8, stem_channels=8, depth=18)
    cfg.model.decode_head.decoder.update(in_channels=64, c1_in_channels=8, channels=8)
    cfg.model.contrast.update(channels=(8, 16, 32, 64))
    # so that exchange matters
    cfg.model.shared.channel_exchange = dict(mode='quantile', quantile=0.3)
    return cfg


def randomize(model: torch.nn.Module) -> None:
    """Norms and classifiers as if they were trained, different for each modality."""
    generator = torch.Generator().manual_seed(1)
    for name, value in model.state_dict().items():
        if name.endswith('running_var'):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.ndim == 1 and value.is_floating_point():
            offset = float(name.endswith('.weight'))
            value.normal_(offset, 0.3, generator=generator)
        elif 'conv_seg.weight' in name:
            value.normal_(0, 1, generator=generator)


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """A config and a checkpoint with a projection, as a training saves it."""
    torch.manual_seed(0)
    cfg = small()
    init_default_scope('mmseg')
    model = MODELS.build(dict(cfg.model))
    randomize(model)
    path = tmp_path_factory.mktemp('csknet') / 'iter_9.pth'
    classes = tuple(f'c{k}' for k in range(9))
    meta = dict(dataset_meta=dict(classes=classes, palette=[[k] * 3 for k in range(9)]))
    state = model.state_dict()
    assert any(key.startswith('contrast.') for key in state)
    torch.save(dict(meta=meta, state_dict=state), path)
    cfg.model.teacher.checkpoint = 'not_here.pth'  # as on the machine of deployment
    cfg.dump(path.with_name('csk.py'))
    return Config.fromfile(path.with_name('csk.py')), path


def solo(trained: tuple[Config, Path], *names: str) -> torch.nn.Module:
    cfg, path = trained
    options = {k: v for k, v in cfg.model.items() if k != 'teacher'}
    options['test_cfg'] = dict(mode='whole', modalities=names)
    model = MODELS.build(options)
    model.load_state_dict(torch.load(path)['state_dict'])
    return model.eval()


PLAIN = """
import sys
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
import mmseg.models
from mmseg.apis import MMSegInferencer
from mmseg.registry import MODELS

config, weights, images, out, picture = sys.argv[1:]
cfg = Config.fromfile(config)
init_default_scope(cfg.default_scope)
model = MODELS.build(cfg.model)
content = torch.load(weights, weights_only=True)
model.load_state_dict(content['state_dict'])  # strict
x = torch.from_numpy(np.load(images))
data = model.data_preprocessor(dict(inputs=[x], data_samples=None))
with torch.no_grad():
    np.save(out, model.eval()(data['inputs'], mode='tensor').numpy())
labels = MMSegInferencer(config, weights, device='cpu')(picture)['predictions']
assert labels.shape == (50, 70)
assert not [name for name in sys.modules if name.split('.')[0] == 'mmir']
"""


def test_plain_mmseg_computes_the_same_without_mmir(
    trained: tuple[Config, Path], tmp_path: Path
) -> None:
    config, weights = export_single_modality(*trained, 'rgb', tmp_path)
    assert (config.name, weights.name) == ('csk_rgb.py', 'csk_rgb.pth')
    assert 'mmir' not in config.read_text()
    raw = np.random.default_rng(0).integers(0, 256, (6, *SIZE), np.uint8)
    np.save(tmp_path / 'x.npy', raw[:3])
    gray = raw[0, :50, :70]
    assert cv2.imwrite(str(tmp_path / 'gray.png'), gray)
    result = tmp_path / 'y.npy'
    files = [config, weights, tmp_path / 'x.npy', result, tmp_path / 'gray.png']
    command = [sys.executable, '-c', PLAIN, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    model = solo(trained, 'rgb')
    prepare = model.data_preprocessor
    pair = torch.from_numpy(raw).float()
    pair[:3] = pair[[2, 1, 0]]  # files hold BGR
    inputs = ((pair - prepare.channel_mean) / prepare.channel_std)[None]
    with torch.no_grad():
        expected = model(inputs, mode='tensor')
    assert torch.equal(torch.from_numpy(np.load(result)), expected)
    assert expected.std() > 0.01


def test_the_checkpoint_holds_the_plain_network_only(
    trained: tuple[Config, Path], tmp_path: Path
) -> None:
    config, weights = export_single_modality(*trained, 'ir', tmp_path)
    cfg = Config.fromfile(config)
    plain = MODELS.build(cfg.model).state_dict()
    content = torch.load(weights, weights_only=True)
    saved = content['state_dict']
    assert {k: v.shape for k, v in saved.items()} == {
        k: v.shape for k, v in plain.items()
    }
    assert content['meta']['dataset_meta']['classes'][8] == 'c8'
    state = torch.load(trained[1])['state_dict']
    norm = state['backbone.layer1.0.bn2.copies.ir.weight']
    assert torch.equal(saved['backbone.layer1.0.bn2.weight'], norm)
    assert not torch.equal(norm, state['backbone.layer1.0.bn2.copies.rgb.weight'])
    steps = [step['type'] for step in cfg.test_pipeline]
    assert steps == ['LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs']


def test_resizing_of_the_test_pipeline_is_kept(
    trained: tuple[Config, Path], tmp_path: Path
) -> None:
    cfg, path = trained
    cfg = Config(cfg.to_dict())
    field = Config.fromfile(ROOT / 'configs/csknet/csknet_r50_pst900.py')
    cfg.test_dataloader = field.test_dataloader
    config, _ = export_single_modality(cfg, path, 'ir', tmp_path)
    steps = Config.fromfile(config).test_pipeline
    assert steps[1] == dict(type='Resize', scale=(640, 360))
    assert config.name == 'csknet_ir.py'  # a config without a file has no name


def test_recalibrated_statistics_are_exported(
    trained: tuple[Config, Path], tmp_path: Path
) -> None:
    cfg, path = trained
    model = solo(trained, 'ir')
    norms = modality_norms(model, 'ir')
    moved = {
        name: (norm.running_mean + 0.1, 2 * norm.running_var)
        for name, norm in norms.items()
        if not name.startswith('contrast')  # does not run in a prediction
    }
    model.solo_statistics.record('ir', moved)
    again = tmp_path / 'recalibrated.pth'
    torch.save(dict(state_dict=model.state_dict()), again)
    for name, changed in (('ir', True), ('rgb', False)):
        _, own = export_single_modality(cfg, again, name, tmp_path)
        plain = torch.load(own)['state_dict']
        former = torch.load(export_single_modality(cfg, path, name, tmp_path)[1])
        key = 'backbone.layer4.0.bn1.running_var'
        ratio = plain[key] / former['state_dict'][key]
        assert torch.equal(ratio, torch.full_like(ratio, 2.0 if changed else 1.0))


def test_separate_encoders_export_too(tmp_path: Path) -> None:
    cfg = small()
    cfg.model.shared = dict(separate='all')
    init_default_scope('mmseg')
    model = MODELS.build(dict(cfg.model))
    randomize(model)
    torch.save(model.state_dict(), tmp_path / 'x.pth')
    _, weights = export_single_modality(cfg, tmp_path / 'x.pth', 'ir', tmp_path / 'o')
    saved = torch.load(weights)['state_dict']
    own = model.backbone.layer1[0].conv1.copies['ir'].weight
    assert torch.equal(saved['backbone.layer1.0.conv1.weight'], own)


def test_what_cannot_be_exported_is_said(
    trained: tuple[Config, Path], tmp_path: Path
) -> None:
    cfg, path = trained
    with pytest.raises(UserError, match=r"'depth'.*\['rgb', 'ir'\]"):
        export_single_modality(cfg, path, 'depth', tmp_path)
    other = Config(cfg.to_dict())
    other.model.decode_head.decoder.num_classes = 5
    with pytest.raises(UserError, match='does not fit the config'):
        export_single_modality(other, path, 'ir', tmp_path)
    teacher = Config.fromfile(ROOT / 'configs/csknet/deeplabv3plus_r50_msrs_ir.py')
    with pytest.raises(UserError, match='describes a EncoderDecoder'):
        export_single_modality(teacher, path, 'ir', tmp_path)
    deep = Config(cfg.to_dict())
    load = deep.test_dataloader.dataset.pipeline[0]
    load.modalities.ir.bit_depth = 16
    with pytest.raises(UserError, match='mmseg reads images of 8 bits'):
        export_single_modality(deep, path, 'ir', tmp_path)
    deep.test_dataloader = None
    with pytest.raises(UserError, match='LoadPairedImages'):
        export_single_modality(deep, path, 'ir', tmp_path)
    assert [*tmp_path.iterdir()] == []


SINGLE = [pytest.param((n,), marks=pytest.mark.slow) for n in ('ir', 'rgb')]


@pytest.mark.parametrize('names', [('rgb', 'ir'), *SINGLE], ids='-'.join)
def test_onnx_equals_pytorch(
    names: tuple[str, ...], trained: tuple[Config, Path], tmp_path: Path
) -> None:
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxscript')
    runtime = pytest.importorskip('onnxruntime')
    file = tmp_path / 'csk.onnx'
    model = solo(trained, *names)
    assert export_onnx(model, file, names, SIZE) <= 1e-4
    facts = {p.key: p.value for p in onnx.load(file).metadata_props}
    assert facts['modalities'] == str([*names]).replace("'", '"')
    raw = np.random.default_rng(0).uniform(0, 255, (1, 6, *SIZE)).astype(np.float32)
    kept = [c for name in names for c in dict(rgb=(0, 1, 2), ir=(3, 4, 5))[name]]
    session = runtime.InferenceSession(file.read_bytes())
    found = session.run(None, {'images': raw[:, kept]})[0]
    prepare = model.data_preprocessor
    inputs = (torch.from_numpy(raw) - prepare.channel_mean) / prepare.channel_std
    metas = [dict(img_shape=SIZE, ori_shape=SIZE, pad_shape=SIZE)]
    with torch.no_grad():
        expected = model.encode_decode(inputs, metas).numpy()
    assert found.shape == expected.shape == (1, 9, *SIZE)
    assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)


def test_onnx_refuses_what_it_cannot_write(
    trained: tuple[Config, Path], tmp_path: Path
) -> None:
    pytest.importorskip('onnxruntime')
    model = solo(trained, 'ir')
    with pytest.raises(UserError, match=r"\['depth'\] cannot be exported"):
        export_onnx(model, tmp_path / 'x.onnx', ['depth'])
    with pytest.raises(UserError, match='2 class names for a model of 9'):
        export_onnx(model, tmp_path / 'x.onnx', classes=('a', 'b'))
    with pytest.raises(UserError, match='at least 32'):
        export_onnx(model, tmp_path / 'x.onnx', size=(16, 64))
    assert [*tmp_path.iterdir()] == []


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool; its switch to safe loading ends with the test."""
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    file = ROOT / 'tools/deploy/export_csknet.py'
    spec = importlib.util.spec_from_file_location('export_csknet', file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tool(
    tool: ModuleType,
    trained: tuple[Config, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    cfg, path = trained
    arguments = [cfg.filename, str(path), '--out', str(tmp_path)]
    tool.main([*arguments, '--modality', 'ir'])
    assert 'the same logits as the CSK-Net' in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ['csk_ir.pth', 'csk_ir.py']
    with pytest.raises(UserError, match='reads one camera'):
        tool.main(arguments)


def test_tool_writes_onnx(
    tool: ModuleType,
    trained: tuple[Config, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    export = lambda model, *args: calls.append(args) or 2e-7  # noqa: E731
    monkeypatch.setattr(onnx_export, 'export_onnx', export)
    cfg, path = trained
    arguments = [cfg.filename, str(path), '--out', str(tmp_path), '--onnx']
    tool.main([*arguments, '--modality', 'ir', '--shape', '32', '64'])
    tool.main(arguments)
    classes = tuple(f'c{k}' for k in range(9))
    assert calls == [
        (tmp_path / 'csk_ir.onnx', ['ir'], (32, 64), classes),
        (tmp_path / 'csk_rgb-ir.onnx', ('rgb', 'ir'), (480, 640), classes),
    ]
    assert (
        'csk_ir.onnx: largest difference from PyTorch 2e-07' in capsys.readouterr().out
    )
