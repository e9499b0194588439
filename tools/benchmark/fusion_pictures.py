"""Detections of rows of `fusion.py` with both cameras and with one of them missing.

python tools/benchmark/fusion_pictures.py coco --data FOLDER
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from fusion import STUDIES
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import nn

import mmir  # noqa: F401  the hosts need it before they load
from mmir.cli import cli
from mmir.structures import drop_modalities
from mmir.utils.checkpoint import load_checkpoint
from mmir.visualization import Panel, save_detection_grid
from mmir.visualization.color_maps import to_display
from mmir.visualization.labeled import packed_images

CAMERAS = 'rgb', 'ir'
MIN_SCORE = 0.3


def network(row: str, args: argparse.Namespace) -> tuple[nn.Module, Any]:
    """Trained detector of a row, and the test set."""
    folder = args.out / args.study / 'runs' / f'{row}_seed{args.seed}'
    cfg = STUDIES[args.study].config(row, args.seed, args.data, None, args.out)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model).eval()
    checkpoint = json.loads((folder / 'result.json').read_text())['checkpoint']
    model.load_state_dict(load_checkpoint(checkpoint)['state_dict'])
    return model, DATASETS.build(cfg.val_dataloader.dataset)


@torch.no_grad()
def panels(model: nn.Module, item: dict, row: str) -> Iterator[Panel]:
    """Detections in an image with both cameras, and with each of them."""
    pictures = packed_images(item['inputs'], item['data_samples'].metainfo)
    shown = {name: to_display(image[..., ::-1]) for name, image in pictures.items()}
    for gone in ((), ('ir',), ('rgb',)):
        batch = pseudo_collate([item])
        batch = drop_modalities(batch, list(gone)) if gone else batch
        found = model.test_step(batch)[0].pred_instances.cpu()
        left = '+'.join(name for name in CAMERAS if name not in gone)
        # boxes are in pixels of the file
        width, height = item['data_samples'].metainfo['scale_factor']
        scale = found.bboxes.new_tensor([width, height, width, height])
        yield Panel(
            shown['rgb' if left == 'rgb' else 'ir'],
            (found.bboxes * scale).numpy(),
            found.labels.numpy(),
            found.scores.numpy(),
            f'{row}: {left}',
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('study', choices=['street', 'coco'])
    parser.add_argument('--data', type=Path, required=True, help='folder of the pairs')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/fusion'))
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--rows', nargs='+', default=['add', 'shared'])
    parser.add_argument('--images', nargs='+', type=int, default=[0, 20, 40])
    args = parser.parse_args()
    grid: dict[int, list[Panel]] = {index: [] for index in args.images}
    for row in args.rows:
        model, data = network(row, args)
        for index, line in grid.items():
            line += panels(model, data[index], row)
    target = args.out / args.study / 'detections.png'
    save_detection_grid(target, [*grid.values()], data.metainfo['classes'], MIN_SCORE)
    print(target)


if __name__ == '__main__':
    sys.exit(cli.run(main))
