"""Checkpoints that a crash cannot lose."""

import os
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmir.utils.files import atomic_path, remove_partials

_BACKEND = 'mmir.atomic'


@register_backend(_BACKEND)
class AtomicLocalBackend(LocalBackend):
    """mmengine's backend of local files, which writes bytes atomically."""

    def put(self, obj: bytes, filepath: str | os.PathLike[str]) -> None:
        """Write a file; until it is on the disk, a former file of this name stays.

        Args:
            obj (bytes): Content of the file.
            filepath (str | PathLike): The file; its folder is created.

        Raises:
            OSError: It cannot be written; has the name of the file.
        """
        with atomic_path(filepath, durable=True) as partial:
            partial.write_bytes(obj)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """`CheckpointHook` that deletes old checkpoints after it has written the new one.

    mmengine deletes first and writes in place: with `max_keep_ckpts=1`, a crash or a
    full disk at that moment leaves nothing to resume from. Here a checkpoint is written
    under a hidden name and renamed, then `last_checkpoint` is updated, then old ones
    are deleted, also the former best one. So the disk holds one more checkpoint for a
    moment. What a crash left half written is removed at the next start.

    Remote folders are written by mmengine's own backends.

    Args:
        **kwargs: Arguments of `mmengine.hooks.CheckpointHook`.
    """

    def before_train(self, runner: Runner) -> None:
        """Choose how files are written, and remove those a crash left half written.

        Args:
            runner (Runner): The runner.
        """
        local = '://' not in str(self.out_dir or runner.work_dir)
        if local and self.backend_args is None and self.file_client_args is None:
            self.backend_args = {'backend': _BACKEND}
        super().before_train(runner)
        if local and is_main_process():
            for folder in {Path(self.out_dir), Path(runner.work_dir)}:
                for path in remove_partials(folder):
                    runner.logger.info(f'removed {path}, left by an interrupted run')

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Write a checkpoint, then delete those beyond `max_keep_ckpts`."""
        limit = self.max_keep_ckpts
        if limit <= 0:
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        # The file lists what exists while it is written. Resumed from it, mmengine
        # deletes what this run no longer could.
        kept = [*(old for old in self.keep_ckpt_ids if old != step), step]
        runner.message_hub.update_info('keep_ckpt_ids', kept)
        self.max_keep_ckpts = -1  # the host would delete first
        try:
            super()._save_checkpoint_with_step(runner, step, meta)
        finally:
            self.max_keep_ckpts = limit
        for old in kept[:-limit]:
            name = self.filename_tmpl.format(old)
            self._remove(self.file_backend.join_path(self.out_dir, name))
        self.keep_ckpt_ids.clear()
        self.keep_ckpt_ids.extend(kept[-limit:])
        runner.message_hub.update_info('keep_ckpt_ids', kept[-limit:])

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        """Write the best checkpoint if it is one, then delete the former."""
        if not self.save_best:
            return
        former = self._best()
        self._set_best(dict.fromkeys(former))  # the host would delete first
        super()._save_best_checkpoint(runner, metrics)
        best = {key: path or former[key] for key, path in self._best().items()}
        self._set_best(best)
        for path in {*former.values()} - {*best.values()}:
            self._remove(path)

    def _best(self) -> dict[str | None, str | None]:
        """Paths of the best checkpoints by metric; by None if there is one metric."""
        if len(self.key_indicators) == 1:
            return {None: self.best_ckpt_path}
        return dict(self.best_ckpt_path_dict)

    def _set_best(self, paths: dict[str | None, str | None]) -> None:
        """Set the paths of the best checkpoints."""
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = paths[None]
        else:
            self.best_ckpt_path_dict = paths

    def _remove(self, path: str | None) -> None:
        """Delete a checkpoint, if there is one; those of DeepSpeed are folders.

        Paths come from the resumed file too: none outside of the run's folder is taken.
        """
        if path is None or not is_main_process():
            return
        if os.path.dirname(os.path.normpath(path)) != os.path.normpath(self.out_dir):
            return
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):
            self.file_backend.rmtree(path)
