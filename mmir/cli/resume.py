"""Find the checkpoint that an interrupted training continues from."""

import logging
import re
from pathlib import Path

from mmengine.config import Config

from mmir.cli import cli
from mmir.utils.checkpoint import CheckpointError, load_checkpoint, local_path

_NAME = re.compile(r'(?:epoch|iter)_\d+\.pth')


def last_checkpoint(work_dir: str | Path) -> Path | None:
    """Read which checkpoint a run saved last.

    Args:
        work_dir (str | Path): Folder of the run.

    Returns:
        Path, optional: The checkpoint that `last_checkpoint` names, in its place or, if
        the folder was moved, in the folder. None if there is no such file.
    """
    record = Path(work_dir) / 'last_checkpoint'
    name = record.read_text().strip() if record.is_file() else ''
    paths = (Path(name), Path(work_dir) / Path(name).name) if name else ()
    return next((path for path in paths if path.is_file()), None)


def candidates(work_dir: str | Path) -> list[Path]:
    """List the checkpoints of a run, newest first.

    Args:
        work_dir (str | Path): Folder of the run.

    Returns:
        list[Path]: The last checkpoint; those beside it, and those in the folder, whose
        names differ in a number only or are `epoch_N.pth` or `iter_N.pth`.
    """
    last = last_checkpoint(work_dir)
    names, folders = [_NAME], {Path(work_dir)}
    if last is not None:
        names.append(re.compile(re.sub(r'\d+', r'\\d+', re.escape(last.name))))
        folders.add(last.parent)
    found = {
        path.resolve(): path
        for folder in folders
        for path in (folder.iterdir() if folder.is_dir() else ())
        if any(name.fullmatch(path.name) for name in names)
    }
    if last is not None:
        found[last.resolve()] = last
    return sorted(found.values(), key=_age, reverse=True)


def _age(path: Path) -> tuple[int, int]:
    """Time of a checkpoint, then the last number in its name."""
    numbers = re.findall(r'\d+', path.stem)
    return path.stat().st_mtime_ns, int(numbers[-1]) if numbers else 0


def resume_latest(cfg: Config, trusted: bool) -> None:
    """Let a config resume from the newest checkpoint of its work dir that loads.

    Without one, training starts over. Files that cannot be read are named.

    Args:
        cfg (Config): The config, changed in place.
        trusted (bool): Whether the user trusts the checkpoints.
    """
    for path in candidates(cfg.work_dir):
        try:
            resume_from(cfg, path, trusted)
        except CheckpointError as error:
            cli.log(f'--resume: {error}; trying the one before', logging.WARNING)
        else:
            cli.log(f'--resume: continuing from {path}')
            return
    cli.log(f'--resume: no checkpoint to load in {cfg.work_dir}, starting over')
    cfg.resume = False


def resume_from(cfg: Config, path: str | Path, trusted: bool) -> None:
    """Let a config resume from a checkpoint.

    Args:
        cfg (Config): The config, changed in place. If it has no seed it gets that of
            the checkpoint, so that images come in the same order.
        path (str | Path): The checkpoint: a file, or a URL.
        trusted (bool): Whether the user trusts it.

    Raises:
        FileNotFoundError: It does not exist.
        CheckpointError: It cannot be read, or is none to resume from.
    """
    local = local_path(path)
    if local is None:  # known after the download only
        cfg.resume, cfg.load_from = True, str(path)
        return
    meta = load_checkpoint(local, trust=trusted, map_location='meta').get('meta')
    if not isinstance(meta, dict) or not {'epoch', 'iter'} <= meta.keys():
        raise CheckpointError(
            f'{path} holds weights only, no state of a training; to start from them, '
            f'set --cfg-options load_from={path}'
        )
    randomness = cfg.get('randomness') or {}
    if randomness.get('seed') is None and meta.get('seed') is not None:
        cfg.randomness = {**randomness, 'seed': meta['seed']}
    cfg.resume, cfg.load_from = True, str(path)
