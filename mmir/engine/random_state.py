"""Random states that a resumed run shares with an uninterrupted one."""

from functools import partial

import numpy as np
import torch
from mmengine.dataset import worker_init_fn
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner, set_random_seed
from torch.utils.data import DataLoader


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Derive all random states from the seed and the number of iterations done.

    A run that is resumed at the end of an epoch then continues as if it had never
    stopped: same augmentation, same dropout, same losses. Nothing is stored in the
    checkpoint. The states of Python, NumPy and torch are set when an epoch starts,
    after validation, and after a checkpoint.

    The worker processes of the data loader get their seeds at the same time. mmengine
    seeds them alike whenever they start, so without `persistent_workers` every epoch
    would repeat the random numbers of the first. Persistent workers start anew after
    each checkpoint, as they do after a resume.

    Not covered: iteration-based loops with worker processes, which load ahead, and
    caches of a transform (`CachedMosaic`, `CachedMixUp`) without worker processes.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self._last: str | None = None
        self._trains = False

    def before_train(self, runner: Runner) -> None:
        """Note from which checkpoint the run starts.

        Args:
            runner (Runner): The runner, after it has resumed.
        """
        self._last = runner.message_hub.get_info('last_ckpt')
        self._trains = True

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the random states of this process and of the workers to come.

        Args:
            runner (Runner): The runner.
        """
        loader, seed = runner.train_dataloader, self._set(runner, runner.iter)
        init = loader.worker_init_fn
        if isinstance(init, partial) and init.func is worker_init_fn:
            loader.worker_init_fn = partial(init, seed=seed)
        # else a loader that starts draws from the states of this process
        loader.generator = torch.Generator().manual_seed(seed)
        if self._saved(runner) and isinstance(loader, DataLoader):
            loader._iterator = None  # as in mmdet's YOLOXModeSwitchHook

    def after_train_iter(self, runner: Runner, *_: object, **__: object) -> None:
        """Set the random states after a checkpoint of an iteration-based loop.

        Args:
            runner (Runner): The runner, whose `iter` is not yet advanced.
        """
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        if not by_epoch and self._saved(runner):
            self._set(runner, runner.iter + 1)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Set the random states that validation may have advanced.

        Args:
            runner (Runner): The runner.
            metrics (dict, optional): Results of the validation.
        """
        if self._trains:  # the runner would build the training data to answer
            self._set(runner, runner.iter)

    def _saved(self, runner: Runner) -> bool:
        """Whether a checkpoint was saved since the last call."""
        last = runner.message_hub.get_info('last_ckpt')
        changed, self._last = last != self._last, last
        return changed

    @staticmethod
    def _set(runner: Runner, iteration: int) -> int:
        """Set the random states after `iteration` iterations; return their seed."""
        words = np.random.SeedSequence([runner.seed, iteration]).generate_state(1)
        seed = int(words[0] >> 1)  # NumPy takes 32 bits; the rank is added
        apart = runner.cfg.get('randomness', {}).get('diff_rank_seed', False)
        set_random_seed(seed, diff_rank_seed=apart)
        return seed
