"""Predictions of networks of `csknet_study.py` with both cameras and with one.

python tools/benchmark/csknet_study_pictures.py --data FOLDER --weights FOLDER
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from _csk_rows import ROWS
from _csk_tasks import TASKS
from csknet_study import Run, run_config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import nn

from mmir.cli import cli
from mmir.structures import ABSENT
from mmir.utils.files import atomic_path
from mmir.visualization.labeled import packed_images
from mmir.visualization.pairs import side_by_side, stacked, titled

COLORS = np.array([[90, 70, 50], [60, 220, 60], [230, 40, 40], *[[160] * 3] * 20])
IGNORED = np.array([0, 0, 0])
WIDTH = 240  # of a panel, in pixels


def colored(labels: np.ndarray, colors: np.ndarray = COLORS) -> np.ndarray:
    """Picture of labels (H, W); unlabeled pixels are black."""
    known = np.where(labels == 255, 0, labels)
    picture = np.where((labels == 255)[..., None], IGNORED, colors[known])
    return picture.astype(np.uint8)


def network(row: str, seed: int, args: argparse.Namespace) -> tuple[nn.Module, dict]:
    """Trained network of a row, and its test loader."""
    run = Run(row, seed)
    cfg = run_config(run, args)
    init_default_scope(cfg.default_scope)
    cfg.model.pop('teacher', None)
    cfg.model.backbone.init_cfg = None
    runner = Runner.from_cfg(cfg)
    weights = torch.load(run.folder(args.out) / 'model.pth', weights_only=True)
    state = {k: v for k, v in weights['state_dict'].items() if 'teacher.' not in k}
    runner.model.load_state_dict(state)
    return runner.model.eval(), runner.build_dataloader(cfg.test_dataloader)


@torch.no_grad()
def predictions(
    model: nn.Module, batch: dict, cameras: tuple[str, ...], subsets: list[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Predict with subsets of the cameras: subset, labels (H, W)."""
    for subset in subsets:
        for sample in batch['data_samples']:
            gone = set(cameras) - set(subset.split('+'))
            sample.set_metainfo({ABSENT: sorted(gone)})
        inputs = [x.clone() for x in batch['inputs']]
        found = model.test_step(dict(batch, inputs=inputs))[0]
        yield subset, found.pred_sem_seg.data[0].cpu().numpy()


def panels(args: argparse.Namespace) -> list[np.ndarray]:
    """A line of pictures per image: cameras, labels, and what each row finds."""
    cameras = TASKS[args.task].modalities
    lines: dict[int, list[np.ndarray]] = {}
    for number, row in enumerate(args.rows):
        model, loader = network(row, args.seed, args)
        reads = ROWS[row].reads
        both = ['+'.join(cameras), *cameras]
        subsets = [reads] if reads in cameras else both
        palette = type(loader.dataset).METAINFO.get('palette')
        colors = np.array(palette) if palette else COLORS
        for index, batch in enumerate(loader):
            if index not in args.images:
                continue
            sample = batch['data_samples'][0]
            line = lines.setdefault(index, [])
            if number == 0:
                images = packed_images(batch['inputs'][0], sample.metainfo)
                line += [panel(image, name) for name, image in images.items()]
                truth = sample.gt_sem_seg.data[0].numpy()
                line.append(panel(colored(truth, colors), 'labels'))
            for subset, labels in predictions(model, batch, cameras, subsets):
                line.append(panel(colored(labels, colors), f'{row}: {subset}'))
    return [side_by_side(line) for _, line in sorted(lines.items())]


def panel(picture: np.ndarray, title: str) -> np.ndarray:
    """Picture (H, W, 3) of the width of a panel, with a title."""
    height = round(WIDTH * picture.shape[0] / picture.shape[1])
    small = cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_NEAREST)
    return titled(small, title)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, required=True, help='real images')
    parser.add_argument('--weights', type=Path, required=True, help='of MobileNetV2')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/csknet'))
    parser.add_argument('--task', choices=TASKS, default='field')
    parser.add_argument(
        '--rows', nargs='+', choices=ROWS, default=['rgb', 'ir', 'early', 'csk']
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--images', nargs='+', type=int, default=[0, 7, 14])
    args = parser.parse_args()
    for path in ('data', 'weights', 'out'):
        setattr(args, path, getattr(args, path).resolve())
    from PIL import Image

    picture = Image.fromarray(stacked(panels(args)))
    target = args.out / 'predictions.png'
    with atomic_path(target) as part:
        picture.save(part, format='png')
    print(target)


if __name__ == '__main__':
    sys.exit(cli.run(main))
