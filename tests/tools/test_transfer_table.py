"""The table of the transfer study."""

import importlib.util
import statistics
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def study() -> ModuleType:
    path = ROOT / 'tools/benchmark/tensorfact_transfer.py'
    spec = importlib.util.spec_from_file_location('tensorfact_transfer', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def result(map50: float) -> dict:
    return dict(
        seconds=90.0,
        trainable=1234567,
        final={'coco/bbox_mAP_50': map50, 'coco/bbox_mAP': map50 / 2},
    )


def test_rows_are_means_over_seeds(study: ModuleType) -> None:
    values = [0.1, 0.2, 0.4]
    results = {f'street/dense/18/{i}': result(v) for i, v in enumerate(values)}
    results['street/tensorfact/18/0'] = result(0.5)
    results['street/dense/9/0'] = result(0.3)
    head, _, *rows = study.table(results).splitlines()
    assert head.split(' | ')[:5] == ['| task', 'images', 'method', 'seeds', 'mAP50']
    cells = [[c.strip() for c in row.strip('|').split('|')] for row in rows]
    assert [c[:4] for c in cells] == [
        ['street', '9', 'dense', '1'],
        ['street', '18', 'dense', '3'],
        ['street', '18', 'tensorfact', '1'],
    ]
    mean, spread = statistics.mean(values), statistics.stdev(values)
    assert cells[1][4] == f'{mean:.3f} ± {spread:.3f}'
    assert cells[0][4] == '0.300'
    assert cells[2][6:] == ['1,234,567', '1.5']


def test_methods_share_steps_images_and_schedule(study: ModuleType) -> None:
    task = study.TASKS['drone']
    made = {}
    for method in ('tensorfact', 'dense', 'dense_lr1e-4'):
        cfg = study.method_config(method, task.ir)
        made[method] = study.prepare(cfg, task, 36, 25, seed=1)
    ours, dense, slow = made.values()
    for key in ('train_cfg', 'param_scheduler', 'custom_hooks', 'train_dataloader'):
        assert ours[key] == dense[key] == slow[key]
    assert ours.optim_wrapper == dense.optim_wrapper
    assert dense.optim_wrapper.optimizer.lr == 1e-3
    assert slow.optim_wrapper.optimizer.lr == 1e-4
    assert dense.model.factorize is None
    assert ours.model.factorize.delta.rank == 1
