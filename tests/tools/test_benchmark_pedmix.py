"""Cost of PedMix: a small run, and the share it prints."""

import json
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope

from mmir.utils.errors import UserError

pytest.importorskip('mmpretrain')

FOLDER = Path(__file__).resolve().parents[2] / 'tools/benchmark'
sys.path.insert(0, str(FOLDER))

import pedmix_cost  # noqa: E402

CONFIG = """
_base_ = ['{root}/configs/agw/agw_r50_sysu.py']
model = dict(
    backbone=dict(backbone=dict(
        _delete_=True, type='mmpretrain.ResNet', depth=18, stem_channels=8,
        base_channels=8)),
    head=dict(in_channels=64))
"""


def test_a_small_run(tmp_path, capsys, monkeypatch):
    known = DefaultScope._instance_dict
    monkeypatch.setattr(DefaultScope, '_instance_dict', known.copy())
    config, out = tmp_path / 'config.py', tmp_path / 'found.json'
    config.write_text(CONFIG.format(root=FOLDER.parents[1].as_posix()))
    size = ['--batch', '8', '--height', '36', '--width', '18', '--rounds', '1']
    threads = torch.get_num_threads()
    try:
        command = ['--config', str(config), *size, '--out', str(out)]
        result = pedmix_cost.main(command)
    finally:
        torch.set_num_threads(threads)
    seconds = result['seconds']
    share = seconds['PedMix'] / seconds['training step']
    assert result['share'] == pytest.approx(share)
    assert 0 < share < 1
    assert json.loads(out.read_text())['environment']['batch'] == 8
    assert '% of a training step' in capsys.readouterr().out


def test_the_verdict_and_bad_batches():
    seconds = {'training step': 1.0}
    for share, word in ((0.0299, 'below'), (0.031, 'above')):
        text = pedmix_cost.table(dict(seconds=seconds, share=share))
        assert f'{word} the target of 3 %' in text
    args = pedmix_cost.parse(['--batch', '12'])
    with pytest.raises(UserError, match='multiple of 8'):
        pedmix_cost.batch_of(args)
