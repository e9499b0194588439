"""Train a model of any host of the family: train.py CONFIG."""

import argparse
import sys
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from mmir.cli import cli
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


def set_resume(cfg: Config, resume: str | None, trusted: bool) -> None:
    if resume == 'auto':
        latest = find_latest_checkpoint(cfg.work_dir)
        if latest is None:
            cli.log(f'--resume: no checkpoint in {cfg.work_dir} yet, starting over')
            resume = None
        else:
            resume = latest
    if resume is not None:
        cfg.resume, cfg.load_from = True, resume
    if cfg.get('load_from'):
        what = '--resume' if resume else 'load_from'
        cli.check_checkpoint(cfg.load_from, what, trusted)


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
    runner = cli.build_runner(cfg)
    if cfg.get('load_from') and not cfg.get('resume') and not args.allow_partial:
        cli.check_start(runner, cfg.load_from, args.trust_checkpoint)
    runner.train()


if __name__ == '__main__':
    sys.exit(cli.run(main))
