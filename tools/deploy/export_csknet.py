"""Deploy a CSK-Net: export_csknet.py CONFIG CHECKPOINT --modality ir --out FOLDER.

With one modality, the folder gets a config and a checkpoint of plain mmseg, which needs
no mmir. `--onnx` writes an ONNX file instead, for one modality, several or all. Either
is compared with the CSK-Net before it is written.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from mmir.cli import cli
from mmir.utils.checkpoint import refuse_unsafe_checkpoints, trust_checkpoints
from mmir.utils.errors import UserError


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help=cli.CONFIG_HELP)
    parser.add_argument('checkpoint', help='file of the weights')
    parser.add_argument(
        '--modality',
        nargs='+',
        default=[],
        metavar='NAME',
        help='camera of the deployed network; with --onnx also several (default: all)',
    )
    parser.add_argument('--out', required=True, help='folder to write into')
    parser.add_argument('--onnx', action='store_true', help='write an ONNX file')
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        default=(480, 640),
        metavar=('H', 'W'),
        help='height and width of the input of the ONNX file (default: 480 640)',
    )
    cli.add_cfg_options(parser)
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load checkpoints that can run code; only for files you trust',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if not args.onnx and len(args.modality) != 1:
        raise UserError(
            '--modality: a network of plain mmseg reads one camera; name one, or add '
            '--onnx'
        )
    trust_checkpoints() if args.trust_checkpoint else refuse_unsafe_checkpoints()
    cli.check_checkpoint(args.checkpoint, 'checkpoint', args.trust_checkpoint)
    cfg = cli.load_config(args.config, args.cfg_options)
    if args.onnx:
        print(write_onnx(args, cfg))
        return
    from mmir.seg.csknet.export import export_single_modality

    config, weights = export_single_modality(
        cfg, args.checkpoint, args.modality[0], args.out
    )
    print(f'{config}, {weights}: the same logits as the CSK-Net, bit for bit')


def write_onnx(args: argparse.Namespace, cfg: Config) -> str:
    """Write the ONNX file; say how far it is from PyTorch."""
    from mmir.seg.csknet.export import load_csknet
    from mmir.seg.csknet.onnx_export import export_onnx

    model, meta = load_csknet(cfg, args.checkpoint)
    names = args.modality or model.modalities
    path = Path(args.out) / f'{Path(args.config).stem}_{"-".join(names)}.onnx'
    try:
        gap = export_onnx(
            model, path, names, tuple(args.shape), meta.get('classes', ())
        )
    except ImportError as error:
        raise UserError(str(error)) from error
    return f'{path}: largest difference from PyTorch {gap:.2g} of the largest logit'


if __name__ == '__main__':
    sys.exit(cli.run(main))
