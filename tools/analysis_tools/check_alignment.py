"""Find misaligned image pairs.

    python tools/analysis_tools/check_alignment.py CONFIG --split test
    python tools/analysis_tools/check_alignment.py THERMAL_FOLDER RGB_FOLDER
    python tools/analysis_tools/check_alignment.py data --folder ir rgb --suffix .jpg
    python tools/analysis_tools/check_alignment.py data --prefix ir_ rgb_

The shift of every pair is measured by correlating edges; `mmir.data.alignment`
describes what this can detect and what it cannot. Writes `alignment.json` with all
pairs and `worst.png` with the most misaligned ones.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from mmir.cli import cli
from mmir.data.alignment import RELIABLE, Alignment, PairFiles, edge_map, measure_files
from mmir.data.images import list_images, read_image
from mmir.data.layouts.seg import Listings
from mmir.data.pairing import PairRule, PairRuleError
from mmir.utils.errors import UserError
from mmir.utils.files import few, write_json

TILE = 48  # tile of the checkerboard, in pixels


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'source', help=f'{cli.CONFIG_HELP}, or folder of the reference images'
    )
    parser.add_argument('partners', nargs='?', help='folder of the other images')
    rule = parser.add_argument_group('file names of the other images')
    rule.add_argument('--folder', nargs=2, metavar=('OLD', 'NEW'))
    rule.add_argument(
        '--prefix', nargs=2, metavar=('OLD', 'NEW'), help='start of the name'
    )
    rule.add_argument('--stem', nargs=2, metavar=('OLD', 'NEW'), help='end of the stem')
    rule.add_argument('--suffix', help='such as .png; default: any image suffix')
    parser.add_argument('--split', default='test', choices=['train', 'val', 'test'])
    parser.add_argument(
        '--modalities',
        nargs=2,
        default=['ir', 'rgb'],
        metavar=('REFERENCE', 'MOVING'),
        help='modalities of the config to compare; default: ir rgb',
    )
    parser.add_argument('--window', type=int, default=32, help='largest shift, pixels')
    parser.add_argument(
        '--threshold', type=float, default=4.0, help='report shifts above, pixels'
    )
    parser.add_argument(
        '--resize', action='store_true', help='resize to the reference image'
    )
    parser.add_argument('--worst', type=int, default=8, help='pairs to draw')
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/alignment'))
    cli.add_cfg_options(parser)
    return parser.parse_args(argv)


def pairs_of_folders(
    args: argparse.Namespace,
) -> tuple[list[PairFiles], list[str], list[str]]:
    """Pair the files of folders.

    Returns:
        The pairs, the images without a partner, and the unused files of the partners'
        folder.
    """
    source = Path(args.source)
    changes = {
        key: tuple(value)
        for key in ('folder', 'prefix', 'stem')
        if (value := getattr(args, key)) is not None
    }
    rule = PairRule(**changes, suffix=args.suffix)
    if not (args.partners or changes):
        raise UserError(
            'name the folder of the other images, or give --folder, --prefix or --stem '
            'OLD NEW'
        )
    pairs, unpaired, used, listings = [], [], set(), Listings()
    names = list_images(source)
    if not args.partners:  # the source also holds the partners
        names = [name for name in names if fits(rule, source / name)]
        if not names:
            what = (
                f'below a folder {args.folder[0]!r}' if args.folder else f'for {rule}'
            )
            raise UserError(f'no images {what} in {source}')
    for name in names:
        start = name if args.partners else source / name
        try:
            partner = Path(args.partners or '', rule(start.as_posix()))
        except PairRuleError as error:
            unpaired.append(str(error))
            continue
        there = listings[str(partner.parent)].get(partner.stem, [])
        found = [
            partner.with_name(other)
            for other in there
            if other.lower().endswith((args.suffix or '').lower())
        ]
        if len(found) == 1:
            pairs.append(PairFiles(str(source / name), str(found[0])))
        else:
            detail = f'several: {few(found)}' if found else f'looked for {partner}'
            unpaired.append(f'{source / name} ({detail})')
        used.update(found)
    extra = []
    if args.partners:
        others = (
            Path(args.partners, name) for name in list_images(Path(args.partners))
        )
        extra = [str(path) for path in others if path not in used]
    return pairs, unpaired, extra


def fits(rule: PairRule, path: Path) -> bool:
    """Whether a rule applies to a file: it is of the reference camera."""
    try:
        rule(path.as_posix())
    except PairRuleError:
        return False
    return True


def pairs_of_config(
    args: argparse.Namespace,
) -> tuple[list[PairFiles], list[str], list[str]]:
    """Pair the files as the dataset of a config does; see `pairs_of_folders`."""
    from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope

    cfg = cli.load_config(args.source, args.cfg_options)
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    node = (cfg.get(f'{args.split}_dataloader') or {}).get('dataset') or {}
    steps = list(node.get('pipeline') or ())
    while 'dataset' in node:  # a wrapper such as mmir.PairedMixDataset
        node = node.dataset
        steps = [*(node.get('pipeline') or ()), *steps]
    loads = [t for t in steps if str(t.get('type')).endswith('LoadPairedImages')]
    if not loads:
        raise UserError(
            f'{args.source}: the {args.split} pipeline has no mmir.LoadPairedImages'
        )
    loader = TRANSFORMS.build(loads[0])
    if unknown := set(args.modalities) - set(loader.modalities):
        raise UserError(
            f'--modalities: {sorted(unknown)} not among {loader.modalities} of the '
            'config'
        )
    dataset = DATASETS.build(node | dict(pipeline=[]))
    first, second = args.modalities
    planes = (loader.loaders[first].planes, loader.loaders[second].planes)
    pairs, unpaired = [], []
    for k in range(len(dataset)):
        paths = loader.paths(dataset.get_data_info(k))
        gone = [
            m for m in (first, second) if not paths[m] or not Path(paths[m]).is_file()
        ]
        if gone:
            named = ', '.join(f'{m}: {paths[m] or "no file"}' for m in gone)
            unpaired.append(f'{paths[first] or paths[second]} ({named})')
        else:
            pairs.append(PairFiles(paths[first], paths[second], planes))
    return pairs, unpaired, []


def measure(pairs: Sequence[PairFiles], args: argparse.Namespace) -> list:
    """Measure all pairs: an Alignment per pair, or what is wrong with its files."""
    work = partial(measure_files, window=args.window, resize=args.resize)
    with ExitStack() as stack:
        done: Iterator = map(work, pairs)
        if args.workers > 1 and len(pairs) > 16:
            pool = stack.enter_context(ProcessPoolExecutor(args.workers))
            done = pool.map(work, pairs, chunksize=8)
        return list(tqdm(done, total=len(pairs), unit='pair', desc='alignment'))


def summarize(results: Sequence[Alignment], threshold: float) -> dict[str, float]:
    """Statistics over the measured pairs."""
    sure = [r for r in results if r.reliable]
    summary = {
        'measured': len(results),
        'low_confidence': len(results) - len(sure),
        'threshold': threshold,
    }
    if sure:
        summary |= {
            'median_shift': statistics.median(r.length for r in sure),
            'median_dx': statistics.median(r.shift[0] for r in sure),
            'median_dy': statistics.median(r.shift[1] for r in sure),
            'share_above': sum(r.length > threshold for r in sure) / len(sure),
            'median_at_zero': statistics.median(r.at_zero for r in sure),
            'median_at_best': statistics.median(r.at_best for r in sure),
        }
    return summary


def table(summary: dict[str, float], problems: dict[str, list[str]]) -> str:
    """Format the summary as text."""
    total, low = summary['measured'], summary['low_confidence']
    lines = [f'pairs measured               {total}']
    lines.append(f'  low confidence, left out   {low}')
    if 'median_shift' in summary:
        dx, dy = summary['median_dx'], summary['median_dy']
        above = f'|shift| > {summary["threshold"]:g} px'
        lines += [
            f'  median |shift|             {summary["median_shift"]:.2f} px',
            f'  median (dx, dy)            ({dx:+.2f}, {dy:+.2f}) px',
            f'  {above:<26} {100 * summary["share_above"]:.1f} %',
            f'  correlation as is / best   {summary["median_at_zero"]:.3f} / '
            f'{summary["median_at_best"]:.3f}',
        ]
    for kind, named in problems.items():
        if named:
            lines.append(f'{kind}: {len(named)}: {few(named)}')
    return '\n'.join(lines)


def worst_of(results: Sequence[tuple], count: int) -> list[tuple]:
    """The most misaligned reliable pairs, worst first."""
    sure = [pair for pair in results if pair[1].reliable]
    return sorted(sure, key=lambda pair: -pair[1].length)[:count]


def draw(worst: Sequence[tuple[PairFiles, Alignment]], path: Path) -> None:
    """Draw both images, a checkerboard, and the edges with the shift per pair."""
    figure = Figure(figsize=(16, 3.3 * len(worst)), layout='constrained')
    axes = figure.subplots(len(worst), 4, squeeze=False)
    for row, (files, result) in zip(axes, worst, strict=True):
        fixed, moving = map(shown, (files.reference, files.moving), files.planes)
        size = fixed.shape[1::-1]
        if moving.shape != fixed.shape:
            moving = cv2.resize(moving, size)
        dx, dy = result.shift
        rows, columns = np.indices(fixed.shape[:2]) // TILE
        board = np.where(((rows + columns) % 2 == 0)[..., None], fixed, moving)
        panels = (
            (fixed, Path(files.reference).name),
            (moving, Path(files.moving).name),
            (board, 'checkerboard'),
            (edges(fixed, moving), f'edges: shift ({dx:+.1f}, {dy:+.1f}) px'),
        )
        for ax, (picture, title) in zip(row, panels, strict=True):
            ax.imshow(picture)
            ax.set_title(title, fontsize=9)
            ax.axis('off')
        arrow(row[3], size, result)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def arrow(ax: Axes, size: tuple[int, int], result: Alignment) -> None:
    """Draw the shift as an arrow from the center, ten times its length."""
    start = (size[0] / 2, size[1] / 2)
    end = tuple(s + 10 * d for s, d in zip(start, result.shift, strict=True))
    style = dict(arrowstyle='->', color='yellow', linewidth=2)
    ax.annotate('', xy=end, xytext=start, arrowprops=style)
    note = f'confidence {result.confidence:.1f}, arrow x10'
    ax.text(4, size[1] - 6, note, color='yellow', fontsize=8)


def shown(path: str, planes: tuple[int, int] | None) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB; stretch all but 8-bit color."""
    img = read_image(path, planes=planes)
    gray = img.ndim == 2 or img.shape[2] < 3
    if gray or img.dtype != np.uint8:
        low, high = np.percentile(img, (1, 99))
        img = np.clip((img - low) * (255.0 / max(high - low, 1e-6)), 0, 255)
        img = img.astype(np.uint8)
    if gray:
        return cv2.merge([img if img.ndim == 2 else img[..., 0].copy()] * 3)
    return cv2.cvtColor(np.ascontiguousarray(img[..., :3]), cv2.COLOR_BGR2RGB)


