"""Benchmark of the re-identification metrics: sizes of SYSU-MM01, a small run."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mmir.utils.errors import UserError

FOLDER = Path(__file__).resolve().parents[2] / 'tools/benchmark'
sys.path.insert(0, str(FOLDER))

import reid_eval  # noqa: E402


def test_sizes_are_those_of_sysu():
    ids, cams = reid_eval.labels(96, (1, 2, 4, 5), 6775)
    assert len(ids) == len(cams) == 6775
    folders = set(zip(ids, cams, strict=True))
    counts = [sum(cam == c for _, cam in folders) for c in (1, 2, 4, 5)]
    assert counts == [56, 56, 96, 96]  # of SYSU-MM01: 56, 56, 94, 95


def test_a_small_run(tmp_path, capsys):
    out = tmp_path / 'found.json'
    options = ['--identities', '6', '--dims', '8', '--rounds', '1', '--out', str(out)]
    threads = torch.get_num_threads()
    try:
        result = reid_eval.main(options)
    finally:
        torch.set_num_threads(threads)
    assert result['difference'] < 1e-12
    assert result['evaluations'] == 20
    stored = json.loads(out.read_text())
    assert stored['seconds'].keys() == {'mmir', 'sums', 'lists', 'distances'}
    assert result['memory'] > 2**20
    assert '| all evaluations, loop, Python lists |' in capsys.readouterr().out


def test_other_results_are_refused():
    case = reid_eval.Case(6, 8)
    distances = case.distances()
    ranked = case.ranked(distances)
    looped = case.looped(np.ascontiguousarray(distances), reid_eval.by_sums)
    looped['sysu_all_agw'][4] += 1e-6
    with pytest.raises(UserError, match='differ by 1e-06'):
        reid_eval.check(ranked, looped)
