"""Tables and JSON of the runs of `csknet_study.py`.

python tools/benchmark/csknet_study_report.py work_dirs/csknet
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from _csk_rows import ROWS
from _paired import difference, table

from mmir.cli import cli
from mmir.utils.files import atomic_path, write_json

SUBSETS = 'rgb+ir', 'rgb', 'ir'
BASELINES = {'rgb': 'rgb', 'ir': 'ir', 'rgb+ir': 'early'}  # of each subset


def by_seed(runs: Sequence[dict], row: str, subset: str) -> dict[int, float]:
    """Seed -> mIoU of a row on a subset of the modalities."""
    return {
        run['settings']['seed']: run['subsets'][subset]
        for run in runs
        if run['settings']['row'] == row and subset in run['subsets']
    }


def results_table(runs: Sequence[dict]) -> str:
    """mIoU of each row with each subset, and minus the baseline of the subset."""
    lines = []
    for row in ROWS:
        group = [run for run in runs if run['settings']['row'] == row]
        if not group:
            continue
        cells = []
        for subset in SUBSETS:
            own = by_seed(runs, row, subset)
            cells.append(percent([*own.values()]))
            baseline = BASELINES[subset]
            other = by_seed(runs, baseline, subset) if ROWS[row].reads == 'csk' else {}
            cells.append(difference(own, other, scale=1))
        minutes = sum(run['seconds'] for run in group) / len(group) / 60
        lines.append([row, len(group), *cells, f'{minutes:.1f}'])
    head = ['row', 'seeds']
    for subset in SUBSETS:
        head += [subset, f'minus {BASELINES[subset]}']
    return table([*head, 'minutes'], lines)


def percent(values: Sequence[float]) -> str:
    """Mean and standard deviation; the mean alone of a single value."""
    mean = f'{statistics.mean(values):.1f}' if values else ''
    return f'{mean} ± {statistics.stdev(values):.1f}' if len(values) > 1 else mean


def search_table(runs: Sequence[dict]) -> str:
    """Scores on held-out training images."""
    lines = []
    for run in runs:
        choice = ' '.join(f'{k}={v}' for k, v in run['settings']['choice'].items())
        values = [f'{run["subsets"][subset]:.1f}' for subset in SUBSETS]
        lines.append([run['settings']['row'], choice, *values])
    return table(['row', 'choice', *SUBSETS], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path, help='--out of csknet_study.py')
    folder = parser.parse_args().folder
    files = sorted(folder.glob('*/*/result.json'))
    runs = [json.loads(file.read_text()) for file in files]
    parts = []
    for held, title, make in (
        (True, 'Held-out training images', search_table),
        (False, 'Test images', results_table),
    ):
        group = [run for run in runs if run['settings']['held'] is held]
        if group:
            parts.append(f'#### {title}\n\n{make(group)}')
    text = '\n\n'.join(parts) + '\n'
    with atomic_path(folder / 'tables.md') as path:
        path.write_text(text)
    write_json(runs, folder / 'results.json')
    print(text)


if __name__ == '__main__':
    sys.exit(cli.run(main))
