"""Random states follow from the seed and the iterations done."""

import random
import uuid
from pathlib import Path

import crash_toy
import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmir.engine import AtomicCheckpointHook, RandomStateHook


class Draws(Hook):
    """Keep the noise in the batches, and draw where validation would."""

    def __init__(self) -> None:
        self.rows: list[list[float]] = []
        self.own: list[tuple[float, float, float]] = []

    def before_train_epoch(self, runner):
        for _ in range(runner.epoch):  # as much as anybody likes
            random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.rows.append(data_batch['x'].flatten().tolist())
        drawn = random.random(), np.random.rand(), float(torch.rand(1))  # noqa: NPY002
        self.own.append(drawn)


def train(folder: Path, epochs: int, workers: int, resume: bool = False, **options):
    draws = Draws()
    runner = Runner(
        crash_toy.CrashModel(),
        str(folder),
        train_dataloader=dict(
            batch_size=4,
            num_workers=workers,
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=crash_toy.CrashPoints(),
            **options,
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(checkpoint=AtomicCheckpointHook(interval=2)),
        custom_hooks=[draws, RandomStateHook()],
        randomness=dict(seed=4),
        experiment_name=uuid.uuid4().hex,
        log_level='ERROR',
        resume=resume,
    )
    runner.train()
    return draws


@pytest.mark.parametrize(
    ('workers', 'options'),
    [(0, {}), (1, {}), (1, dict(persistent_workers=True))],
    ids=['no worker', 'worker', 'persistent worker'],
)
def test_a_resumed_run_draws_what_an_uninterrupted_one_does(
    tmp_path: Path, workers: int, options: dict
) -> None:
    whole = train(tmp_path / 'whole', 4, workers, **options)
    train(tmp_path / 'parts', 2, workers, **options)
    rest = train(tmp_path / 'parts', 4, workers, resume=True, **options)
    assert rest.rows == whole.rows[6:]
    assert rest.own == whole.own[6:]
    # no epoch repeats the random numbers of another
    assert len({tuple(row) for row in whole.rows}) == 12
    assert len(set(whole.own)) == 12


def test_the_seed_decides(tmp_path: Path) -> None:
    states = []
    for seed, iteration in ((1, 5), (1, 6), (2, 5), (1, 5)):
        runner = type('R', (), dict(seed=seed, cfg={}))
        assert 0 <= RandomStateHook._set(runner, iteration) < 2**31
        states.append((random.random(), float(torch.rand(1))))
    assert states[0] == states[3]
    assert len(set(states)) == 3
