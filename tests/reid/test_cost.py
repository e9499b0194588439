"""Costs: counts of the literature, and the command."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from mmengine.config import Config
from torch import nn

from mmir.cli import cli
from mmir.registry import MODELS
from mmir.reid import vireid_cost
from mmir.utils.errors import UserError

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')
ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs/toplight'
TOOL = ROOT / 'tools/analysis_tools/get_cost.py'


def model(name: str) -> nn.Module:
    return MODELS.build(Config.fromfile(CONFIGS / f'{name}.py').model)


def test_mobilenet_v3_large_and_fdr() -> None:
    cost = vireid_cost(model('plain_mbv3l_sysu'), 288, 144)
    assert cost.image == 236_733_360
    assert cost.image + cost.stem == 245_359_536
    assert cost.classifier == 1280 * 395
    assert cost.parameters == 2_972_880 + 960 * 1280 + 1280 + 2 * 1280
    fdr = vireid_cost(model('toplight_mbv3l_sysu'), 288, 144)
    assert fdr.image - cost.image == 110_592_000


def test_resnet_50_of_the_paper() -> None:
    """3562 million in its table 4; without non-local blocks, last stride 2."""
    cost = vireid_cost(model('plain_r50_sysu'), 288, 144)
    assert cost.paper / 1e6 == pytest.approx(3561.2, rel=1e-3)
    assert cost.stem == 64 * 3 * 49 * 144 * 72
    one_stem = cost.paper - cost.stem
    assert one_stem / 1e6 == pytest.approx(3463, rel=1e-3)


def test_norms_count_two_per_element() -> None:
    """AGW's network, by hand: a norm of each convolution's output, and BNNeck."""
    net = model('plain_shuffle10_sysu')
    elements = []
    stem = net.backbone.backbone.conv1
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.register_forward_hook(
                lambda _, __, out: elements.append(out.numel())
            )
    cost = vireid_cost(net, 64, 32)
    shared = sum(elements) - 2 * 24 * 32 * 16
    assert cost.norms == 2 * (shared // 2 + 2 * 24 * 32 * 16)
    assert stem.copies['ir'].bn.num_features == 24


def test_other_models_are_refused() -> None:
    with pytest.raises(UserError, match='Linear'):
        vireid_cost(nn.Linear(1, 1), 8, 8)


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    spec = spec_from_file_location('tool_get_cost', TOOL)
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    names = [str(CONFIGS / f'{name}_mbv3s_sysu.py') for name in ('plain', 'toplight')]
    monkeypatch.setattr(sys, 'argv', ['get_cost.py', *names])
    assert cli.run(tool.main) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert 'plain_mbv3s_sysu' in lines[2]
    assert '288x144' in lines[2]
    counts = [[float(c) for c in line.split('|')[3:6]] for line in lines[2:4]]
    assert counts[1][1] - counts[0][1] == pytest.approx(
        2 * 1024 * 768 * 45 / 1e6, abs=0.01
    )
    monkeypatch.setattr(sys, 'argv', ['get_cost.py', names[0], '--shape', '0', '4'])
    assert cli.run(tool.main) == 2
