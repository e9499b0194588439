"""Hook that refuses to train on a broken dataset."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmir.engine.dataset_check import check_dataset
from mmir.utils.errors import AnnotationError


@HOOKS.register_module()
class ValidateDataHook(Hook):
    """Check all files of the training and validation data before training.

    One message counts by kind and lists missing partners, unreadable or truncated
    images, damaged JPEG data, wrong bit depths, pairs of different sizes, files used
    twice, boxes outside their image, label maps that training would misread and images
    that the pipeline's `RadiometricScale` would refuse. Rank 0 reads the files; all
    ranks stop together. Good files are remembered in `<work_dir>/checked_files.json`
    and not read again.

    Files that the loader is configured to skip (`on_error='skip'`) are only logged.

    Args:
        on_problem (str): 'raise' or 'warn'.
        splits (Sequence[str]): Loaders to check, 'train' and/or 'val'.
        workers (int): Number of reader threads.

    Raises:
        ValueError: An option has an unknown value.
        AnnotationError: The data is broken and `on_problem` is 'raise'.
    """

    priority = 'VERY_HIGH'

    def __init__(
        self,
        on_problem: Literal['raise', 'warn'] = 'raise',
        splits: Sequence[str] = ('train', 'val'),
        workers: int = 4,
    ) -> None:
        if on_problem not in ('raise', 'warn'):
            raise ValueError(
                f"on_problem must be 'raise' or 'warn', got {on_problem!r}"
            )
        if unknown := set(splits) - {'train', 'val'}:
            raise ValueError(f"splits must be 'train', 'val', got {sorted(unknown)}")
        self.on_problem, self.splits, self.workers = on_problem, splits, workers

    def before_train(self, runner: Runner) -> None:
        """Check the data.

        Args:
            runner (Runner): The runner, with its loaders built.
        """
        failures = [self._check(runner) if is_main_process() else []]
        broadcast_object_list(failures)
        if failures[0]:
            raise AnnotationError('\n'.join(failures[0]))

    def _check(self, runner: Runner) -> list[str]:
        """Check and log on one rank; return the reports that must stop training."""
        cache = Path(runner.work_dir) / 'checked_files.json'
        loops = {'train': runner.train_loop, 'val': runner.val_loop}
        failures = []
        for split in self.splits:
            if loops[split] is None:
                continue
            dataset = loops[split].dataloader.dataset
            report = check_dataset(
                dataset, self.workers, os.fspath(cache), source=f'{split} data'
            )
            text = report.text(limit=5)
            bad = bool(report.problems or report.skipped)
            (runner.logger.warning if bad else runner.logger.info)(text)
            if report.problems and self.on_problem == 'raise':
                failures.append(text)
        return failures
