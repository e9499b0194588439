"""A training continues from the newest checkpoint that loads."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmir.cli import cli
from mmir.cli.resume import candidates, last_checkpoint, resume_from, resume_latest
from mmir.utils.checkpoint import CheckpointError


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(cli, 'log', lambda message, level=0: lines.append(message))
    return lines


def save(path: Path, age: float, seed: int = 3) -> Path:
    """Write a checkpoint of some seconds ago."""
    path.parent.mkdir(exist_ok=True)
    torch.save({'state_dict': {}, 'meta': dict(epoch=1, iter=9, seed=seed)}, path)
    when = 1e9 - age
    os.utime(path, (when, when))
    return path


def test_the_newest_is_taken_even_if_it_is_not_yet_recorded(tmp_path, said) -> None:
    first, second = save(tmp_path / 'epoch_1.pth', 9), save(tmp_path / 'epoch_2.pth', 1)
    (tmp_path / 'last_checkpoint').write_text(str(first))
    cfg = Config(dict(work_dir=str(tmp_path)))
    resume_latest(cfg, trusted=False)
    assert (cfg.resume, cfg.load_from) == (True, str(second))
    assert cfg.randomness == {'seed': 3}
    assert said == [f'--resume: continuing from {second}']


def test_a_broken_file_is_named_and_the_one_before_is_taken(tmp_path, said) -> None:
    first, second = save(tmp_path / 'iter_10.pth', 9), save(tmp_path / 'iter_20.pth', 1)
    second.write_bytes(second.read_bytes()[:300])
    (tmp_path / 'last_checkpoint').write_text(str(second))
    cfg = Config(dict(work_dir=str(tmp_path), randomness=dict(seed=8)))
    resume_latest(cfg, trusted=False)
    assert cfg.load_from == str(first)
    assert cfg.randomness == {'seed': 8}
    assert f'{second} (300 bytes) cannot be read' in said[0]
    assert said[0].endswith('; trying the one before')
    assert said[1] == f'--resume: continuing from {first}'


@pytest.mark.parametrize('record', ['', 'gone/epoch_7.pth', None])
def test_an_empty_or_missing_record_does_not_matter(tmp_path, said, record) -> None:
    only = save(tmp_path / 'epoch_7.pth', 1)
    if record is not None:
        (tmp_path / 'last_checkpoint').write_text(record)
    assert last_checkpoint(tmp_path) == (only if record else None)
    cfg = Config(dict(work_dir=str(tmp_path)))
    resume_latest(cfg, trusted=False)
    assert cfg.load_from == str(only)


def test_other_files_are_no_candidates(tmp_path, said) -> None:
    """Start weights, adapters, the best model: newer, but not where the run was."""
    for name in ('best_mAP_epoch_3.pth', 'adapter.pth', 'start.pth', 'epoch_x.pth'):
        save(tmp_path / name, 0)
    save(tmp_path / '.epoch_3.0123abcd.partial.pth', 0)
    assert candidates(tmp_path) == []
    mine = save(tmp_path / 'step-3-of-9.pth', 5)
    other = save(tmp_path / 'step-6-of-9.pth', 4)
    (tmp_path / 'last_checkpoint').write_text(str(mine))
    assert candidates(tmp_path) == [other, mine]
    cfg = Config(dict(work_dir=str(tmp_path / 'none'), load_from='start.pth'))
    resume_latest(cfg, trusted=False)
    assert (cfg.resume, cfg.load_from) == (False, 'start.pth')
    assert said == [
        f'--resume: no checkpoint to load in {tmp_path}/none, starting over'
    ]


def test_checkpoints_of_another_folder_are_found_by_the_record(tmp_path) -> None:
    there = [save(tmp_path / 'out' / f'epoch_{k}.pth', 9 - k) for k in (1, 2)]
    work = tmp_path / 'work'
    work.mkdir()
    (work / 'last_checkpoint').write_text(str(there[0]))
    assert candidates(work) == there[::-1]


def test_weights_alone_are_none_to_resume_from(tmp_path) -> None:
    torch.save({'state_dict': {}}, tmp_path / 'w.pth')
    with pytest.raises(
        CheckpointError, match=r'w.pth holds weights only, .*load_from='
    ):
        resume_from(Config({}), tmp_path / 'w.pth', trusted=False)


def test_a_file_address_is_read_like_a_path(tmp_path) -> None:
    path = save(tmp_path / 'epoch_2.pth', 1)
    cfg = Config({})
    resume_from(cfg, f'file://{path}', trusted=False)
    assert (cfg.resume, cfg.load_from) == (True, f'file://{path}')
    torch.save({'state_dict': {}}, path)
    with pytest.raises(CheckpointError, match='holds weights only'):
        resume_from(Config({}), f'file://{path}', trusted=False)
