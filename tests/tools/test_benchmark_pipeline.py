"""Benchmark of the paired pipeline: equal work on both sides, a toy run."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / 'tools/benchmark'
sys.path.insert(0, str(FOLDER))

import pipeline  # noqa: E402


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp('pairs')
    return pipeline.infos(pipeline.write_pairs(folder, 3), boxes=4)


def test_pairs_of_folders_are_matched_by_order(tmp_path: Path) -> None:
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        for k in range(3):
            (tmp_path / folder / f'{folder}{k}.png').touch()
    found = pipeline.find_pairs(tmp_path, ('a', 'b'), 2)
    assert [Path(p['ir']).name for p in found] == ['b0.png', 'b1.png']
    assert [Path(p['rgb']).name for p in found] == ['a0.png', 'a1.png']
    (tmp_path / 'b/b3.png').touch()
    with pytest.raises(FileNotFoundError, match=r'a: 3 files, .*b: 4 files'):
        pipeline.find_pairs(tmp_path, ('a', 'b'), 2)
    with pytest.raises(FileNotFoundError, match='none: 0 files'):
        pipeline.find_pairs(tmp_path, ('none', 'none'), 2)


def test_boxes_lie_inside(data: list[dict]) -> None:
    for info in data:
        boxes = np.array([i['bbox'] for i in info['instances']])
        assert boxes.shape == (4, 4)
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes <= [640, 512, 640, 512]).all()


@pytest.mark.parametrize('name', pipeline.steps_of(64))
def test_both_pipelines_do_the_same(name: str, data: list[dict]) -> None:
    recipe = pipeline.steps_of(64)[name]
    outs = {}
    for kind in (pipeline.STOCK, pipeline.PAIRED):
        pipe = pipeline.Pipeline(kind, recipe)
        sample = pipe.load(data[0])
        for step_name, step in pipe.steps.items():
            parts = pipe.parts(step_name, data, 0)
            sample = step(pipeline.with_parts(sample, parts), 1)
        outs[kind] = sample
    paired = outs[pipeline.PAIRED]
    for k, alone in enumerate(outs[pipeline.STOCK]):
        img = paired['inputs'][3 * k : 3 * k + 3].numpy()
        np.testing.assert_array_equal(img, alone['inputs'].numpy())
        boxes = [s['data_samples'].gt_instances.bboxes.tensor for s in (alone, paired)]
        np.testing.assert_array_equal(*boxes)


def test_rows_are_ratios_of_speed(
    data: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {pipeline.STOCK: 2.0, pipeline.PAIRED: 1.6}

    class Fake:
        def __init__(self, kind: str, recipe: dict) -> None:
            self.kind = kind

        def time(self, data: list, clock: object) -> dict[str, float]:
            return dict(load=seconds[self.kind], whole=2 * seconds[self.kind])

    monkeypatch.setattr(pipeline, 'Pipeline', Fake)
    rows = pipeline.measure({}, data, rounds=3, threads=1)
    assert [r['step'] for r in rows] == ['load', 'whole']
    assert rows[0]['ratio'] == rows[1]['best_ratio'] == pytest.approx(1.25)
    assert rows[0][pipeline.STOCK] == pytest.approx(3)  # six images in two seconds
    assert rows[1][pipeline.PAIRED] == pytest.approx(6 / 3.2)
    lines = pipeline.table(rows).splitlines()
    assert lines[2] == '| load | 3 | 4 | 1.25 | 1.25 |'


def test_toy_run_writes_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'pipeline.json'
    small = ['--size', '64', '--pairs', '2', '--rounds', '1', '--pipelines', 'simple']
    pipeline.main([*small, '--out', str(out)])
    result = json.loads(out.read_text())
    steps = [row['step'] for row in result['pipelines']['simple']]
    assert steps == ['load', 'Resize, RandomFlip', 'pack', 'whole']
    assert all(row['ratio'] > 0 for row in result['pipelines']['simple'])
    assert result['environment']['pairs'] == 2
    assert '| whole |' in capsys.readouterr().out
