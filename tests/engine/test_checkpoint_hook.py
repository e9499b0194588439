"""Checkpoints survive a crash at any moment, and the run goes on as without one."""

import errno
import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import crash_toy
import pytest
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.hooks import CheckpointHook
from mmengine.logging import MessageHub
from mmengine.runner import Runner

from mmir.cli import cli
from mmir.engine import AtomicCheckpointHook
from mmir.engine.checkpoint import AtomicLocalBackend

ROOT = Path(__file__).parents[2]
TRAIN = ROOT / 'tools/train.py'
HALF = -4  # killed when the second checkpoint is half written
ENVIRONMENT = {
    **os.environ,
    'PYTHONPATH': os.pathsep.join([str(ROOT), str(ROOT / 'tests')]),
    'CUDA_VISIBLE_DEVICES': '',  # the child forks
    'OMP_NUM_THREADS': '1',
}


def files(folder: Path) -> list[str]:
    names = (path.name for path in folder.glob('*.pth'))
    return sorted(name for name in names if not name.startswith('.'))


def iteration(path: Path) -> int:
    return torch.load(path, weights_only=False)['meta']['iter']


class FakeRunner:
    """What the hook asks of a runner; checkpoints are small."""

    def __init__(self, folder: Path) -> None:
        self.work_dir, self.epoch, self.iter = str(folder), 0, 0
        self.message_hub = MessageHub.get_instance(f'{folder}')
        self.logger = cli.logging.getLogger('fake')
        self.seen: list[list[str]] = []
        self.save_checkpoint = self._save

    def _save(self, out_dir, filename, *args, backend_args=None, **kwargs):
        self.seen.append(files(Path(out_dir)))  # what a crash now would leave
        content = str(self.message_hub.runtime_info).encode()
        path = os.path.join(out_dir, filename)
        backend = AtomicLocalBackend() if backend_args else None
        assert backend is not None
        backend.put(content, path)


def test_old_checkpoints_go_after_the_new_one_is_there(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path)
    hook = AtomicCheckpointHook(interval=1, max_keep_ckpts=2, save_best='mAP')
    hook.before_train(runner)
    found = []
    for epoch, value in enumerate((0.1, 0.3, 0.2, 0.5)):
        runner.epoch = epoch
        hook.after_train_epoch(runner)
        runner.epoch += 1
        hook.after_val_epoch(runner, {'mAP': value})
        found.append(files(tmp_path))
    assert found == [
        ['best_mAP_epoch_1.pth', 'epoch_1.pth'],
        ['best_mAP_epoch_2.pth', 'epoch_1.pth', 'epoch_2.pth'],
        ['best_mAP_epoch_2.pth', 'epoch_2.pth', 'epoch_3.pth'],
        ['best_mAP_epoch_4.pth', 'epoch_3.pth', 'epoch_4.pth'],
    ]
    # while a file was written, both that it replaces and the best were still there
    assert runner.seen[-3:] == [
        ['best_mAP_epoch_2.pth', 'epoch_2.pth', 'epoch_3.pth'],
        ['best_mAP_epoch_2.pth', 'epoch_3.pth', 'epoch_4.pth'],
        ['best_mAP_epoch_2.pth', 'best_mAP_epoch_4.pth', 'epoch_3.pth', 'epoch_4.pth'],
    ]
    assert (tmp_path / 'last_checkpoint').read_text() == f'{tmp_path}/epoch_4.pth'
    assert runner.message_hub.get_info('keep_ckpt_ids') == [3, 4]


def test_two_metrics_keep_a_best_each(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path)
    hook = AtomicCheckpointHook(
        interval=1, max_keep_ckpts=1, save_best=['mAP', 'mIoU'], rule='greater'
    )
    hook.before_train(runner)
    for epoch, (first, second) in enumerate(((1, 9), (2, 8), (1, 7))):
        runner.epoch = epoch
        hook.after_train_epoch(runner)
        runner.epoch += 1
        hook.after_val_epoch(runner, {'mAP': first, 'mIoU': second})
    assert files(tmp_path) == [
        'best_mAP_epoch_2.pth',
        'best_mIoU_epoch_1.pth',
        'epoch_3.pth',
    ]


