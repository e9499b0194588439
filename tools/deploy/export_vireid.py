"""Export a model of re-identification: export_vireid.py CONFIG CHECKPOINT OUT.onnx.

The file is the network of one camera: an RGB image (1, 3, H, W), float32, 0 to 255, to
its feature. Export both modalities to compare their images by the cosine. `--int8`
writes a quantized file, its ranges measured on the training images of the config.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mmir.cli import cli
from mmir.utils.checkpoint import (
    load_checkpoint,
    refuse_unsafe_checkpoints,
    weights_of,
)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help=cli.CONFIG_HELP)
    parser.add_argument('checkpoint', help='file of the weights')
    parser.add_argument('out', help='ONNX file to write')
    parser.add_argument('--modality', choices=['rgb', 'ir'], default='ir')
    parser.add_argument('--int8', action='store_true', help='quantize to 8 bits')
    parser.add_argument(
        '--images', type=int, default=100, help='images to measure ranges on'
    )
    cli.add_cfg_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    from mmengine.registry import MODELS, init_default_scope

    from mmir.reid.onnx_export import calibration_images, export_onnx, quantize_onnx

    args = parse_args(argv)
    if args.images < 1:
        raise cli.UserError('--images: give at least 1')
    refuse_unsafe_checkpoints()
    cfg = cli.load_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    cli.check_checkpoint(args.checkpoint, 'checkpoint', False)
    model = MODELS.build(cfg.model)
    state = weights_of(load_checkpoint(args.checkpoint), args.checkpoint)
    model.load_state_dict(state)
    size = cfg.height, cfg.width
    with tempfile.TemporaryDirectory() as folder:
        # in 8 bits, the file of 32 bits is only a step
        exact = Path(folder) / 'model.onnx' if args.int8 else args.out
        gap = export_onnx(model, exact, args.modality, size)
        print(f'{args.modality}: differs from PyTorch by {gap:.1e} of the feature')
        if args.int8:
            images = calibration_images(cfg, args.modality, args.images)
            quantize_onnx(exact, args.out, images)
    if args.int8:
        print(f'{args.out}: {Path(args.out).stat().st_size / 2**20:.1f} MiB in 8 bits')


if __name__ == '__main__':
    sys.exit(cli.run(main))
