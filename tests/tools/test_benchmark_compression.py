"""The compression benchmark on a shrunken config with random weights."""

import json
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmir.adapters.walk import count_parameters
from mmir.tensorfact import compression_plan, factorize_
from mmir.testing import shrink
from mmir.testing.scenes import write_flir

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools/benchmark'))

import compression_plans  # noqa: E402


@pytest.fixture
def detector(tmp_path: Path) -> tuple[Path, Path]:
    """Config and checkpoint of a tiny detector on two images of 64 px."""
    pytest.importorskip('mmdet')
    data = write_flir(tmp_path / 'data', train=1, val=2, size=(160, 128), seed=0)
    cfg = Config.fromfile(ROOT / 'configs/tensorfact/yolo-tiny_flir_1pct_full.py')
    cfg = shrink(cfg, (64, 64))
    cfg.val_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.val_dataloader.dataset.update(
        data_root=str(data),
        ann_file='val/thermal_annotations.json',
        data_prefix=dict(img='val/'),
    )
    cfg.work_dir = str(tmp_path / 'work')
    cfg.dump(tmp_path / 'config.py')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    return tmp_path / 'config.py', tmp_path / 'model.pth'


def test_rows_and_files(detector, tmp_path, capsys) -> None:
    out = tmp_path / 'out/compression.json'
    options = ['--alphas', '0.75', '--out', str(out)]
    results = compression_plans.main([*map(str, detector), *options])
    dense, plan, uniform, energy = results
    assert [row['ranks'].partition(' ')[0].strip(',') for row in results] == [
        'dense',
        'plan',
        'uniform',
        'energy',
    ]
    # The budget is the size at the uniform rank; the others come near it from below.
    assert plan['ranks'] == f'plan, {uniform["params"]:,} parameters'
    assert uniform['params'] < 0.8 * dense['params']
    for row in (plan, energy):
        assert 0.97 * uniform['params'] < row['params'] <= uniform['params']
    assert all(row['metrics'].keys() == dense['metrics'].keys() for row in results)
    lines = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith('|')
    ]
    assert len(lines) == 2 + 4
    assert f'| {dense["params"]:,} | 100.0% |' in lines[2]
    assert json.loads(out.read_text())['rows'] == results


@pytest.mark.parametrize('split', ['ts_dd', 't_sdd'])
def test_sizes_are_those_of_factorized_models(split: str) -> None:
    def net() -> torch.nn.Module:
        torch.manual_seed(0)
        convs = [torch.nn.Conv2d(3, 16, 3), torch.nn.Conv2d(16, 32, 3)]
        return torch.nn.Sequential(*convs)

    dense = compression_plan(net(), dict(rank=1), split=split)
    budget = compression_plans.size_at(dense, {'0': 3, '1': 4})
    energy = compression_plans.energy_within(net(), dense, budget)
    for more, fits in ((0.0, True), (1e-6, False)):
        model = net()
        factorize_(model, dict(energy=energy + more), split)
        assert (count_parameters(model) <= budget) == fits
    assert compression_plans.size_at(dense, {'0': 99, '1': 99}) == dense.before.params