def test_a_full_disk_leaves_the_former_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = FakeRunner(tmp_path)
    hook = AtomicCheckpointHook(interval=1, max_keep_ckpts=1)
    hook.before_train(runner)
    hook.after_train_epoch(runner)
    before = (tmp_path / 'epoch_1.pth').read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    runner.epoch = 1
    with pytest.raises(OSError, match=r"No space left on device: '.*/epoch_2\.pth'"):
        hook.after_train_epoch(runner)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        'epoch_1.pth',
        'last_checkpoint',
    ]
    assert (tmp_path / 'epoch_1.pth').read_bytes() == before
    assert (tmp_path / 'last_checkpoint').read_text() == f'{tmp_path}/epoch_1.pth'


def test_half_written_files_go_at_the_next_start(tmp_path: Path) -> None:
    left = tmp_path / '.epoch_3.0a1b2c3d.partial.pth'
    left.write_bytes(b'half')
    mine = tmp_path / 'epoch_2.pth'
    mine.write_bytes(b'whole')
    AtomicCheckpointHook().before_train(FakeRunner(tmp_path))
    assert list(tmp_path.iterdir()) == [mine]


def test_nothing_outside_of_the_run_is_deleted(tmp_path: Path) -> None:
    """A resumed file names former checkpoints; it may come from anywhere."""
    run, other = tmp_path / 'run', tmp_path / 'other.pth'
    run.mkdir()
    hook = AtomicCheckpointHook()
    hook.before_train(FakeRunner(run))
    for path in (other, run / 'a.pth'):
        path.write_bytes(b'weights')
    hook._remove(str(other))
    hook._remove(str(run / '..' / other.name))
    assert other.is_file()
    hook._remove(str(run / 'a.pth'))
    assert not (run / 'a.pth').exists()


