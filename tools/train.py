"""Train a model of any host of the family: train.py CONFIG."""

import argparse
import sys
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.hooks import CheckpointHook

from mmir.cli import cli, resume
from mmir.cli.failures import writing_to
from mmir.utils.errors import UserError


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser('Train the model of a config.')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from a checkpoint, by default the latest one in the work dir',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision (GPU)')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by batch size / the config's base_batch_size",
    )
    parser.add_argument(
        '--allow-partial',
        action='store_true',
        help='accept a load_from checkpoint with missing or unexpected tensors',
    )
    parser.add_argument('--seed', type=int, help="replaces the config's seed")
    return parser.parse_args(argv)


def set_amp(cfg: Config) -> None:
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UserError(f'--amp: optim_wrapper.type is {kind}, not OptimWrapper')
    if not cli.has_accelerator():
        raise UserError('--amp: mixed precision needs a GPU, and torch sees none')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def set_auto_scale_lr(cfg: Config) -> None:
    if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
        raise UserError(
            '--auto-scale-lr: the config has no auto_scale_lr.base_batch_size, the '
            'global batch size its learning rate was chosen for'
        )
    cfg.auto_scale_lr.enable = True


def set_resume(cfg: Config, checkpoint: str | None, trusted: bool) -> None:
    if checkpoint is None and cfg.get('resume'):  # mmengine's way to ask for it
        checkpoint = cfg.get('load_from') or 'auto'
    if checkpoint == 'auto':
        resume.resume_latest(cfg, trusted)
    elif checkpoint is not None:
        cli.check_checkpoint(checkpoint, '--resume', trusted)
        resume.resume_from(cfg, checkpoint, trusted)
    if cfg.get('load_from') and not cfg.get('resume'):
        cli.check_checkpoint(cfg.load_from, 'load_from', trusted)


def set_hooks(cfg: Config) -> None:
    """Add the hooks that keep a run safe, also to configs of hosts.

    A config switches one off with None.
    """
    hooks = cfg.setdefault('default_hooks', {})
    checkpoint = hooks.setdefault('checkpoint', dict(type='CheckpointHook', interval=1))
    if checkpoint and checkpoint.get('type') in ('CheckpointHook', CheckpointHook):
        checkpoint['type'] = 'mmir.AtomicCheckpointHook'
    own = str([hook.get('type') for hook in cfg.get('custom_hooks') or ()])
    for name, kind in (
        ('non_finite', 'NonFiniteLossHook'),
        ('random_state', 'RandomStateHook'),
    ):
        if kind not in own:
            hooks.setdefault(name, dict(type=f'mmir.{kind}'))


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    cfg = cli.prepare(args)
    if args.seed is not None:
        cfg.randomness = {**cfg.get('randomness', {}), 'seed': args.seed}
    if args.amp:
        set_amp(cfg)
    if args.auto_scale_lr:
        set_auto_scale_lr(cfg)
    set_resume(cfg, args.resume, args.trust_checkpoint)
    set_hooks(cfg)
    with writing_to(cfg.work_dir):
        train(cfg, args)


def train(cfg: Config, args: argparse.Namespace) -> None:
    runner = cli.build_runner(cfg)
    if cfg.get('load_from') and not cfg.get('resume') and not args.allow_partial:
        cli.check_start(runner, cfg.load_from, args.trust_checkpoint)
    runner.train()


if __name__ == '__main__':
    sys.exit(cli.run(main))
