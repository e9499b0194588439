"""Shared code of `tools/train.py` and `tools/test.py`: arguments, checks, messages."""

import argparse
import difflib
import logging
import os
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import CheckpointLoader, Runner
from torch.nn.modules.batchnorm import _BatchNorm

from mmir.cli.config import LENGTHS, apply_options, complete_loaders
from mmir.cli.failures import run as run
from mmir.utils.allocator import keep_freed_memory
from mmir.utils.checkpoint import (
    CheckpointError,
    load_checkpoint,
    local_path,
    refuse_unsafe_checkpoints,
    require_safe,
    trust_checkpoints,
    weights_of,
)
from mmir.utils.errors import UserError

CONFIG_HELP = 'config file, or mmir::FOLDER/NAME.py'
"""Help of the argument that takes a config; :func:`load_config` reads both."""

BANNER = """
================================== D E M O ==================================
 --demo: SYNTHETIC images, a small network, a short schedule. The numbers of
 this run only show that everything works; they say nothing about the method
 or about real infrared images. All results below are demo results.
=============================================================================
"""


def parser(description: str) -> argparse.ArgumentParser:
    """Create the argument parser with the arguments both tools have.

    Args:
        description (str): First line of the help.

    Returns:
        argparse.ArgumentParser: The parser; add the tool's own arguments to it.
    """
    result = argparse.ArgumentParser(description=description)
    result.add_argument('config', help=CONFIG_HELP)
    result.add_argument('--work-dir', help='folder for logs, checkpoints, results')
    add_cfg_options(result)
    result.add_argument(
        '--demo',
        action='store_true',
        help='run on synthetic images with a small network and a short schedule',
    )
    result.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='launcher of a distributed run',
    )
    result.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load checkpoints that can run code; only for files you trust',
    )
    result.add_argument(
        '--debug', action='store_true', help='show the traceback of any error'
    )
    # torch's launcher uses either spelling.
    result.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS
    )
    return result


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add `--cfg-options`, for :func:`load_config`.

    Args:
        parser (ArgumentParser): Parser of a tool that reads a config.
    """
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        help='override keys of the config: KEY.SUBKEY=VALUE ...; data_root=DIR also '
        'moves all paths below it',
    )


def prepare(args: argparse.Namespace) -> Config:
    """Load the config, then apply and check the shared arguments.

    Args:
        args (Namespace): Arguments from a parser of :func:`parser`.

    Returns:
        Config: The config with overrides, work dir, launcher and demo applied.

    Raises:
        UserError: The config cannot be read or has no such key.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not has_accelerator():
        keep_freed_memory()
    if args.trust_checkpoint:
        trust_checkpoints()
    else:
        refuse_unsafe_checkpoints()
    options = dict(args.cfg_options or {})
    # a demo has its own number of epochs, so the user's comes after it
    later = {k: options.pop(k) for k in LENGTHS if args.demo and k in options}
    cfg = load_config(args.config, options)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or default_work_dir(args)
    if args.demo:
        from mmir.testing.demo import apply_demo

        print_log(BANNER)
        try:
            cfg = apply_demo(cfg, cfg.work_dir)
        except ValueError as error:
            raise UserError(f'--demo: {error}') from error
        apply_options(cfg, later)
    complete_loaders(cfg)
    return cfg


def _start_cpu_processes(cfg: Config) -> None:
    """Initialize the process group of a CPU run; mmengine alone would need CUDA."""
    if cfg.get('launcher') != 'pytorch' or has_accelerator():
        return
    torch.distributed.init_process_group('gloo')
    cfg.setdefault('model_wrapper_cfg', dict(type='MMDistributedDataParallel'))
    cfg.model_wrapper_cfg.setdefault('device_ids', None)
    unused = cfg.get('find_unused_parameters', False)
    cfg.model_wrapper_cfg.setdefault('find_unused_parameters', unused)
    cfg.model_wrapper_cfg.setdefault('broadcast_buffers', False)


