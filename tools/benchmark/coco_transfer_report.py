"""Tables, curves and JSON of the runs of `coco_transfer.py`.

python tools/benchmark/coco_transfer_report.py work_dirs/coco_transfer
"""

import argparse
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path

from _paired import difference, table

from mmir.cli import cli
from mmir.cli.study import collect, grouped, mean_std
from mmir.utils.files import atomic_path, write_json
from mmir.visualization import save_curves

FINE_TUNING = 'full', 'frozen', 'head', 'norm'
SIZE = 416  # of the curves, in pixels
METRIC = 'mAP_50'


def by_seed(rows: Iterable[dict]) -> dict[int, float]:
    """MAP50 on the thermal test images, by seed."""
    return {row['settings']['seed']: score(row) for row in rows}


def score(row: dict, camera: str = 'thermal') -> float:
    """MAP50 of a run; 0 if nothing was detected."""
    return row[camera].get(METRIC, 0.0)


def ordered(names: Iterable[str]) -> list[str]:
    """Sort names of rows: fine-tuning, then adapters."""
    return sorted(names, key=lambda n: (_place(n), n))


def _place(name: str) -> int:
    """Place of a row: fine-tuning in the order of `FINE_TUNING`, then adapters."""
    kind = name.partition(',')[0]
    return FINE_TUNING.index(kind) if kind in FINE_TUNING else len(FINE_TUNING)


def named(runs: list[dict]) -> list[dict]:
    """Add the learning rate to the name of rows that were run at several."""
    rates: dict[str, set] = {}
    for run in runs:
        rates.setdefault(run['settings']['row'], set()).add(run['settings']['rate'])
    result = []
    for run in runs:
        name, rate = run['settings']['row'], run['settings']['rate']
        label = f'{name}, rate {rate:g}' if len(rates[name]) > 1 else name
        result.append(run | dict(settings=run['settings'] | dict(row=label)))
    return result


def results_table(runs: list[dict]) -> str:
    """MAP50 over the number of images, with costs, of one detector, task and size."""
    cells = grouped(runs, ['row', 'images'])
    counts = sorted({images for _, images in cells} - {0})
    usual = {n: max(len(g) for (_, i), g in cells.items() if i == n) for n in counts}
    lines = []
    for name in ordered({row for row, _ in cells}):
        line: list[str] = [name]
        for images in counts:
            group = cells.get((name, images), [])
            text = mean_std([score(row) for row in group]) if group else ''
            few = f' ({len(group)})' if group and len(group) < usual[images] else ''
            line.append(text + few)
        own = [row for row in runs if row['settings']['row'] == name]
        size = own[0]['adapter_bytes']
        line += [
            f'{own[0]["trainable"]:,}',
            f'{size / 2**20:.2f} MiB' if size else '',
            f'{statistics.mean(row["seconds"] for row in own) / 60:.1f}',
            mean_std([score(row, 'rgb') for row in own]),
        ]
        lines.append(line)
    head = ['row', *(f'{n} images' for n in counts)]
    head += ['trainable', 'adapter file', 'minutes', 'mAP50 left on RGB']
    return table(head, lines)


def difference_table(runs: list[dict], images: int) -> str:
    """Differences of the adapter rows to the fine-tuning rows, in points of mAP50."""
    cells = grouped([r for r in runs if r['settings']['images'] == images], ['row'])
    scores = {row: by_seed(group) for (row,), group in cells.items()}
    rows = ordered(scores)
    names = [n for n in rows if _place(n) == len(FINE_TUNING)]
    baselines = [n for n in rows if n not in names]
    lines = [
        [
            name,
            *(
                difference(by_seed(cells[name,]), by_seed(cells[other,]))
                for other in baselines
            ),
        ]
        for name in names
    ]
    return table([f'{images} images', *(f'minus {b}' for b in baselines)], lines)


def search_table(runs: list[dict]) -> str:
    """All runs that chose settings, on held-out training images."""
    keys = ['detector', 'task', 'images', 'row', 'rate', 'factor', 'steps', 'batch']
    keys += ['augment', 'options']
    lines = []
    for key, group in grouped(runs, keys).items():
        lines.append(
            [
                *key,
                mean_std([score(row) for row in group]),
                mean_std([score(row, 'rgb') for row in group]),
            ]
        )
    return table([*keys, 'held out', 'RGB'], lines)


def report(runs: list[dict]) -> str:
    """Markdown of all tables of test results."""
    parts = []
    for key, group in grouped(runs, ['task', 'detector', 'size']).items():
        parts.append(f'#### {key[0]}, {key[1]}, {key[2]} px')
        zero = [row for row in group if not row['settings']['images']]
        rest = named([row for row in group if row['settings']['images']])
        if zero:
            parts.append(
                f'0 images: mAP50 {score(zero[0]):.3f}, on RGB images '
                f'{score(zero[0], "rgb"):.3f}.'
            )
        if rest:
            parts.append(results_table(rest))
        for images in sorted({row['settings']['images'] for row in rest}):
            parts.append(difference_table(rest, images))
    return '\n\n'.join(parts)


def curves(runs: list[dict], path: Path) -> None:
    """Plot mAP50 over the number of images, one panel per detector and task."""
    panels: dict[str, dict] = {}
    for key, group in grouped(runs, ['task', 'detector', 'row', 'images']).items():
        lines = panels.setdefault(f'{key[0]}, {key[1]}: mAP50', {})
        x, y = lines.setdefault(key[2], ([], []))
        x.append(key[3])
        y.append(statistics.mean(score(row) for row in group))
    save_curves(path, panels, 'thermal images')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path, help='--out of coco_transfer.py')
    args = parser.parse_args()
    test, held = (collect(args.folder / n / 'runs') for n in ('test', 'held_out'))
    text = f'{report(test)}\n\n#### Search\n\n{search_table(held)}\n'
    with atomic_path(args.folder / 'tables.md') as path:
        path.write_text(text)
    write_json(dict(test=test, held_out=held), args.folder / 'results.json')
    trained = [
        run
        for run in test
        if run['settings']['images'] and run['settings']['size'] == 416
    ]
    if trained:
        curves(trained, args.folder / 'curves.png')
    print(text)


if __name__ == '__main__':
    sys.exit(cli.run(main))
