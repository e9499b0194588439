"""Export a model of re-identification: export_vireid.py CONFIG CHECKPOINT OUT.onnx.

The file is the network of one camera: an RGB image (1, 3, H, W), float32, 0 to 255, to
its feature. Export both modalities to compare their images by the cosine. `--int8`
writes a quantized file, its ranges measured on the training images of the config.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from mmengine.config import Config

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


def training_images(cfg: Config, modality: str, count: int) -> Iterator[np.ndarray]:
    """Yield training images of a modality as the exported network reads them."""
    from mmengine.registry import DATASETS

    pipeline = cfg.test_dataloader.dataset.pipeline  # without augmentation
    dataset = DATASETS.build({**cfg.train_dataloader.dataset, 'pipeline': pipeline})
    infos = (dataset.get_data_info(k) for k in range(len(dataset)))
    chosen = [k for k, info in enumerate(infos) if info['modality'] == modality]
    step = max(1, len(chosen) // count)
    for k in islice(chosen[::step], count):
        image = dataset[k]['inputs'].numpy()[::-1]  # BGR to RGB
        yield np.ascontiguousarray(image[None], np.float32)


def main(argv: Sequence[str] | None = None) -> None:
    from mmengine.registry import MODELS, init_default_scope

    from mmir.reid.onnx_export import export_onnx, quantize_onnx

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
            images = training_images(cfg, args.modality, args.images)
            quantize_onnx(exact, args.out, images)
    if args.int8:
        print(f'{args.out}: {Path(args.out).stat().st_size / 2**20:.1f} MiB in 8 bits')


if __name__ == '__main__':
    sys.exit(cli.run(main))
