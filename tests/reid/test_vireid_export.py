"""Export of one camera to ONNX, quantized too; the command and the benchmark."""

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from mmpretrain.structures import DataSample
from reid_models import PLAIN, TRANSFER
from torch import nn

from mmir.cli import cli
from mmir.registry import MODELS
from mmir.testing.scenes.reid_layouts import write_reid_set
from mmir.utils.errors import UserError

pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

from mmir.reid.onnx_export import (
    OneCamera,
    calibration_images,
    export_onnx,
    quantize_onnx,
    random_images,
    session_of,
)

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')
ROOT = Path(__file__).resolve().parents[2]
SIZE = 64, 32
MODEL = dict(
    type='mmir.VIReID',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    backbone=dict(
        type='mmir.TwoStemBackbone',
        backbone=dict(type='mmir.LightMobileNetV3', arch='small_050'),
        stem=('layer0',),
    ),
    neck=dict(
        type='mmir.FDRNeck',
        fdr=dict(in_channels=1024),
        pool=dict(type='mmpretrain.GlobalAveragePooling'),
    ),
    head=dict(type='mmir.VIReIDHead', num_classes=3, in_channels=1536),
)


def vireid() -> nn.Module:
    """A model whose stems differ, with statistics."""
    torch.manual_seed(0)
    model = MODELS.build(MODEL)
    for p in model.backbone.backbone.layer0.copies['ir'].parameters():
        p.data.normal_(0, 0.3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.momentum = 1.0  # statistics of the images below
    images = torch.from_numpy(np.concatenate(random_images(8, SIZE))) / 50 - 2
    model.train().head.bn(model.neck(model.backbone(images, ['rgb', 'ir'] * 4))[-1])
    return model.eval()


def expected(model: nn.Module, image: np.ndarray, modality: str) -> np.ndarray:
    """Feature by the model itself, from a BGR image."""
    sample = DataSample(metainfo=dict(modality=modality))
    bgr = torch.from_numpy(image[:, ::-1].copy())
    data = dict(inputs=[bgr[0]], data_samples=[sample])
    with torch.no_grad():
        (found,) = model.test_step(data)
    return found.feature.numpy()[None]


@pytest.fixture(scope='module')
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model, path = vireid(), tmp_path_factory.mktemp('onnx') / 'ir.onnx'
        assert export_onnx(model, path, 'ir', SIZE) < 1e-3
    return model, path


def test_features_are_those_of_the_model(made: tuple[nn.Module, Path]) -> None:
    model, path = made
    image = random_images(3, SIZE)[2]
    (found,) = session_of(path).run(None, {'images': image})
    wanted = expected(model, image, 'ir')
    assert np.abs(found - wanted).max() < 1e-3 * np.abs(wanted).max()
    other = expected(model, image, 'rgb')
    assert np.abs(other - wanted).max() > 1e-2 * np.abs(wanted).max()
    with torch.no_grad():
        rgb = OneCamera(model, 'rgb')(torch.from_numpy(image))
    torch.testing.assert_close(rgb, torch.from_numpy(other))


def test_int8_is_smaller_and_close(made: tuple[nn.Module, Path], tmp_path) -> None:
    _, path = made
    images = random_images(4, SIZE)
    quantize_onnx(path, tmp_path / 'int8.onnx', images)
    assert (tmp_path / 'int8.onnx').stat().st_size < 0.5 * path.stat().st_size
    both = [
        session_of(p).run(None, {'images': images[0]})[0][0]
        for p in (path, tmp_path / 'int8.onnx')
    ]
    cosine = both[0] @ both[1] / np.linalg.norm(both[0]) / np.linalg.norm(both[1])
    assert cosine > 0.8
    with pytest.raises(UserError, match='needs images'):
        quantize_onnx(path, tmp_path / 'no.onnx', [])


@pytest.mark.parametrize('skip', [0, 3])
def test_first_convolutions_stay_exact(made, tmp_path: Path, skip: int) -> None:
    import onnx

    _, path = made
    target = tmp_path / 'int8.onnx'
    quantize_onnx(path, target, random_images(2, SIZE), skip)
    graph = onnx.load(target).graph
    stored = {part.name for part in graph.initializer}
    exact = [
        node.input[1] in stored for node in graph.node if node.op_type == 'Conv'
    ]  # a quantized kernel comes from DequantizeLinear
    assert len(exact) > 10
    assert exact == [True] * skip + [False] * (len(exact) - skip)


def test_other_models_and_modalities_are_refused() -> None:
    with pytest.raises(UserError, match='choose one of'):
        OneCamera(vireid(), 'thermal')
    with pytest.raises(UserError, match='TwoStemBackbone'):
        OneCamera(nn.Linear(1, 1), 'ir')


def load(path: str, monkeypatch: pytest.MonkeyPatch):
    """A tool, to be run as users do."""
    monkeypatch.syspath_prepend(str((ROOT / path).parent))
    spec = spec_from_file_location(f'tool_{Path(path).stem}', ROOT / path)
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)

    def start(*arguments: object, **values: object) -> int:
        monkeypatch.setattr(sys, 'argv', [path, *map(str, arguments)])
        for name, value in values.items():
            monkeypatch.setattr(tool, name, value)
        return cli.run(tool.main)

    return start