def edges(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Draw the edges of the reference in cyan, of the other in red; common in white."""
    strength = [np.linalg.norm(edge_map(img), axis=2) for img in (fixed, moving)]
    cyan, red = (np.clip(255 * s, 0, 255).astype(np.uint8) for s in strength)
    return cv2.merge([red, cyan, cyan])


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    from_config = '::' in args.source or args.source.endswith('.py')
    pairs, unpaired, extra = (pairs_of_config if from_config else pairs_of_folders)(
        args
    )
    results = list(zip(pairs, measure(pairs, args), strict=True))
    good = [pair for pair in results if isinstance(pair[1], Alignment)]
    problems = {
        'without partner': unpaired,
        'unused partners': extra,
        'could not be measured': [r for _, r in results if isinstance(r, str)],
    }
    summary = summarize([result for _, result in good], args.threshold)
    rows = [
        dict(
            reference=files.reference,
            moving=files.moving,
            shift=list(result.shift),
            at_zero=result.at_zero,
            at_best=result.at_best,
            confidence=result.confidence,
            reliable=result.reliable,
        )
        for files, result in good
    ]
    settings = dict(window=args.window, reliable_from=RELIABLE, resize=args.resize)
    write_json(
        dict(settings=settings, summary=summary, problems=problems, pairs=rows),
        args.out / 'alignment.json',
    )
    print(table(summary, problems))
    if worst := worst_of(good, args.worst):
        draw(worst, args.out / 'worst.png')
        print(f'the worst {len(worst)}: {args.out / "worst.png"}')


if __name__ == '__main__':
    sys.exit(cli.run(main))
