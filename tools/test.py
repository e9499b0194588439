"""Evaluate a checkpoint on the test set of a config: test.py CONFIG [CHECKPOINT]."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmir.cli import cli
from mmir.utils.errors import UserError
from mmir.utils.files import write_json


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser('Evaluate a checkpoint.')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='file or URL of the weights; may be left out if the config names those of '
        'all members (late fusion)',
    )
    parser.add_argument(
        '--adapter',
        action='append',
        default=[],
        metavar='FILE',
        help='adapter to load on top of the checkpoint; can be repeated',
    )
    parser.add_argument(
        '--merge',
        action='store_true',
        help='merge factors and adapters into plain convolutions before the test',
    )
    parser.add_argument(
        '--out', help='write the metrics to FILE.json, or the predictions to FILE.pkl'
    )
    parser.add_argument('--show-dir', help='draw the predictions into this folder')
    return parser.parse_args(argv)


def set_out(cfg: Config, out: str) -> None:
    if Path(out).suffix not in ('.json', '.pkl'):
        raise UserError(
            f'--out {out}: name a .json file (metrics) or .pkl (predictions)'
        )
    if Path(out).suffix == '.pkl':
        metrics = cfg.test_evaluator
        metrics = [*metrics] if isinstance(metrics, (list, tuple)) else [metrics]
        cfg.test_evaluator = [*metrics, {'type': 'DumpResults', 'out_file_path': out}]


def set_show_dir(cfg: Config, folder: str) -> None:
    hook = cfg.get('default_hooks', {}).get('visualization') or {}
    folder = str(Path(folder).absolute())
    switches = {
        'DetVisualizationHook': {'draw': True, 'test_out_dir': folder},
        'SegVisualizationHook': {'draw': True},
        'VisualizationHook': {'enable': True, 'out_dir': folder},
    }
    kind = hook.get('type', 'none').rpartition('.')[2]
    if kind not in switches:
        raise UserError(
            f'--show-dir: default_hooks.visualization.type is {kind}; known are '
            f'{", ".join(switches)}'
        )
    hook.update(switches[kind])
    if kind == 'SegVisualizationHook':
        cfg.visualizer.save_dir = folder


def drop_ema(cfg: Config) -> None:
    """Remove EMA hooks: the `state_dict` of a checkpoint already holds the average.

    The hook would copy the model before an adapter is loaded, and later restore it.
    """
    hooks = cfg.get('custom_hooks') or []
    cfg.custom_hooks = [h for h in hooks if not h['type'].endswith('EMAHook')]


def require_weights(cfg: Config) -> None:
    """Raise if, without a checkpoint, any part of the model would be random."""
    parts = cfg.model.get('checkpoints') or {}
    if not parts or not all(parts.values()):
        raise UserError(
            'name a checkpoint to test. It can only be left out if the config names '
            f'those of all members (late fusion); its model.checkpoints is {parts}'
        )


def load(
    runner: Runner, checkpoint: str | None, adapters: list[str], merge: bool
) -> nn.Module:
    """Load the weights, then the adapters; raise if something does not fit."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    try:
        # An adapter may supply missing keys; without one, all keys must be present.
        if checkpoint:
            runner.load_checkpoint(checkpoint, strict=not adapters)
        if adapters or merge:
            from mmir.adapters import load_adapter, merge_

            for adapter in adapters:
                load_adapter(model, adapter)
            if merge:
                merge_(model)
    except UserError:  # the file cannot be read, and says why
        raise
    except (RuntimeError, ValueError, KeyError) as error:
        raise UserError(f'{checkpoint} does not fit the config: {error}') from error
    return model


def write_metrics(metrics: dict, out: str, args: argparse.Namespace) -> None:
    record = {
        'config': args.config,
        'checkpoint': args.checkpoint,
        'adapters': args.adapter,
        'merged': args.merge,
        'demo': args.demo,
        'metrics': {key: float(value) for key, value in metrics.items()},
    }
    write_json(record, out, indent=1)


def main(argv: Sequence[str] | None = None) -> dict:
    args = parse_args(argv)
    for file in filter(None, (args.checkpoint, *args.adapter)):
        what = '--adapter' if file in args.adapter else 'checkpoint'
        cli.check_checkpoint(file, what, args.trust_checkpoint)
    cfg = cli.prepare(args)
    if not args.checkpoint:
        require_weights(cfg)
    cfg.load_from, cfg.resume = None, False
    drop_ema(cfg)
    if args.out:
        set_out(cfg, args.out)
    if args.show_dir:
        set_show_dir(cfg, args.show_dir)
    runner = cli.build_runner(cfg)
    load(runner, args.checkpoint, args.adapter, args.merge)
    metrics = runner.test()
    if args.out and args.out.endswith('.json') and is_main_process():
        write_metrics(metrics, args.out, args)
    return metrics


if __name__ == '__main__':
    sys.exit(cli.run(main))
