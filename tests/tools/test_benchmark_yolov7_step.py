"""The profile of a YOLOv7 training step: its arithmetic and a toy run."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

FOLDER = Path(__file__).resolve().parents[2] / 'tools/benchmark'
sys.path.insert(0, str(FOLDER))

import _parts  # noqa: E402
import yolov7_step  # noqa: E402

from mmir.det.yolo.assigner import _dynamic_k  # noqa: E402


class Work:
    """Steps of known length on a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.watch = _parts.Stopwatch(lambda: self.now)

    def inner(self, seconds: float) -> float:
        self.now += seconds
        return seconds

    def outer(self) -> float:
        self.now += 1
        return self.inner(2) + self.inner(4)


def test_time_of_nested_parts_is_counted_once() -> None:
    work = Work()
    work.watch.watch(work, 'inner', 'inner')
    work.watch.watch(work, 'outer', 'outer')
    with work.watch.part('all'):
        work.now += 8
        assert work.outer() == 6
    assert work.watch.seconds == dict(inner=6, outer=1, all=8)
    assert work.watch.calls == dict(inner=2, outer=1, all=1)
    work.watch.reset()
    assert not work.watch.seconds


def test_a_part_that_fails_still_ends() -> None:
    work = Work()

    def fail() -> None:
        with work.watch.part('inner'):
            work.now += 3
            raise KeyError

    with work.watch.part('outer'):
        with pytest.raises(KeyError):
            fail()
        work.now += 1
    assert work.watch.seconds == dict(inner=3, outer=1)


def test_shares_are_of_the_step_without_data() -> None:
    work = Work()
    for part, seconds in (('backward', 6), ('rest', 2), ('data: Mosaic', 4)):
        for _ in range(2):
            with work.watch.part(part):
                work.now += seconds
    rows = yolov7_step.shares(work.watch, steps=2)
    assert rows == [
        dict(part='backward', ms=6000, share=0.75, calls=1),
        dict(part='rest', ms=2000, share=0.25, calls=1),
        dict(part='data: Mosaic', ms=4000, share=0.5, calls=1),
    ]
    lines = yolov7_step.table(rows, []).splitlines()
    assert lines[5:7] == [
        '| **step** | 8000.0 | 100.0% | |',
        '| **data** | 4000.0 | 50.0% | |',
    ]


def reasons(step: object) -> list[tuple[str, int]]:
    return [(w['reason'], w['times']) for w in yolov7_step.count_waits(step)]


def test_waits_are_found_by_their_kind() -> None:
    x = torch.arange(6.0)
    rows = torch.tensor([1, 2])
    found = reasons(lambda: (x[x > 2], x[rows], x.sum() * 2))
    assert found == [('boolean mask', 1)]
    assert reasons(lambda: [x.sum().item() for _ in range(3)]) == [
        ('value read (item, int, bool)', 3)
    ]
    assert reasons(lambda: x.nonzero()) == [('nonzero', 1)]
    assert reasons(lambda: torch.tensor([1.0, 2.0])) == [
        ('tensor made of host values', 1)
    ]
    assert reasons(lambda: rows.repeat_interleave(rows)) == [
        ('repeat_interleave by a tensor', 1)
    ]


def test_waits_are_found_by_their_line() -> None:
    cost = torch.rand(5, 2)
    waits = yolov7_step.count_waits(lambda: _dynamic_k(cost, cost, 3))
    assert {w['reason'] for w in waits} == {'value read (item, int, bool)', 'nonzero'}
    for wait in waits:
        assert wait['where'].startswith('mmir/det/yolo/assigner.py:')
        assert wait['where'].endswith(' (_dynamic_k)')


def test_what_an_optimizer_keeps_on_the_host_does_not_count() -> None:
    layer = nn.Linear(2, 1)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer = torch.optim.Adam(layer.parameters())
    assert reasons(optimizer.step) == []


@pytest.fixture(scope='module')
def result(tmp_path_factory: pytest.TempPathFactory) -> dict:
    path = tmp_path_factory.mktemp('step') / 'step.json'
    sizes = ['--size', '64', '--batch', '2', '--steps', '1', '--images', '3']
    threads = ['--threads', str(torch.get_num_threads())]
    yolov7_step.main([*sizes, *threads, '--out', str(path)])
    return json.loads(path.read_text())


def test_toy_run_splits_the_step(result: dict) -> None:
    parts = {row['part']: row for row in result['parts']}
    assert parts.keys() >= {
        'preprocess', 'backbone', 'neck', 'head layers', 'losses', 'backward',
        'assign: candidates', 'optimizer', 'rest', 'data: Mosaic',
        'data: LoadThermalImage', 'data: copies, collation',
    }  # fmt: skip
    step = [r for name, r in parts.items() if not name.startswith('data: ')]
    assert sum(r['share'] for r in step) == pytest.approx(1)
    assert all(r['ms'] >= 0 for r in parts.values())
    assert parts['backbone']['calls'] == parts['backward']['calls'] == 1
    assert parts['assign: candidates']['calls'] == 3
    # a mosaic takes four images
    assert parts['data: LoadThermalImage']['calls'] >= 8


def test_toy_run_names_lines_of_the_assigner(result: dict) -> None:
    lines = [w['where'] for w in result['waits']]
    assert any(line.startswith('mmir/det/yolo/assigner.py:') for line in lines)
    assert result['environment']['batch'] == 2
