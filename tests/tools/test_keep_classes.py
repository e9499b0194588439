"""Tool that keeps some classes of a pretrained detector."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmir.cli import cli
from mmir.utils.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/tensorfact/yolov5-n_coco_flir_1pct.py'


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the tool as a user does; returns its exit code."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools/model_converters'))
    tool = import_module('keep_classes')

    def start(*arguments: object) -> int:
        monkeypatch.setattr(sys, 'argv', ['keep_classes.py', *map(str, arguments)])
        return cli.run(tool.main)

    return start


def test_rows_of_the_config_are_kept(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    cfg = Config.fromfile(CONFIG)
    cfg.model.adapt = None
    cfg.model.bbox_head.head_module.num_classes = 4
    with DefaultScope.overwrite_default_scope('mmdet'):
        state = MODELS.build(cfg.model).state_dict()
    source, target = tmp_path / 'four.pth', tmp_path / 'three.pth'
    names = ['bus', 'car', 'bicycle', 'person']
    meta = dict(norms='identity', num_classes=4)
    torch.save(dict(state_dict=state, meta=meta), source)
    assert run(CONFIG, source, target, '--known', *names) in (0, None)
    assert '3 classes (person, bicycle, car), 6 tensors' in capsys.readouterr().out
    bias = 'bbox_head.head_module.convs_pred.1.bias'
    before = state[bias].view(3, 9)
    content = load_checkpoint(target)
    after = content['state_dict'][bias].view(3, 8)
    assert torch.equal(after, before[:, [0, 1, 2, 3, 4, 8, 7, 6]])
    classes = ('person', 'bicycle', 'car')
    assert content['meta'] == dict(
        norms='identity', num_classes=3, dataset_meta=dict(classes=classes)
    )


def test_a_class_that_is_not_there(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    cfg = Config.fromfile(CONFIG)
    cfg.model.adapt = None
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.save(MODELS.build(cfg.model).state_dict(), tmp_path / 'a.pth')
    known = ['person', 'car', 'bus']
    code = run(CONFIG, tmp_path / 'a.pth', tmp_path / 'b.pth', '--known', *known)
    assert code == 2
    assert 'no class bicycle; its classes: person, car, bus' in capsys.readouterr().err
    assert not (tmp_path / 'b.pth').exists()
