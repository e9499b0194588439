"""Speed of the paired pipeline compared with the stock pipeline run twice.

A paired sample has two images, so the fair comparison is with two samples of the host's
own pipeline: the same transforms on the same files with the same random numbers, one
modality after the other. Reports images per second of both and their ratio, for every
step and for the whole pipeline. Both run in this process, in turns.

Without --data the images are noise of 640x512 pixels.

    python tools/benchmark/pipeline.py
    python tools/benchmark/pipeline.py --data DIR --vis train/RGB --ir train/ir
"""

import argparse
import copy
import importlib
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from _timing import clock_for, environment, summarize
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope

import mmir  # noqa: F401  (before mmdet: it provides what an mmcv without ops lacks)
from mmir.cli import cli
from mmir.utils.files import write_json

Sample = dict | list[dict]
NAMES = ('rgb', 'ir')
STOCK, PAIRED = 'stock twice', 'paired'
MIXED = {'Mosaic': 3, 'MixUp': 1}


def steps_of(size: int) -> dict[str, dict[str, list[dict]]]:
    """Steps (name -> stock transforms) of three training pipelines of mmdet."""
    scale = (size, size)
    flip = dict(type='RandomFlip', prob=0.5)
    resize = dict(type='Resize', scale=scale, keep_ratio=True)
    pad = dict(type='Pad', size=scale, pad_val=dict(img=(114, 114, 114)))
    colors = dict(type='PhotoMetricDistortion')
    crop = dict(type='MinIoURandomCrop')
    expand = dict(type='Expand', ratio_range=(1, 2))
    mosaic = dict(type='Mosaic', img_scale=scale)
    affine = dict(type='RandomAffine', border=(-size // 2, -size // 2))
    mix_up = dict(type='MixUp', img_scale=scale)
    return {
        'simple': {'Resize, RandomFlip': [resize, flip]},
        'ssd': {
            'PhotoMetricDistortion': [colors],
            'Expand, MinIoURandomCrop, Resize, RandomFlip': [
                expand, crop, dict(resize, keep_ratio=False), flip,
            ],
        },
        'yolox': {
            'Mosaic': [mosaic],
            'RandomAffine': [affine],
            'MixUp': [mix_up],
            'YOLOXHSVRandomAug': [dict(type='YOLOXHSVRandomAug')],
            'RandomFlip, Resize, Pad': [flip, resize, pad],
        },
    }  # fmt: skip


def find_pairs(root: Path, folders: Sequence[str], number: int) -> list[dict[str, str]]:
    """List the first pairs of two folders, in order of their names.

    Raises:
        FileNotFoundError: A folder is empty, or the numbers of files differ.
    """
    listed = [sorted(p for p in (root / f).glob('*') if p.is_file()) for f in folders]
    if not listed[0] or len(listed[0]) != len(listed[1]):
        counts = ', '.join(
            f'{root / f}: {len(files)} files'
            for f, files in zip(folders, listed, strict=True)
        )
        raise FileNotFoundError(f'the folders do not hold pairs ({counts})')
    return [
        dict(zip(NAMES, map(str, pair), strict=True))
        for pair in list(zip(*listed, strict=True))[:number]
    ]


def write_pairs(root: Path, number: int) -> list[dict[str, str]]:
    """Write synthetic pairs: smooth noise, as JPEG."""
    rng = np.random.default_rng(0)
    pairs = []
    for k in range(number):
        pairs.append({name: str(root / f'{k}_{name}.jpg') for name in NAMES})
        for path in pairs[-1].values():
            coarse = rng.integers(0, 256, (32, 40, 3), np.uint8)
            cv2.imwrite(path, cv2.resize(coarse, (640, 512)))
    return pairs


def infos(pairs: Sequence[dict[str, str]], boxes: int) -> list[dict[str, Any]]:
    """Create data infos with random boxes for each pair."""
    rng = np.random.default_rng(0)
    found = []
    for k, paths in enumerate(pairs):
        height, width = cv2.imread(paths['rgb']).shape[:2]
        low = rng.uniform(0, (width * 0.8, height * 0.8), (boxes, 2))
        high = np.minimum(low + rng.uniform(20, 120, (boxes, 2)), (width, height))
        instances = [
            dict(bbox=box.tolist(), bbox_label=0, ignore_flag=0)
            for box in np.concatenate([low, high], 1)
        ]
        info = dict(img_id=k, height=height, width=width, instances=instances)
        found.append(dict(info, img_paths=paths, img_path=paths['rgb']))
    return found


class Stock:
    """The host's transforms, run on one modality after the other."""

    def __init__(self, transforms: Sequence[dict]) -> None:
        self.run = Compose(copy.deepcopy(list(transforms)))

    def load(self, info: dict) -> Sample:
        """Load each modality as a separate sample."""
        return [
            self.run(dict(copy.deepcopy(info), img_path=info['img_paths'][name]))
            for name in NAMES
        ]

    def __call__(self, samples: Sample, seed: int) -> Sample | None:
        """Transform the samples of all modalities, each with the same seed."""
        done = []
        for sample in samples:
            seed_all(seed)
            done.append(self.run(sample))
        return None if None in done else done


class Paired:
    """The same transforms on paired samples."""

    def __init__(self, transforms: Sequence[dict]) -> None:
        self.run = Compose(copy.deepcopy(list(transforms)))

    def load(self, info: dict) -> Sample:
        """Load all modalities as one sample."""
        return self.run(copy.deepcopy(info))

    def __call__(self, sample: Sample, seed: int) -> Sample | None:
        """Transform the sample; seeds as often as the stock pipeline, for fairness."""
        for _ in NAMES:
            seed_all(seed)
        return self.run(sample)


def seed_all(seed: int) -> None:
    """Seed the random generators the hosts use."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def with_parts(sample: Sample, parts: Sequence[Sample]) -> Sample:
    """Add the samples to mix in to a sample."""
    if not parts:
        return sample
    if isinstance(sample, list):
        return [
            dict(one, mix_results=[p[k] for p in parts]) for k, one in enumerate(sample)
        ]
    return dict(sample, mix_results=list(parts))


class Pipeline:
    """Stock or paired pipeline: a loader, and its steps by name."""

    def __init__(self, kind: str, recipe: dict[str, list[dict]]) -> None:
        label = dict(type='LoadAnnotations', with_bbox=True)
        with DefaultScope.overwrite_default_scope('mmdet'):
            if kind == STOCK:
                self.load = Stock([dict(type='LoadImageFromFile'), label]).load
                self.steps = {name: Stock(listed) for name, listed in recipe.items()}
                self.steps['pack'] = Stock([dict(type='PackDetInputs')])
            else:
                self.load = Paired([dict(type='mmir.LoadPairedImages'), label]).load
                self.steps = {
                    name: Paired([dict(type='mmir.PairedTransform', transforms=listed)])
                    for name, listed in recipe.items()
                }
                self.steps['pack'] = Paired([dict(type='mmir.PackPairedInputs')])

    def parts(self, name: str, data: Sequence[dict], k: int) -> list[Sample]:
        """Load the samples that a step mixes into the k-th sample."""
        count = MIXED.get(name, 0)
        return [self.load(data[(k + j + 1) % len(data)]) for j in range(count)]

    def time(
        self, data: Sequence[dict], clock: Callable[[], float]
    ) -> dict[str, float]:
        """Seconds of each step, and of the whole pipeline, for all samples."""
        spent = dict.fromkeys(['load', *self.steps], 0.0)
        for k, info in enumerate(data):
            start = clock()
            sample = self.load(info)
            spent['load'] += clock() - start
            for name, step in self.steps.items():
                start = clock()
                parts = self.parts(name, data, k)
                spent['load'] += clock() - start
                given, out, attempt = with_parts(sample, parts), None, 0
                while out is None:  # a crop may find no box
                    again = copy.deepcopy(given)
                    start = clock()
                    out = step(again, 100 * k + attempt)
                    spent[name] += clock() - start
                    attempt += 1
                sample = out
        return spent | {'whole': sum(spent.values())}


def measure(
    recipe: dict[str, list[dict]], data: Sequence[dict], rounds: int, threads: int
) -> list[dict[str, Any]]:
    """Table rows: images per second, stock and paired, and their ratio."""
    clock = clock_for('cpu', threads)
    pipelines = {kind: Pipeline(kind, recipe) for kind in (STOCK, PAIRED)}
    taken: dict[str, list[dict[str, float]]] = {kind: [] for kind in pipelines}
    for k in range(rounds + 1):
        for kind in list(pipelines)[:: -1 if k % 2 else 1]:
            spent = pipelines[kind].time(data, clock)
            if k:  # the first round warms up
                taken[kind].append(spent)
    images = len(NAMES) * len(data)
    rows = []
    for name in taken[STOCK][0]:
        times = {kind: [spent[name] for spent in taken[kind]] for kind in taken}
        summary = summarize(times, PAIRED)
        rows.append(
            dict(
                step=name,
                # ratio of speeds: time of stock over time of paired, within a round
                ratio=summary[STOCK]['ratio'][1],
                best_ratio=min(times[STOCK]) / min(times[PAIRED]),
                **{k: 1e3 * images / summary[k]['ms'][1] for k in (STOCK, PAIRED)},
            )
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown table of the rows."""
    lines = [
        '| step | stock, images/s | paired, images/s | ratio | ratio of the best |',
        '|---|---|---|---|---|',
    ]
    lines += [
        f'| {r["step"]} | {r[STOCK]:.0f} | {r[PAIRED]:.0f} | {r["ratio"]:.2f} | '
        f'{r["best_ratio"]:.2f} |'
        for r in rows
    ]
    return '\n'.join(lines)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--data', type=Path, help='folder of real pairs')
    add('--vis', default='train/RGB', help='folder of RGB images in --data')
    add('--ir', default='train/thermal_8_bit', help='infrared images, same order')
    add('--pipelines', nargs='+', choices=steps_of(64), default=[*steps_of(64)])
    add('--size', type=int, default=640, help='image size in pixels')
    add('--pairs', type=int, default=8)
    add('--boxes', type=int, default=8, help='boxes per pair')
    add('--rounds', type=int, default=7)
    add('--threads', type=int, default=1)
    add('--out', type=Path, default=Path('work_dirs/benchmark/pipeline.json'))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print and write a JSON file; return the results."""
    args = parse(arguments)
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    importlib.import_module('mmdet.datasets.transforms')
    result = dict(pipelines={})
    with tempfile.TemporaryDirectory() as folder:
        if args.data:
            pairs = find_pairs(args.data, (args.vis, args.ir), args.pairs)
        else:
            pairs = write_pairs(Path(folder), args.pairs)
        data = infos(pairs, args.boxes)
        for name in args.pipelines:
            recipe = steps_of(args.size)[name]
            rows = measure(recipe, data, args.rounds, args.threads)
            result['pipelines'][name] = rows
            print(f'\n{name}\n{table(rows)}', flush=True)
    options = {k: v for k, v in vars(args).items() if k not in ('out', 'data')}
    result['environment'] = environment('cpu', real=bool(args.data), **options)
    write_json(result, args.out, indent=1)
    return result


if __name__ == '__main__':
    sys.exit(cli.run(main))
