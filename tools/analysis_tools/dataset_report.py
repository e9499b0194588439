"""Report on a dataset: images, boxes, intensities, spatial frequencies per modality.

    python tools/analysis_tools/dataset_report.py CONFIG --split train
    python tools/analysis_tools/dataset_report.py rgb=FOLDER ir=FOLDER

Images are measured as loaded: after radiometry and registration, if the pipeline has
them, but before any augmentation or resizing. Writes report.md, report.json and
report.png, and prints `modalities` with mean and std for the paired preprocessors.
"""

import argparse
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from _dataset_markdown import markdown
from tqdm import tqdm

import mmir  # noqa: F401 - before any host: it stands in for missing mmcv operators
from mmir.cli import cli
from mmir.data.images import ImageReadError, list_images, read_image
from mmir.data.statistics import (
    DatasetStatistics,
    Intensity,
    Measured,
    describe_boxes,
    measure,
)
from mmir.structures import ABSENT, PairError
from mmir.utils.errors import UserError
from mmir.utils.files import few, write_json
from mmir.visualization.pipeline_stages import LoadedSamples, build_dataset, images_of
from mmir.visualization.spectra import save_dataset_figure

PERCENTILES = (1, 50, 99)
BINS = 64
FILES = ('report.md', 'report.json', 'report.png')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'data', nargs='+', help='config, or folders as NAME=FOLDER, paired by stem'
    )
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train')
    parser.add_argument('--number', type=int, help='number of random samples to use')
    parser.add_argument('--seed', type=int, default=0, help='seed of --number')
    parser.add_argument('--workers', type=int, default=4, help='threads')
    parser.add_argument(
        '--night-below',
        type=float,
        default=50,
        help='mean gray value of the RGB image, 0..255, below which it is night',
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/report'))
    parser.add_argument('--force', action='store_true', help='overwrite a report')
    cli.add_cfg_options(parser)
    return parser.parse_args(argv)


class Folders:
    """Images of several folders, paired by relative path without suffix."""

    def __init__(self, named: dict[str, Path]) -> None:
        self.files = {name: self._list(folder) for name, folder in named.items()}
        self.stems = sorted(set().union(*self.files.values()))
        self.metainfo: dict[str, Any] = {}
        self.transforms: list[str] = []

    @staticmethod
    def _list(folder: Path) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for path in list_images(folder):
            stem = str(path.with_suffix(''))
            if stem in found:
                raise UserError(
                    f'{found[stem]} and {folder / path} have the same stem; keep one'
                )
            found[stem] = folder / path
        return found

    def __len__(self) -> int:
        return len(self.stems)

    def info(self, index: int) -> dict:
        """Empty: folders have no labels."""
        return {}

    def __getitem__(self, index: int) -> dict:
        paths = {k: files.get(self.stems[index]) for k, files in self.files.items()}
        images = {
            name: np.zeros((1, 1, 1), np.uint8) if path is None else _read(path)
            for name, path in paths.items()
        }
        gone = tuple(name for name, path in paths.items() if path is None)
        return {'modalities': tuple(images), 'imgs': images, ABSENT: gone}


def _read(path: Path) -> np.ndarray:
    """Read an image as (H, W, 1 or 3)."""
    img = read_image(str(path))
    return img[..., None] if img.ndim == 2 else img[..., :3]


def find_source(args: argparse.Namespace) -> Folders | LoadedSamples:
    """Open the data given on the command line.

    Raises:
        UserError: It is neither one config nor folders.
    """
    named = [item.partition('=') for item in args.data]
    if all(equal for _, equal, _ in named):
        return Folders({name: Path(folder) for name, _, folder in named})
    if len(args.data) > 1:
        raise UserError('give one config, or folders as NAME=FOLDER, not both')
    cfg = cli.load_config(args.data[0], args.cfg_options)
    return LoadedSamples(build_dataset(cfg, args.split))


def main(argv: Sequence[str] | None = None) -> dict:
    args = parse_args(argv)
    if args.workers < 1 or (args.number is not None and args.number < 1):
        raise UserError('--workers and --number must be at least 1')
    there = [name for name in FILES if (args.out / name).exists()]
    if there and not args.force:
        raise UserError(
            f'{args.out} already holds {few(there)}; choose another folder with --out, '
            'or use --force to overwrite'
        )
    source = find_source(args)
    order = np.random.default_rng(args.seed).permutation(len(source))
    chosen = sorted(order[: args.number].tolist())
    statistics, skipped, pixels = run(source, chosen, args.workers)
    if not statistics.samples:
        raise UserError('no image could be read')
    report = {
        'source': list(args.data),
        'split': args.split if isinstance(source, LoadedSamples) else None,
        'samples': statistics.samples,
        'of': len(source),
        'unreadable': skipped,
        'complete': statistics.complete,
        'measured_after': source.transforms,
        'modalities': modality_rows(statistics),
        'correlation': {
            f'{a}, {b}': bands
            for (a, b), bands in statistics.mean_correlation().items()
        },
        'brightness': brightness_of(statistics, args.night_below),
        'labels': labels_of(source, chosen, pixels),
    }
    write_json(report, args.out / 'report.json')
    text = markdown(report)
    (args.out / 'report.md').write_text(text, encoding='utf-8')
    save_dataset_figure(args.out / 'report.png', report)
    print(text)
    print(f'{", ".join(FILES)} in {args.out}')
    return report


def run(
    source: Any, chosen: Sequence[int], workers: int
) -> tuple[DatasetStatistics, int, np.ndarray]:
    """Measure the samples.

    Returns:
        tuple: Statistics, number of unreadable samples, pixels per class (256,).
    """

    def one(index: int) -> tuple[Measured, np.ndarray | None] | None:
        try:
            sample = source[index]
        except (ImageReadError, PairError) as error:
            raise UserError(f'sample {index}: {error}') from error
        if sample is None:
            return None
        classes = sample.get('gt_seg_map')
        if classes is not None:
            classes = np.bincount(classes.ravel(), minlength=256)[:256]
        return measure(images_of(sample), sample.get(ABSENT, ())), classes

    statistics, skipped, pixels = DatasetStatistics(), 0, np.zeros(256, np.int64)
    with ThreadPoolExecutor(workers) as pool:
        # in sample order, so the result does not depend on the number of workers
        for found in tqdm(
            _ahead(pool, one, chosen, 2 * workers), 'images', len(chosen)
        ):
            if found is None:
                skipped += 1
                continue
            sample, classes = found
            try:
                statistics.add(sample)
            except ValueError as error:
                raise UserError(str(error)) from error
            if classes is not None:
                pixels += classes
    return statistics, skipped, pixels


def _ahead(
    pool: ThreadPoolExecutor, work: Any, items: Sequence, count: int
) -> Iterator:
    """Yield results in order, at most `count` tasks ahead: results can be large."""
    waiting: list = []
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= count:
            yield waiting.pop(0).result()
    for task in waiting:
        yield task.result()


def modality_rows(statistics: DatasetStatistics) -> dict[str, dict]:
    """Describe each modality in JSON types."""
    rows = {}
    for name, values in statistics.intensity.items():
        spectrum = statistics.spectrum[name]
        frequency, power = spectrum.radial()
        rows[name] = {
            'images': sum(statistics.sizes[name].values()),
            'absent': statistics.absent[name],
            'sizes': {
                f'{w}x{h}': n for (w, h), n in statistics.sizes[name].most_common()
            },
            'type': str(values.kind),
            'bits': values.bits,
            'channels': len(values.mean),
            'grey': values.gray,
            'mean': values.mean.tolist(),
            'std': values.std.tolist(),
            'low': values.low,
            'high': values.high,
            'percentiles': values.percentiles(PERCENTILES),
            'saturated': values.saturated(),
            'histogram': histogram_of(values),
            'energy': spectrum.shares(),
            'constant': spectrum.constant,
            'spectrum': {'frequency': frequency, 'power': power},
        }
    return rows


def histogram_of(values: Intensity) -> dict | None:
    """Reduce the histogram to a few bins over the range of the values."""
    if values.histogram is None:
        return None
    counts = values.histogram.sum(0)
    low, high = (0, 255) if counts.size == 256 else (int(values.low), int(values.high))
    used = np.arange(low, high + 1)
    edges = np.linspace(low, high + 1, BINS + 1)
    shares, _ = np.histogram(used, edges, weights=counts[low : high + 1] / counts.sum())
    scale = (edges - low) / (high + 1 - low)
    return {'range': [low, high], 'edges': scale.tolist(), 'shares': shares.tolist()}


def brightness_of(statistics: DatasetStatistics, night_below: float) -> dict | None:
    """Classify day and night by the brightness of the first color modality."""
    color = [
        name
        for name, values in statistics.intensity.items()
        if not values.gray and values.kind == np.uint8
    ]
    if not color:
        return None
    light = np.array(statistics.brightness[color[0]])
    counts, edges = np.histogram(light, np.arange(0, 257, 8))
    night = int((light < night_below).sum())
    return {
        'modality': color[0],
        'night_below': night_below,
        'night': night,
        'day': len(light) - night,
        'counts': counts.tolist(),
        'edges': edges.tolist(),
    }


def labels_of(source: Any, chosen: Sequence[int], pixels: np.ndarray) -> dict | None:
    """Describe the labels: boxes, pixels per class, or image classes."""
    classes = list(source.metainfo.get('classes') or ())
    infos = [source.info(index) for index in chosen]
    if pixels.any():
        shares = pixels / pixels.sum()
        named = dict(zip(classes, shares.tolist(), strict=False))
        rest = float(shares[len(classes) :].sum())
        return {'unit': 'pixels, share', 'classes': named | {'other': rest}}
    if any('instances' in info for info in infos):
        kept = [
            [row for row in info.get('instances', ()) if not row.get('ignore_flag')]
            for info in infos
        ]
        flat = [row for rows in kept for row in rows]
        corners = np.array([row['bbox'] for row in flat], float).reshape(-1, 4)
        labels = np.array([row['bbox_label'] for row in flat], int)
        ignored = sum(len(info.get('instances', ())) for info in infos) - len(flat)
        sizes, counts = corners[:, 2:] - corners[:, :2], [len(rows) for rows in kept]
        found = describe_boxes(sizes, labels, counts, classes)
        return {'unit': 'boxes', 'ignored': ignored} | found
    if any('gt_label' in info for info in infos):
        labels = [np.atleast_1d(info['gt_label']) for info in infos]
        counts = np.bincount(np.concatenate(labels).astype(int), minlength=len(classes))
        names = [*classes, *map(str, range(len(classes), len(counts)))]
        return {
            'unit': 'images',
            'classes': dict(zip(names, counts.tolist(), strict=True)),
        }
    return None


if __name__ == '__main__':
    raise SystemExit(cli.run(main))
