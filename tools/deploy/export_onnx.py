"""Export a YOLOv5 or YOLOv7 to ONNX: export_onnx.py CONFIG CHECKPOINT OUT.onnx.

The exported model takes raw images (float32, 0 to 255, padded to a multiple of 32) and
returns boxes in pixels. Its outputs are compared with PyTorch before it is written.
"""

import argparse
import sys
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmir.cli import cli
from mmir.utils.checkpoint import (
    load_checkpoint,
    refuse_unsafe_checkpoints,
    trust_checkpoints,
    weights_of,
)
from mmir.utils.errors import UserError


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help=cli.CONFIG_HELP)
    parser.add_argument('checkpoint', help='file of the weights')
    parser.add_argument('out', help='ONNX file to write')
    parser.add_argument(
        '--adapter',
        action='append',
        default=[],
        metavar='FILE',
        help='adapter to load on top of the checkpoint; can be repeated',
    )
    parser.add_argument(
        '--nms', action='store_true', help='include non-maximum suppression'
    )
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        default=(640, 640),
        metavar=('H', 'W'),
        help='height and width of the input, multiples of 32 (default: 640 640)',
    )
    parser.add_argument(
        '--dynamic',
        action='store_true',
        help='allow any batch size, and any height and width divisible by 32',
    )
    cli.add_cfg_options(parser)
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load checkpoints that can run code; only for files you trust',
    )
    return parser.parse_args(argv)


def load_model(
    cfg: Config, args: argparse.Namespace
) -> tuple[nn.Module, tuple[str, ...]]:
    """Build the detector with its weights; also return its class names."""
    from mmir.adapters import load_adapter
    from mmir.det.yolo import YOLODetector

    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model = MODELS.build(cfg.model)
    if not isinstance(model, YOLODetector):
        raise UserError(
            f'{args.config} describes a {type(model).__name__}; only a YOLOv5 or '
            'YOLOv7 of mmir can be exported'
        )
    checkpoint = load_checkpoint(args.checkpoint, trust=args.trust_checkpoint)
    state = weights_of(checkpoint, args.checkpoint)
    try:
        # An adapter may supply missing keys; without one, all keys must be present.
        model.load_state_dict(state, strict=not args.adapter)
        for adapter in args.adapter:
            load_adapter(model, adapter)
    except (RuntimeError, ValueError, KeyError) as error:
        message = f'{args.checkpoint} does not fit the config: {error}'
        raise UserError(message) from error
    meta = checkpoint.get('meta', {}).get('dataset_meta') or {}
    return model.eval(), tuple(meta.get('classes') or cfg.get('classes', ()))


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    trust_checkpoints() if args.trust_checkpoint else refuse_unsafe_checkpoints()
    for file in (args.checkpoint, *args.adapter):
        what = '--adapter' if file in args.adapter else 'checkpoint'
        cli.check_checkpoint(file, what, args.trust_checkpoint)
    cfg = cli.load_config(args.config, args.cfg_options)
    model, classes = load_model(cfg, args)
    from mmir.det.yolo.onnx_export import Settings, export_onnx

    settings = Settings(tuple(args.shape), args.nms, args.dynamic, classes)
    try:
        found = export_onnx(model, args.out, settings)
    except (ImportError, ValueError) as error:
        raise UserError(str(error)) from error
    print(f'{args.out}: compared with PyTorch, {found}')


if __name__ == '__main__':
    sys.exit(cli.run(main))
