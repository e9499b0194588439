"""Mean of the test runs of several models."""

import json
import sys
from pathlib import Path

import pytest

from mmir.utils.errors import UserError

FOLDER = Path(__file__).resolve().parents[2] / 'tools/analysis_tools'
sys.path.insert(0, str(FOLDER))

import reid_trials  # noqa: E402


@pytest.fixture
def runs(tmp_path):
    """Two test runs; the first folder holds an older one as well."""
    found = []
    for run, stamp, value in (
        (1, '20260101_1', 1),
        (1, '20260102_1', 60),
        (2, 'x', 70),
    ):
        folder = tmp_path / f'run_{run}' / stamp
        (folder / 'vis_data').mkdir(parents=True)
        values = {f'regdb_rgb2ir/{m}': value for m in reid_trials.MEASURES}
        values |= {'data_time': 0.1, 'regdb_rgb2ir/R1_std': 3.0}
        (folder / f'{stamp}.json').write_text(json.dumps(values))
        (folder / 'vis_data/scalars.json').write_text('not JSON')
        found.append(folder.parent)
    return found[1:]


def test_the_newest_results_are_averaged(runs, tmp_path, capsys):
    out = tmp_path / 'out.json'
    found = reid_trials.main([*map(str, runs), '--out', str(out)])
    assert found['regdb_rgb2ir']['mean']['mAP'] == 65
    assert found['regdb_rgb2ir']['std']['R1'] == 5
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith('| regdb_rgb2ir | mean of 2 | 65.00 |')
    assert json.loads(out.read_text())['regdb_rgb2ir'] == found['regdb_rgb2ir']


def test_what_cannot_be_averaged_is_refused(runs, tmp_path):
    with pytest.raises(UserError, match='holds no result of a test run'):
        reid_trials.main([str(tmp_path / 'none')])
    path = tmp_path / 'other.json'
    path.write_text(json.dumps({'bbox_mAP': 0.1}))
    with pytest.raises(UserError, match=r'no results of mmir.VIReIDMetric'):
        reid_trials.main([str(path)])
    values = {f'regdb_ir2rgb/{m}': 1.0 for m in reid_trials.MEASURES}
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match='regdb_ir2rgb; regdb_rgb2ir'):
        reid_trials.main([str(path), str(runs[0])])
