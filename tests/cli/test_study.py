"""Resumable runs and tables of a study."""

import json
import statistics
from pathlib import Path

import pytest
from mmengine.config import Config

from mmir.cli import study


def row(value: float, **settings: object) -> dict:
    return dict(
        settings=settings, seconds=90.0, trainable=1234567, final={'mAP': value}
    )


def test_lines_are_means_over_the_runs_with_the_same_settings() -> None:
    values = [0.1, 0.2, 0.4]
    rows = [row(v, images=18, method='dense', seed=i) for i, v in enumerate(values)]
    rows += [row(0.3, images=9, method='dense', seed=0)]
    rows += [row(0.5, images=100, method='dense', seed=0)]
    text = study.table(rows, ['images', 'method'], {'mAP': lambda r: r['final']['mAP']})
    head, _, *lines = [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in text.splitlines()
    ]
    assert head == ['images', 'method', 'runs', 'mAP', 'trainable', 'minutes per run']
    # numbers are sorted as numbers
    assert [line[:3] for line in lines] == [
        ['9', 'dense', '1'],
        ['18', 'dense', '3'],
        ['100', 'dense', '1'],
    ]
    mean, spread = statistics.mean(values), statistics.stdev(values)
    assert lines[1][3:] == [f'{mean:.3f} ± {spread:.3f}', '1,234,567', '1.5']
    assert lines[0][3] == '0.300'


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Stand-in for training: logs one evaluation and counts the calls."""
    calls: list[Path] = []

    def train_stage(arguments: list[str], work_dir: Path, title: str) -> float:
        calls.append(work_dir)
        assert Path(arguments[0]).is_file()
        assert '--resume' in arguments
        logs = work_dir / '20260101_000000/vis_data'
        logs.mkdir(parents=True)
        rows = [dict(step=1, loss=2.0), {'step': 3, 'coco/mAP': 0.25, 'time': 1.0}]
        (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, rows)))
        (work_dir / 'last_checkpoint').write_text(f'{work_dir}/epoch_3.pth')
        return 6.0

    monkeypatch.setattr(study, 'train_stage', train_stage)
    monkeypatch.setattr(study, 'count_parameters', lambda cfg: (3, 7))
    return calls


def test_a_run_is_done_once(tmp_path: Path, trained: list[Path]) -> None:
    cfg, folder = Config(dict(a=1)), tmp_path / 'one'
    first = study.run_once(cfg, folder, dict(rank=2), 'coco/mAP')
    assert first['final'] == {'coco/mAP': 0.25}
    assert first['settings'] == dict(rank=2)
    assert first['metric'] == ([3], [0.25])
    assert first['loss'] == ([1], [2.0])
    assert (first['trainable'], first['parameters']) == (3, 7)
    again = study.run_once(cfg, folder, dict(rank=2), 'coco/mAP')
    assert len(trained) == 1
    assert again['final'] == first['final']
    assert study.collect(tmp_path) == [again]


def test_a_metric_nobody_logs_is_named(tmp_path: Path, trained: list[Path]) -> None:
    with pytest.raises(ValueError, match='no coco/AP was logged'):
        study.run_once(Config(dict(a=1)), tmp_path / 'one', {}, 'coco/AP')
    assert not (tmp_path / 'one/result.json').exists()


def test_a_detector_without_boxes_has_zero(
    tmp_path: Path, trained: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [dict(step=1, loss=2.0), dict(step=3, time=1.0, data_time=0.1)]
    monkeypatch.setattr(study, 'read_scalars', lambda work_dir: rows)
    result = study.run_once(Config(dict(a=1)), tmp_path / 'one', {}, 'coco/mAP')
    assert result['final'] == {'coco/mAP': 0.0}

    monkeypatch.setattr(study, 'read_scalars', lambda work_dir: rows[:1])
    with pytest.raises(ValueError, match='is there an evaluation'):
        study.run_once(Config(dict(a=1)), tmp_path / 'two', {}, 'coco/mAP')


def test_pivot_has_a_line_a_method_and_a_column_a_size() -> None:
    rows = [row(v, images=9, method='bn') for v in (0.1, 0.3)]
    rows += [row(v, images=18, method='bn') for v in (0.2, 0.4)]
    rows += [row(0.5, images=9, method='full')]
    text = study.pivot(rows, 'method', 'images', lambda r: r['final']['mAP'])
    lines = [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in text.splitlines()
    ]
    assert lines[0] == ['method', '9 images', '18 images']
    assert lines[2] == ['bn', '0.200 ± 0.141', '0.300 ± 0.141']
    assert lines[3] == ['full', '0.500 (1 run)', '']
