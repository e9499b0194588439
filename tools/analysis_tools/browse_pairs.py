"""Draw samples of a config's dataset, all modalities, with their labels.

    python tools/analysis_tools/browse_pairs.py CONFIG --split train --number 12

Needs no display: writes one PNG per sample and prints the folder. Works for paired and
single-modality datasets of mmdet and mmseg.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.runner import set_random_seed
from mmengine.visualization import Visualizer

import mmir  # noqa: F401 - before any host: it stands in for missing mmcv operators
from mmir.cli import cli
from mmir.data.images import ImageReadError
from mmir.structures import PairError
from mmir.utils.errors import UserError
from mmir.visualization.color_maps import COLOR_MAPS
from mmir.visualization.labeled import PairStyle, packed_images, sample_row
from mmir.visualization.pairs import MODES, stacked, titled
from mmir.visualization.pipeline_stages import (
    LoadedSamples,
    Steps,
    build_dataset,
    pipelines,
)

STAGES = ('original', 'transformed', 'pipeline')
DRAWERS = {'mmdet': 'mmdet.DetLocalVisualizer', 'mmseg': 'mmseg.SegLocalVisualizer'}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help=cli.CONFIG_HELP)
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train')
    parser.add_argument('--number', type=int, default=16, help='samples to draw')
    parser.add_argument('--mode', nargs='+', choices=MODES, default=[MODES[0]])
    parser.add_argument(
        '--colormap',
        choices=COLOR_MAPS,
        default='white-hot',
        help='palette of thermal images',
    )
    parser.add_argument(
        '--stage',
        choices=STAGES,
        default='transformed',
        help='as loaded, after the pipeline, or after each of its transforms',
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/browse'))
    parser.add_argument('--seed', type=int, default=0, help='for samples, transforms')
    parser.add_argument(
        '--alpha', type=float, default=0.5, help='weight of the second image'
    )
    parser.add_argument(
        '--tile', type=int, default=64, help='tile of the checkerboard, in pixels'
    )
    parser.add_argument('--force', action='store_true', help='overwrite pictures')
    cli.add_cfg_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> list[Path]:
    args = parse_args(argv)
    if not 0 <= args.alpha <= 1 or args.tile < 1 or args.number < 1:
        raise UserError('--alpha must be in 0..1, --tile and --number at least 1')
    if not args.force and any(args.out.glob('*.png')):
        raise UserError(
            f'{args.out} already holds pictures; choose another folder with --out, or '
            'use --force to write into this one'
        )
    cfg = cli.load_config(args.config, args.cfg_options)
    set_random_seed(args.seed)
    dataset = build_dataset(cfg, args.split)
    if not len(dataset):
        raise UserError(f'the {args.split} dataset is empty')
    visualizer = build_visualizer(cfg, dataset.metainfo)
    style = PairStyle(args.mode, args.colormap, args.alpha, args.tile)
    packer = find_packer(dataset)
    # at the stage original, a repeated sample counts once
    source = {'original': LoadedSamples, 'pipeline': Steps}.get(args.stage)
    samples = dataset if source is None else source(dataset)
    written = []
    for index in chosen(len(samples), args.number, args.seed):
        set_random_seed(args.seed + index)  # the same picture for any --number
        try:
            rows = sample_stages(samples, index, packer)
        except (ImageReadError, PairError) as error:
            raise UserError(f'sample {index}: {error}') from error
        picture = stacked([draw(visualizer, *row, style) for row in rows])
        name = Path(str(rows[-1][1]['data_samples'].metainfo.get('img_path'))).stem
        written.append(save(picture, args.out / f'{index:05d}_{name}.png'))
    print(f'{len(written)} pictures in {args.out}')
    return written


def chosen(total: int, number: int, seed: int) -> list[int]:
    """Choose samples at random, in the order of the dataset."""
    rng = np.random.default_rng(seed)
    return sorted(rng.permutation(total)[:number].tolist())


def find_packer(dataset: Any) -> Any:
    """Return the packing transform, the last one of a dataset.

    Raises:
        UserError: The last transform does not pack.
    """
    transforms = [t for pipeline in pipelines(dataset) for t in pipeline]
    if not transforms or not type(transforms[-1]).__name__.startswith('Pack'):
        raise UserError(
            'the pipeline must end with a packing transform, such as '
            'mmir.PackPairedInputs'
        )
    return transforms[-1]


def sample_stages(samples: Any, index: int, packer: Any) -> list[tuple[str, dict]]:
    """Return the titles and packed samples of all stages of a sample."""
    found = samples[index]
    if not found:
        raise UserError(f'sample {index}: the pipeline discarded it')
    if not isinstance(samples, Steps):
        return [('', found if 'inputs' in found else packer(found))]
    start = max(
        (k for k, (name, _) in enumerate(found) if name.startswith('Load')), default=0
    )
    # the last stage is already packed and looks like the one before it
    rows = [(name, step) for name, step in found[start:] if 'inputs' not in step]
    return [(name, packer(step)) for name, step in rows]


def build_visualizer(cfg: Config, metainfo: dict) -> Visualizer:
    """Build the visualizer of the config or of its host, without storage backends."""
    from mmengine.registry import VISUALIZERS

    given = dict(cfg.get('visualizer') or {})
    default = DRAWERS.get(cfg.get('default_scope', ''), 'Visualizer')
    given = dict(given, type=given.get('type', default), vis_backends=None)
    given.pop('save_dir', None)
    # mmengine caches visualizers by name and could return that of another config
    visualizer = VISUALIZERS.build(dict(given, name=f'browse_{uuid4().hex}'))
    visualizer.dataset_meta = metainfo
    return visualizer


def draw(
    visualizer: Visualizer, title: str, packed: dict, style: PairStyle
) -> np.ndarray:
    """Draw one packed sample as a row of panels."""
    sample = packed['data_samples']
    images = packed_images(packed['inputs'], sample.metainfo)
    row = sample_row(visualizer, images, sample, 'gt', style)
    text = caption(sample, visualizer.dataset_meta)
    text = ', '.join(part for part in (title, text) if part)
    return titled(row, text) if text else row


def caption(sample: Any, metainfo: dict) -> str:
    """Caption with what cannot be drawn: the class of an image."""
    if 'gt_label' not in sample:
        return ''
    classes = metainfo.get('classes') or ()
    labels = np.atleast_1d(sample.gt_label.cpu().numpy()).tolist()
    names = [classes[k] if k < len(classes) else str(k) for k in labels]
    return f'label {", ".join(names)}'


def save(picture: np.ndarray, path: Path) -> Path:
    """Write a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), picture[..., ::-1]):
        raise UserError(f'could not write {path}')
    return path


if __name__ == '__main__':
    raise SystemExit(cli.run(main))