def test_remote_folders_keep_their_backend(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(CheckpointHook, 'before_train', lambda self, runner: None)
    hook = AtomicCheckpointHook(out_dir='s3://bucket/runs')
    hook.before_train(FakeRunner(tmp_path))
    assert hook.backend_args is None
    hook = AtomicCheckpointHook(out_dir=str(tmp_path))
    hook.before_train(FakeRunner(tmp_path))
    assert hook.backend_args == {'backend': 'mmir.atomic'}


@pytest.fixture(scope='module')
def child() -> Iterator[Callable]:
    """Train in a fork of a child that has paid the imports; returns its status."""
    with subprocess.Popen(
        [sys.executable, crash_toy.__file__, str(TRAIN)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:

        def train(arguments: list[str], crash: int | None = None) -> int:
            process.stdin.write(json.dumps([arguments, crash]) + '\n')
            process.stdin.flush()
            for line in process.stdout:
                if line.startswith('status'):
                    return os.waitstatus_to_exitcode(int(line.split()[1]))
            raise AssertionError('the child has ended')

        yield train
        process.stdin.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ('loop', 'workers', 'seed'),
    [('epoch', 2, 1), ('epoch', 0, None), ('iter', 0, 1)],
)
def test_killed_at_every_step_of_saving(
    child: Callable, tmp_path: Path, loop: str, workers: int, seed: int | None
) -> None:
    """Killed before each opening, renaming and deletion, and within a file."""
    if loop == 'iter' and not hasattr(InfiniteSampler, 'skip'):
        pytest.skip('mmengine 0.10 resumes by loading the data again')
    path = crash_toy.config(tmp_path, loop, workers, seed)
    seeds = ['--seed', '5'] if seed is None else []
    whole = tmp_path / 'whole'
    assert child([path, '--work-dir', str(whole), *seeds]) == 0
    expected = crash_toy.losses(whole)
    assert len(set(expected.values())) == len(expected) > 2
    per_save = crash_toy.LENGTH // crash_toy.BATCH if loop == 'epoch' else 1
    # of each checkpoint: open, rename, clean up, record; then the first one goes
    for crash in (*range(9), HALF):
        run = tmp_path / f'killed_{crash}'
        status = child([path, '--work-dir', str(run), *seeds], crash)
        assert status == -(signal.SIGXFSZ if crash == HALF else signal.SIGKILL)
        done = len(crash_toy.losses(run))
        assert done == per_save * (1 if 0 <= crash < 4 else 2)
        assert len(files(run)) == (0 if crash in (0, 1) else 2 if crash > 5 else 1)
        assert child([path, '--work-dir', str(run), '--resume']) == 0
        rows = (run / 'losses.jsonl').read_text().splitlines()
        start = json.loads(rows[done])[0] if len(rows) > done else done
        assert done - per_save <= start <= done
        if seed is None and start == 0:
            continue  # nothing was saved that could name the seed
        assert crash_toy.losses(run) == expected
        assert not [p for p in run.iterdir() if 'partial' in p.name]
        assert len(files(run)) == 1


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    path = crash_toy.config(tmp_path, 'epoch', 2)
    command = [sys.executable, str(TRAIN), path, '--cfg-options']
    command += ['train_cfg.max_epochs=60', '--resume', '--work-dir']

    def start(run: Path) -> subprocess.Popen:
        return subprocess.Popen(
            [*command, str(run)],
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    assert start(tmp_path / 'whole').wait() == 0
    run, clock, reached = tmp_path / 'run', random.Random(0), 0
    for _ in range(4):
        process = start(run)
        while process.poll() is None and not (
            (run / 'last_checkpoint').is_file()
            and len((run / 'losses.jsonl').read_text().splitlines()) > reached
        ):
            time.sleep(0.02)
        time.sleep(clock.uniform(0, 0.3))
        assert process.poll() is None, 'it was done before it was killed'
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reached = len((run / 'losses.jsonl').read_text().splitlines())
    assert start(run).wait() == 0
    assert crash_toy.losses(run) == crash_toy.losses(tmp_path / 'whole')


@pytest.mark.slow
def test_a_file_system_that_fills_up(child: Callable, tmp_path: Path) -> None:
    """A real one where this may be mounted."""
    disk, run = tmp_path / 'disk', tmp_path / 'disk/run'
    disk.mkdir()
    path = crash_toy.config(tmp_path, 'epoch', 0)
    whole = tmp_path / 'whole'
    assert child([path, '--work-dir', str(whole)]) == 0
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('may not mount a file system here')
    try:
        assert child([path, '--work-dir', str(run)], crash=4) == -signal.SIGKILL
        assert files(run) == ['epoch_1.pth']
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        size = (run / 'epoch_1.pth').stat().st_size
        filler = disk / 'filler'
        filler.write_bytes(b'0' * (free - size // 2))
        result = subprocess.run(
            [sys.executable, str(TRAIN), path, '--work-dir', str(run), '--resume'],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 2
        assert 'Traceback' not in result.stderr
        last = result.stderr.strip().splitlines()[-1]
        assert re.fullmatch(
            rf'error: {run}/epoch_2.pth: No space left on device; free some space or '
            'write to another folder',
            last,
        )
        assert files(run) == ['epoch_1.pth']
        assert iteration(run / 'epoch_1.pth') == 3
        filler.unlink()
        assert child([path, '--work-dir', str(run), '--resume']) == 0
        assert crash_toy.losses(run) == crash_toy.losses(whole)
    finally:
        subprocess.run(['umount', str(disk)], check=True)


def test_a_runner_with_the_hook_resumes_exactly(tmp_path, monkeypatch) -> None:
    """In this process: the write of the third checkpoint fails."""
    spec = importlib.util.spec_from_file_location('tool_train', TRAIN)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    build, number = cli.build_runner, iter(range(99))

    def named(cfg) -> Runner:
        cfg.experiment_name = f'{tmp_path}{next(number)}'
        return build(cfg)

    monkeypatch.setattr(cli, 'build_runner', named)
    monkeypatch.setenv('LOCAL_RANK', '0')
    for name in ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'):
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)
    path = crash_toy.config(tmp_path)
    tool.main([path, '--work-dir', str(tmp_path / 'whole')])
    put, left = AtomicLocalBackend.put, iter((True, True, False))

    def fails(self, obj, filepath):
        if not next(left, True):
            raise OSError(errno.ENOSPC, 'No space left on device', str(filepath))
        put(self, obj, filepath)

    monkeypatch.setattr(AtomicLocalBackend, 'put', fails)
    run = tmp_path / 'run'
    with pytest.raises(OSError, match='No space left'):
        tool.main([path, '--work-dir', str(run)])
    assert files(run) == ['epoch_2.pth']
    tool.main([path, '--work-dir', str(run), '--resume'])
    expected = crash_toy.losses(tmp_path / 'whole')
    assert crash_toy.losses(run) == expected
    assert len(set(expected.values())) == len(expected) == 9