CONFIG = """
model = {model}
height, width = {size}
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmir'])
train_dataloader = dict(
    dataset=dict(type='mmir.SYSUMM01', data_root={root!r}, split='train')
)
test_dataloader = dict(
    dataset=dict(
        type='mmir.SYSUMM01',
        data_root={root!r},
        split='test',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=({size[1]}, {size[0]})),
            dict(type='PackInputs', meta_keys=('modality',)),
        ],
    )
)
"""


def test_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    root = write_reid_set('SYSUMM01', tmp_path / 'people', 4, 2, 1, progress=False)
    text = CONFIG.format(model=MODEL, size=SIZE, root=str(root))
    (tmp_path / 'cfg.py').write_text(text)
    torch.save(dict(state_dict=vireid().state_dict()), tmp_path / 'x.pth')
    run = load('tools/deploy/export_vireid.py', monkeypatch)
    out = tmp_path / 'rgb.onnx'
    options = ('--modality', 'rgb', '--int8', '--images', 2)
    assert run(tmp_path / 'cfg.py', tmp_path / 'x.pth', out, *options) == 0
    assert '8 bits' in capsys.readouterr().out
    (found,) = session_of(out).run(None, {'images': random_images(1, SIZE)[0]})
    assert found.shape == (1, 1536)


def test_ranges_are_measured_on_training_images(tmp_path: Path) -> None:
    size = SIZE[1], SIZE[0]
    root = write_reid_set(
        'SYSUMM01', tmp_path / 'p', 4, 2, 1, size=size, progress=False
    )
    text = CONFIG.format(model=MODEL, size=SIZE, root=str(root))
    cfg = Config.fromstring(text, '.py')
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    infos = [dataset.get_data_info(k) for k in range(len(dataset))]
    paths = [info['img_path'] for info in infos if info['modality'] == 'ir']
    known = {cv2.imread(path)[..., ::-1].tobytes() for path in paths}
    for given, count in ((3, 3), (1000, len(paths))):
        found = [*calibration_images(cfg, 'ir', given)]
        pixels = [image[0].transpose(1, 2, 0).astype(np.uint8) for image in found]
        assert {part.tobytes() for part in pixels} <= known
        assert len(found) == count
        assert found[0].dtype == np.float32


def test_the_benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    run = load('tools/benchmark/toplight.py', monkeypatch)
    options = ('--rounds', 1, '--shape', 64, 32, '--out', tmp_path / 'x.json')
    names = ('plain_mbv3s_sysu', 'plain_shuffle10_sysu')  # ResNet-50 takes long
    assert run('--configs', names[1], *options, BASELINE=names[0]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 2 + 6
    written = json.loads((tmp_path / 'x.json').read_text())
    assert len(written['rows']) == 6
    assert {*written['macs']} == {*names}
    assert written['rows']['plain_mbv3s_sysu float32']['ratio'] == [1, 1, 1]
    assert run('--configs', 'gone') == 2


def test_mirror_images_are_part_of_the_export() -> None:
    torch.manual_seed(0)
    model = MODELS.build(MODEL | dict(type='mmir.MirroredVIReID')).eval()
    image = 255 * torch.rand(1, 3, *SIZE)
    sample = DataSample(metainfo=dict(modality='ir'))
    pre = model.data_preprocessor
    with torch.no_grad():
        found = OneCamera(model, 'ir')(image)
        (wanted,) = model((image - pre.mean) / pre.std, [sample], mode='predict')
    torch.testing.assert_close(found[0], wanted.feature, rtol=1e-4, atol=1e-4)


def test_backbones_that_are_more_than_two_stems_are_refused() -> None:
    backbone = dict(type='mmir.TMPABackbone', backbone=PLAIN, transfer=TRANSFER)
    model = MODELS.build(MODEL | dict(backbone=backbone, neck=None))
    with pytest.raises(UserError, match='TwoStemBackbone'):
        OneCamera(model, 'ir')
