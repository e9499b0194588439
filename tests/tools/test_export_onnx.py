"""The export tool from the command line."""

import importlib.util
import logging
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmir.adapters import save_adapter
from mmir.cli import cli
from mmir.utils.errors import UserError

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / 'configs/tensorfact/yolo-tiny_flir_1pct.py')
DENSE = str(ROOT / 'configs/tensorfact/yolo-tiny_flir_1pct_full.py')
pytest.importorskip('mmdet')
onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxscript')
pytest.importorskip('onnxruntime')


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        'export_onnx', ROOT / 'tools/deploy/export_onnx.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory) -> str:
    """A freshly built model of `CONFIG`, saved as a runner does, and its adapter."""
    cfg = Config.fromfile(CONFIG)
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    path = tmp_path_factory.mktemp('export') / 'epoch.pth'
    meta = dict(dataset_meta=dict(classes=('walker', 'bike', 'car')))
    torch.save(dict(meta=meta, state_dict=model.state_dict()), path)
    save_adapter(model, path.with_name('adapter.pth'))
    return str(path)


@pytest.fixture
def settings(monkeypatch) -> list:
    """Stand-in for the export that records its arguments."""
    from mmir.det.yolo import onnx_export

    calls = []
    monkeypatch.setattr(
        onnx_export, 'export_onnx', lambda *args: calls.append(args) or 'fine'
    )
    return calls


def test_writes_a_file_that_equals_pytorch(checkpoint, tmp_path, capsys):
    out = tmp_path / 'new' / 'yolo.onnx'
    tool().main([CONFIG, checkpoint, str(out), '--nms', '--shape', '64', '96'])
    assert (
        f'{out}: compared with PyTorch, largest difference' in capsys.readouterr().out
    )
    model = onnx.load(out)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dims] == [1, 3, 64, 96]
    assert [o.name for o in model.graph.output] == [
        'boxes',
        'scores',
        'labels',
        'count',
    ]
    facts = {p.key: p.value for p in model.metadata_props}
    assert facts['classes'] == '["walker", "bike", "car"]'
    assert [p.name for p in out.parent.iterdir()] == ['yolo.onnx']


def test_options_reach_the_export(checkpoint, settings):
    tool().main([CONFIG, checkpoint, 'x.onnx', '--dynamic', '--shape', '32', '64'])
    tool().main([CONFIG, checkpoint, 'y.onnx'])
    (_, path, first), (_, _, second) = settings
    classes = ('walker', 'bike', 'car')
    assert (path, first.size, first.nms) == ('x.onnx', (32, 64), False)
    assert (first.dynamic, tuple(first.classes)) == (True, classes)
    assert (second.size, second.dynamic) == ((640, 640), False)


def test_options_of_the_config_and_deltas_reach_the_model(checkpoint, settings):
    adapter = str(Path(checkpoint).with_name('adapter.pth'))
    options = ['--cfg-options', 'model.test_cfg.score_thr=0.25']
    tool().main([CONFIG, checkpoint, 'x.onnx', '--adapter', adapter, *options])
    ((model, *_),) = settings
    assert model.bbox_head.test_cfg.score_thr == 0.25
    assert not model.training
    expected = torch.load(checkpoint, weights_only=True)['state_dict']
    for key, value in model.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_classes_of_the_config_are_taken_without_meta(checkpoint, settings, tmp_path):
    bare = tmp_path / 'bare.pth'
    torch.save(torch.load(checkpoint, weights_only=True)['state_dict'], bare)
    tool().main([CONFIG, str(bare), 'x.onnx'])
    assert tuple(settings[0][2].classes) == ('person', 'bicycle', 'car')


def test_errors_are_messages(checkpoint, tmp_path, capsys, monkeypatch):
    # a logger of another test may write to a stream that is closed by now
    monkeypatch.setattr(logging, 'raiseExceptions', False)
    out, main = str(tmp_path / 'x.onnx'), tool().main
    other = tmp_path / 'other.py'
    other.write_text(
        "default_scope = 'mmdet'\n"
        "custom_imports = dict(imports=['mmir'])\n"
        "model = dict(type='mmir.YOLOHeadModule', num_classes=3, in_channels=[8] * 3)\n"
    )
    for args, message in (
        ([CONFIG, 'no.pth', out], 'checkpoint: no file no.pth'),
        ([CONFIG, checkpoint, out, '--adapter', 'no.pth'], '--adapter: no file no.pth'),
        ([CONFIG, checkpoint, out, '--shape', '100', '64'], 'multiples of 32'),
        ([DENSE, checkpoint, out], 'does not fit the config'),
        ([str(other), checkpoint, out], 'describes a YOLOHeadModule; only a YOLOv5 or'),
    ):
        assert cli.run(lambda args=args: main(args)) == 2
        err = capsys.readouterr().err
        assert message in err
        assert 'Traceback' not in err
    assert not Path(out).exists()


def test_unsafe_checkpoint_is_refused(tmp_path):
    path = tmp_path / 'unsafe.pth'
    torch.save(dict(state_dict={}, hook=Path), path)
    with pytest.raises(UserError, match='--trust-checkpoint'):
        tool().main([CONFIG, str(path), 'x.onnx'])