def default_work_dir(args: argparse.Namespace) -> str:
    """Name the work dir after the config, with `_demo` appended for a demo."""
    stem = Path(args.config.rpartition('::')[2]).stem
    return f'work_dirs/{stem}_demo' if args.demo else f'work_dirs/{stem}'


def load_config(path: str, options: dict[str, Any] | None = None) -> Config:
    """Read a config file and apply `--cfg-options`; every tool reads configs so.

    Args:
        path (str): A path, or `package::folder/name.py` for a packaged config.
        options (dict, optional): Values by dotted keys; see
            :func:`mmir.cli.config.apply_options`.

    Returns:
        Config: The config.

    Raises:
        UserError: There is no such file (suggests similar names), it has errors, or it
            lacks a key of the options.
    """
    if '::' in path:
        from mmengine.hub import get_config

        reader = get_config
    elif Path(path).is_file():
        reader = Config.fromfile
    else:
        raise UserError(f'no config {path}{_near_configs(Path(path))}')
    try:
        cfg = reader(path)
    except FileNotFoundError as error:
        raise UserError(f'config {path}: {error}') from error
    except (SyntaxError, NameError, ValueError) as error:
        raise UserError(f'config {path} has an error: {error}') from error
    apply_options(cfg, options or {})
    return cfg


def _near_configs(path: Path) -> str:
    """Suggest config files with similar names."""
    here = [p for p in path.parent.glob('*.py') if p.is_file()]
    known = {p.stem: p for p in [*Path('configs').rglob('*.py'), *here]}
    near = difflib.get_close_matches(path.stem, known, n=3, cutoff=0.5)
    names = ', '.join(str(known[name]) for name in near)
    return f'; similar names: {names}' if near else ''


def check_checkpoint(path: str, what: str, trusted: bool) -> None:
    """Check that a checkpoint exists and loads without running code.

    Args:
        path (str): A path, or a URL, which is left to the loader's own check.
        what (str): The option or key that names it, for the message.
        trusted (bool): Whether the user trusts the file.

    Raises:
        UserError: The file is missing, unreadable, or unsafe and not trusted.
    """
    local = local_path(path)
    if local is None:
        return
    if not local.is_file():
        raise UserError(f'{what}: no file {local}')
    if trusted:
        return
    try:
        require_safe(local)
    except CheckpointError as error:
        raise UserError(f'{what}: {error}') from error


def check_start(runner: Runner, path: str, trusted: bool) -> None:
    """Check that the model of a runner can start from the weights of a checkpoint.

    Args:
        runner (Runner): The runner, before it trains.
        path (str): What mmengine's `load_from` takes: a path or a URL.
        trusted (bool): Whether the user trusts the file.

    Raises:
        UserError: The file cannot be read; tensors are missing, unexpected, of another
            shape or not finite, and are named; or its batch norms are the identity and
            would be trained.
    """
    from mmir.adapters.checkpoint_fit import CheckpointMismatchError, check_fits

    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    try:
        if local_path(path) is None:
            checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
        else:
            checkpoint = load_checkpoint(path, trust=trusted)
        check_fits(model, weights_of(checkpoint, path), path)
    except (CheckpointError, CheckpointMismatchError) as error:
        raise UserError(f'load_from: {error}') from error
    except OSError as error:  # a download that failed, a disk that cannot be read
        raise UserError(f'load_from: {path}: {error}') from error
    meta = checkpoint.get('meta')
    folded = isinstance(meta, dict) and meta.get('norms') == 'identity'
    if folded and any(isinstance(m, _BatchNorm) for m in model.modules()):
        raise UserError(f'load_from: {path}: {meta.get("note")}')


def build_runner(cfg: Config) -> Runner:
    """Build the runner of a config.

    Args:
        cfg (Config): The config.

    Returns:
        Runner: mmengine's runner, or one of type `runner_type` of the config.
    """
    _start_cpu_processes(cfg)
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def has_accelerator() -> bool:
    """Check whether mixed precision with loss scaling can run here."""
    return torch.cuda.is_available()


def log(message: str, level: int = logging.INFO) -> None:
    """Log a message, or print it if there is no logger yet."""
    print_log(message, logger='current', level=level)
