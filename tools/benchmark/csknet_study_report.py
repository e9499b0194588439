"""Tables, a plot and JSON of the runs of `csknet_study.py`.

python tools/benchmark/csknet_study_report.py work_dirs/csknet
python tools/benchmark/csknet_study_report.py docs/results/csknet.json --task field
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from _csk_rows import ROWS
from _paired import difference, spread, table
from _score_plot import save_plot

from mmir.cli import cli
from mmir.utils.files import atomic_path, write_json

SUBSETS = 'rgb+ir', 'rgb', 'ir'
BASELINES = {'rgb': 'rgb', 'ir': 'ir', 'rgb+ir': 'early'}  # of each subset
MAIN_SEEDS, PART_SEEDS = 5, 3
"""Seeds of the main rows and of the parts. Later ones are fresh, for a few parts."""
MAIN_ROWS = 'rgb', 'ir', 'early', 'csk', 'csk, teacher ir', 'csk, teacher rgb'

Runs = Sequence[Mapping]
Reference = Callable[[str, str], str | None]
"""Row and subset -> the row it is compared with."""


def baseline(row: str, subset: str) -> str | None:
    """Baseline of a row of CSK-Net: the plain network on that subset."""
    return BASELINES[subset] if ROWS[row].reads == 'csk' else None


def whole(row: str, subset: str) -> str | None:
    """CSK-Net from which a row differs in one part."""
    parent = row.rpartition(', ')[0]
    return parent if parent in ROWS else None


def by_seed(runs: Runs, row: str, subset: str, key: str = 'subsets') -> dict:
    """Seed -> mIoU of a row on a subset of the modalities, the mean of its runs."""
    found: dict[int, list[float]] = {}
    for run in runs:
        if run['settings']['row'] == row and subset in (run.get(key) or {}):
            found.setdefault(run['settings']['seed'], []).append(run[key][subset])
    return {seed: statistics.mean(values) for seed, values in found.items()}


def results_table(runs: Runs, rows: Iterable[str], reference: Reference) -> str:
    """mIoU of rows with each subset, and minus that of the row of reference."""
    lines = []
    for row in rows:
        seeds = {r['settings']['seed'] for r in runs if r['settings']['row'] == row}
        if not seeds:
            continue
        cells = []
        for subset in SUBSETS:
            own = by_seed(runs, row, subset)
            other = by_seed(runs, reference(row, subset), subset)
            cells += [spread([*own.values()]), difference(own, other, scale=1)]
        lines.append([row, len(seeds), *cells])
    head = ['row', 'seeds']
    for subset in SUBSETS:
        head += [subset, 'difference']
    return table(head, lines)


def recalibrated_table(runs: Runs) -> str:
    """mIoU of each camera alone with new statistics of the norms, minus without."""
    lines = []
    for row in MAIN_ROWS:
        for camera in ('rgb', 'ir'):
            new = by_seed(runs, row, camera, 'recalibrated')
            if new:
                old = by_seed(runs, row, camera)
                change = difference(new, old, scale=1)
                lines.append([row, camera, spread([*new.values()]), change])
    return table(['row', 'camera', 'recalibrated', 'difference'], lines)


def search_table(runs: Runs) -> str:
    """Scores on held-out training images."""
    lines = []
    for run in runs:
        choice = ' '.join(f'{k}={v}' for k, v in run['settings']['choice'].items())
        values = [f'{run["subsets"][subset]:.1f}' for subset in SUBSETS]
        lines.append([run['settings']['row'], choice, *values])
    return table(['row', 'choice', *SUBSETS], lines)


def panels(runs: Runs) -> dict[str, dict[str, list[float]]]:
    """Subset -> row -> mIoU of each seed."""
    found = {run['settings']['row'] for run in runs}
    rows = [row for row in ROWS if row in found]
    return {
        subset: {row: [*by_seed(runs, row, subset).values()] for row in rows}
        for subset in SUBSETS
    }


def below(runs: Runs, seeds: int) -> Runs:
    """Runs on the test images with the first seeds."""
    return [
        run
        for run in runs
        if not run['settings']['held'] and run['settings']['seed'] < seeds
    ]


def fresh_table(runs: Runs, parts: Iterable[str]) -> str:
    """mIoU of parts with fresh seeds minus the baseline, beside their first seeds."""
    lines = []
    test = [run for run in runs if not run['settings']['held']]
    for row in parts:
        if not any(seed >= PART_SEEDS for seed in by_seed(test, row, 'ir')):
            continue
        for subset in SUBSETS:
            name = baseline(row, subset)
            own, other = by_seed(test, row, subset), by_seed(test, name, subset)
            first = {seed: v for seed, v in own.items() if seed < PART_SEEDS}
            fresh = {seed: v for seed, v in own.items() if seed >= PART_SEEDS}
            cells = [difference(group, other, scale=1) for group in (first, fresh, own)]
            lines.append([row, subset, name, *cells])
    return table(['row', 'images', 'minus', 'first seeds', 'fresh seeds', 'all'], lines)


def report(runs: Runs) -> str:
    """All tables that there are runs for, as Markdown."""
    held = [run for run in runs if run['settings']['held']]
    main, first = below(runs, MAIN_SEEDS), below(runs, PART_SEEDS)
    parts = [row for row in ROWS if row not in MAIN_ROWS]
    wholes = [row for row in MAIN_ROWS if whole(row, '')]
    made = {
        'Held-out training images': search_table(held),
        'Main rows, minus the baseline': results_table(main, MAIN_ROWS, baseline),
        'With a teacher, minus without': results_table(main, wholes, whole),
        'One part changed, minus CSK-Net': results_table(first, parts, whole),
        'One part changed, minus the baseline': results_table(first, parts, baseline),
        'Fresh seeds': fresh_table(runs, parts),
        'New statistics for one camera': recalibrated_table(main),
    }
    return '\n\n'.join(
        f'#### {title}\n\n{text}'
        for title, text in made.items()
        if text.count('\n') > 1  # not only the head
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'source', type=Path, help='--out of csknet_study.py, or csknet.json'
    )
    parser.add_argument('--task', default='field', help='of csknet.json')
    args = parser.parse_args()
    source = args.source
    if source.is_file():
        print(report(json.loads(source.read_text())[args.task]))
        return
    files = sorted(source.glob('*/*/result.json'))
    runs = [json.loads(file.read_text()) for file in files]
    text = report(runs) + '\n'
    with atomic_path(source / 'tables.md') as path:
        path.write_text(text)
    write_json(runs, source / 'results.json')
    if test := below(runs, MAIN_SEEDS):
        path = source / 'scores.png'
        save_plot(panels(test), BASELINES, 'mIoU in percent', path)
    print(text)


if __name__ == '__main__':
    sys.exit(cli.run(main))
