"""The sweep over values of a config."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from mmengine.config import Config

from mmir.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / 'configs/tensorfact/yolo_flir_1pct_tensorfact.py')


@pytest.fixture(scope='module')
def sweep() -> ModuleType:
    path = ROOT / 'tools/analysis_tools/sweep.py'
    spec = importlib.util.spec_from_file_location('sweep', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_values_are_read_as_python_or_as_words(sweep: ModuleType) -> None:
    axes = sweep.axes_of(
        [['rank', '1', 'full', '{"alpha": 0.5}'], ['lr', '1e-3'], ['norm', 'all']]
    )
    assert axes == {'rank': [1, 'full', {'alpha': 0.5}], 'lr': [1e-3], 'norm': ['all']}
    for wrong in ([['rank']], [['rank', '1'], ['rank', '2']]):
        with pytest.raises(UserError, match='--sweep rank'):
            sweep.axes_of(wrong)


def test_values_reach_their_place(sweep: ModuleType) -> None:
    cfg = Config.fromfile(CONFIG)
    sweep.change(cfg, 'rank', {'energy': 0.9})
    assert cfg.model.adapt.rank == {'energy': 0.9}  # not merged into alpha
    sweep.change(cfg, 'delta_rank', 3)
    sweep.change(cfg, 'fraction', 0.05)
    sweep.change(cfg, 'optim_wrapper.clip_grad.max_norm', 1)
    sweep.set_seed(cfg, 7)
    assert cfg.model.adapt.delta == dict(rank=3)
    assert cfg.train_dataloader.dataset.dataset.subset == dict(frac=0.05, seed=7)
    assert cfg.optim_wrapper.clip_grad.max_norm == 1
    assert cfg.randomness.seed == 7
    with pytest.raises(UserError, match=r'no model\.adopt in config'):
        sweep.change(cfg, 'model.adopt.rank', 1)


def test_a_sweep_trains_every_combination_once(
    sweep: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def run_once(cfg: Config, work_dir: Path, settings: dict, metric: str) -> None:
        rank, seed = cfg.model.adapt.rank, cfg.randomness.seed
        made.append((rank, cfg.model.adapt.split, seed))
        work_dir.mkdir(parents=True)
        result = dict(
            settings=settings, seconds=60, trainable=5, final={metric: rank + seed / 10}
        )
        (work_dir / 'result.json').write_text(json.dumps(result))

    monkeypatch.setattr(sweep, 'run_once', run_once)
    arguments = ['--sweep', 'rank', '1', '2', '--sweep', 'split', 'ts_dd', 't_sdd']
    arguments += ['--seeds', '0', '2', '--out', str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', ['sweep.py', CONFIG, *arguments])
    sweep.main()
    assert sorted(made) == sorted(
        (rank, split, seed)
        for rank in (1, 2)
        for split in ('ts_dd', 't_sdd')
        for seed in (0, 2)
    )
    lines = (tmp_path / 'table.md').read_text().splitlines()
    assert lines[2].startswith('| 1 | t_sdd | 2 | 1.100 ± 0.141 |')
    assert len(lines) == 2 + 4
    assert (tmp_path / 'sweep.png').stat().st_size > 1000
    assert len(json.loads((tmp_path / 'results.json').read_text())) == 8
