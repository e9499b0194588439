"""A small training with random augmentation, that can be made to crash anywhere.

`python crash_toy.py FOLDER COMMANDS` reads one JSON list of arguments of `train` a line
and runs each in a fork of itself, so that the imports are paid once.
"""

import json
import math
import os
import random
import resource
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS
from torch import nn
from torch.utils.data import Dataset

from mmir.data.images import read_image

LENGTH, BATCH, WIDTH = 12, 4, 2048
HALF = 100_000  # bytes of a checkpoint

CONFIG = """
default_scope = 'mmengine'
custom_imports = dict(imports=['crash_toy'], allow_failed_imports=False)
model = dict(type='CrashModel')
train_dataloader = dict(
    batch_size={batch},
    num_workers={workers},
    persistent_workers={workers} > 0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='{sampler}', shuffle=True),
    dataset=dict(type='CrashPoints'),
)
train_cfg = {train_cfg}
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=0.01))
param_scheduler = dict(type='LinearLR', start_factor=0.1, end=9, by_epoch=False)
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1, {by_epoch}),
)
custom_hooks = [
    dict(type='EMAHook', update_buffers=True),
    dict(type='CrashRecord'),
]
log_level = 'ERROR'
randomness = dict(seed={seed})
"""
LOOPS = {
    'epoch': dict(
        sampler='DefaultSampler',
        train_cfg=dict(by_epoch=True, max_epochs=3),
        by_epoch='by_epoch=True',
    ),
    'iter': dict(
        sampler='InfiniteSampler',
        train_cfg=dict(by_epoch=False, max_iters=4),
        by_epoch='by_epoch=False',
    ),
}


@MODELS.register_module()
class CrashModel(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(6, WIDTH),
            nn.BatchNorm1d(WIDTH),
            nn.Dropout(0.3),
            nn.Linear(WIDTH, 1),
        )

    def forward(self, x, mode='tensor'):
        return {'loss': self.net(x).square().mean()}


@DATASETS.register_module()
class CrashPoints(Dataset):
    """Points with noise of every generator that transforms use."""

    def __len__(self):
        return LENGTH

    def __getitem__(self, i):
        if str(i) == os.environ.get('CRASH_NAN'):
            i = math.nan
        if str(i) == os.environ.get('CRASH_WORKER'):
            os.kill(os.getpid(), signal.SIGKILL)
        if str(i) == os.environ.get('CRASH_IMAGE'):
            read_image(os.environ['CRASH_FILE'])
        noise = [random.random(), np.random.rand(), torch.rand(()).item()]  # noqa: NPY002
        return {'x': torch.tensor([i, 1, -i, *noise])}


@HOOKS.register_module()
class CrashRecord(Hook):
    """Write the loss of every iteration where a crash leaves it."""

    priority = 'HIGH'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        row = [runner.iter, outputs['loss'].item()]
        with Path(runner.work_dir, 'losses.jsonl').open('a') as file:
            file.write(json.dumps(row) + '\n')


def config(
    folder: Path, loop: str = 'epoch', workers: int = 0, seed: object = 1
) -> str:
    """Write a config file; return its path."""
    path = folder / f'{loop}_{workers}_{seed}.py'
    options = dict(LOOPS[loop], workers=workers, seed=seed, batch=BATCH)
    path.write_text(CONFIG.format(**options))
    return str(path)


def losses(work_dir: Path) -> dict[int, float]:
    """Loss by iteration; of those run twice, the later."""
    rows = (work_dir / 'losses.jsonl').read_text().splitlines()
    return dict(json.loads(row) for row in rows)


class Crash:
    """Kill this process before the n-th change of the work dir's `.pth` files.

    With a negative number it is killed within the file that is opened then.
    """

    def __init__(self, work_dir: str, at: int) -> None:
        self.work_dir, self.left = os.path.realpath(work_dir), abs(at)
        self.within = at < 0
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple) -> None:
        if event == 'open':
            changes = isinstance(args[1], str) and 'w' in args[1]
        else:
            changes = event in ('os.rename', 'os.remove')
        if changes and isinstance(args[0], str | os.PathLike):
            path = os.path.realpath(os.fspath(args[0]))
            if path.startswith(self.work_dir) and (
                '.pth' in path or 'last_checkpoint' in path
            ):
                self.left -= 1
                if self.left < 0 and self.within:
                    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, HALF))
                elif self.left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)


def serve(tool: object) -> None:
    """Run each line of stdin in a fork; answer with its wait status."""
    for line in sys.stdin:
        arguments, crash = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                if crash is not None:
                    Crash(arguments[arguments.index('--work-dir') + 1], crash)
                tool.main(arguments)
                os._exit(0)
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
        print('status', os.waitpid(pid, 0)[1], flush=True)


if __name__ == '__main__':
    import importlib.util

    sys.modules['crash_toy'] = sys.modules['__main__']
    spec = importlib.util.spec_from_file_location('train', sys.argv[1])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    serve(module)
