"""Tables and JSON of the runs of `vireid_study.py` or of `toplight_study.py`.

python tools/benchmark/vireid_study_report.py work_dirs/vireid
python tools/benchmark/vireid_study_report.py docs/results/vireid.json
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from _paired import difference, spread, table
from _runs import finished_runs
from _score_plot import save_plot
from _toplight_rows import PRETRAINING_RATE
from _toplight_rows import ROWS as LIGHT_ROWS
from _vireid_rows import CLIP
from _vireid_rows import ROWS as PEOPLE_ROWS
from _vireid_tasks import TASKS

from mmir.cli import cli
from mmir.evaluation import get_protocol
from mmir.utils.errors import UserError
from mmir.utils.files import write_json, write_text

MEASURES = dict(R1='rank-1', mAP='mAP', mINP='mINP')
PRETRAINING_LOSSES = dict(loss_identity='identity loss', loss_domain='domain loss')
LISTED = 8
"""Most classes of a pretraining that are listed."""
SIZES = dict(trainable='M parameters', macs='M MACs')
ROWS = {**PEOPLE_ROWS, **LIGHT_ROWS}
BASELINES = 'baseline', 'plain'
"""First row of each study."""
STEPS = (
    ('PedMix', 'baseline'),
    ('MFT', 'baseline'),
    ('TMPA', 'PedMix'),
    ('TMPA', 'MFT'),
    *((row, 'TMPA') for row in PEOPLE_ROWS if row.startswith('TMPA, ')),
    ('plain, FDR', 'plain'),
    ('plain, two paths', 'plain'),
    ('TOP, L_id', 'plain, two paths'),
    ('TOP, L_idc', 'TOP, L_id'),
    ('TOP, L_idc + L_fd', 'TOP, L_idc'),
    ('TOP, soup', 'TOP, L_idc + L_fd'),
    ('TOP, soup', 'generic, soup'),
    ('TOP, soup, FDR', 'TOP, soup'),
    ('TOP, soup, FDR', 'plain, FDR'),
    ('TOP, soup, FDR', 'ResNet-50'),
)
"""Rows and the one that lacks the part, or has another in its place."""


def by_seed(
    runs: Sequence[dict], row: str, protocol: str, name: str, key: str = 'values'
) -> dict:
    """Seed -> a measure of a row."""
    return {
        run['settings']['seed']: run[key][protocol][name]
        for run in runs
        if run['settings']['row'] == row
    }


def check_settings(runs: Sequence[dict], task: str) -> None:
    """Refuse test runs that a table may not mix.

    Raises:
        UserError: In a seed, a row or two rows of one network have different settings.
    """
    found: dict[tuple, dict[str, list[str]]] = {}
    for run in runs:
        row, seed, choice = (run['settings'][key] for key in ('row', 'seed', 'choice'))
        network = ROWS[row].network if row in ROWS else row
        own = {key: value for key, value in choice.items() if key != PRETRAINING_RATE}
        shared = {network: own}
        if PRETRAINING_RATE in choice:
            shared[PRETRAINING_RATE] = choice[PRETRAINING_RATE]
        for name, value in shared.items():
            by_choice = found.setdefault((name, seed), {})
            by_choice.setdefault(json.dumps(value, sort_keys=True), []).append(row)
    for (_, seed), by_choice in found.items():
        if len(by_choice) > 1:
            listed = '; '.join(
                f'{choice}: {", ".join(rows)}' for choice, rows in by_choice.items()
            )
            raise UserError(
                f'{task}, seed {seed}: runs of one network have different settings: '
                f'{listed}. Remove the folders of all settings but one'
            )


def results_table(runs: Sequence[dict], task: str) -> str:
    """Measures of each row in both directions, and mAP minus the baseline."""
    check_settings(runs, task)
    found = {run['settings']['row'] for run in runs}
    baseline = next((row for row in BASELINES if row in found), None)
    protocols = [get_protocol(given).name for given in TASKS[task].protocols]
    sizes = [name for name in SIZES if all(name in run for run in runs)]
    lines = []
    for row in (*ROWS, CLIP):
        group = [run for run in runs if run['settings']['row'] == row]
        if not group:
            continue
        cells = []
        for protocol in protocols:
            cells += [
                spread([*by_seed(runs, row, protocol, name).values()])
                for name in MEASURES
            ]
            own, other = (
                by_seed(runs, name, protocol, 'mAP') for name in (row, baseline)
            )
            cells.append(difference(own, other, scale=1) if row != baseline else '')
        minutes = statistics.mean(run['seconds'] for run in group) / 60
        cells += [_millions(group[0][name]) for name in sizes]
        lines.append([row, len(group), *cells, f'{minutes:.1f}'])
    head = ['row', 'seeds']
    for protocol in protocols:
        head += [f'{protocol}: {title}' for title in MEASURES.values()]
        head.append(f'mAP minus {baseline}')
    return table([*head, *(SIZES[name] for name in sizes), 'minutes'], lines)


def steps_table(runs: Sequence[dict], task: str) -> str:
    """mAP of each row in both directions, minus that of the row without a part."""
    protocols = [get_protocol(given).name for given in TASKS[task].protocols]
    lines = []
    for row, other in STEPS:
        cells = [
            difference(*(by_seed(runs, name, protocol, 'mAP') for name in (row, other)),
                       scale=1)
            for protocol in protocols
        ]  # fmt: skip
        if any(cells):
            lines.append([row, other, *cells])
    return table(['row', 'minus', *protocols], lines)


def int8_table(runs: Sequence[dict], task: str) -> str:
    """mAP in 32 and in 8 bits, and how close the features of both are."""
    protocols = [get_protocol(given).name for given in TASKS[task].protocols]
    lines = []
    for row in dict.fromkeys(run['settings']['row'] for run in runs):
        own = [run for run in runs if run['settings']['row'] == row]
        exact = {name: by_seed(runs, row, name, 'mAP', 'values') for name in protocols}
        line = [row, 'float32', '']
        for scores in exact.values():
            line += [spread([*scores.values()]), '']
        lines.append(line)
        change = [row, 'int8 minus int8, all', '']
        for form in ('int8, all', 'int8'):
            line = [row, form, spread([100 * run['cosines'][form] for run in own])]
            for name, scores in exact.items():
                rough = by_seed(runs, row, name, 'mAP', form)
                line.append(spread([*rough.values()]))
                line.append(difference(rough, scores, scale=1))
            lines.append(line)
        for name in protocols:
            forms = (by_seed(runs, row, name, 'mAP', f) for f in ('int8', 'int8, all'))
            change += [difference(*forms, scale=1), '']
        lines.append(change)
    head = ['row', 'numbers', 'cosine, %']
    for protocol in protocols:
        head += [f'{protocol}: mAP', 'minus float32']
    return table(head, lines)


def plot_scores(runs: Sequence[dict], task: str, path: Path) -> None:
    """Plot mAP of all rows in both directions."""
    found = {run['settings']['row'] for run in runs}
    rows = [row for row in (*ROWS, CLIP) if row in found]
    baseline = next(row for row in (*BASELINES, *rows) if row in found)
    names = [get_protocol(given).name for given in TASKS[task].protocols]
    panels = {
        name: {row: [*by_seed(runs, row, name, 'mAP').values()] for row in rows}
        for name in names
    }
    marked = dict.fromkeys(names, baseline)
    save_plot(panels, marked, 'mAP in percent', path)


def _millions(count: int) -> str:
    """Count in millions, with three digits or more."""
    return f'{count / 1e6:.{1 if count < 1e8 else 0}f}'


def search_table(runs: Sequence[dict], key: str = 'rate') -> str:
    """Mean mAP over directions on held-out training people, the best rate in bold."""
    found: dict[tuple, dict[float, float]] = {}
    for run in runs:
        row, seed, choice = (run['settings'][key] for key in ('row', 'seed', 'choice'))
        value = statistics.mean(v['mAP'] for v in run['values'].values())
        found.setdefault((row, seed), {})[choice[key]] = value
    rates = sorted({rate for scores in found.values() for rate in scores})
    lines = []
    for (row, seed), scores in sorted(found.items()):
        best = max(scores.values())
        cells = [f'{scores[rate]:.1f}' if rate in scores else '' for rate in rates]
        cells = [
            f'**{cell}**' if scores.get(rate) == best else cell
            for rate, cell in zip(rates, cells, strict=True)
        ]
        lines.append([row, seed, *cells])
    return table(['row', 'seed', *(f'rate {rate:g}' for rate in rates)], lines)


def pretraining_table(runs: Sequence[dict]) -> str:
    """Images, losses at the end, and how far apart the paths are."""
    lines, listings = [], {}
    for run in runs:
        row, seed, choice = (run['settings'][key] for key in ('row', 'seed', 'choice'))
        images = run['images']
        listed = ', '.join(f'{name} {count}' for name, count in images.items())
        many = f'{sum(images.values())} of {len(images)} classes'
        listings[listed if len(images) <= LISTED else many] = None
        losses = [
            f'{run["losses"][key]:.3f}' if key in run['losses'] else ''
            for key in PRETRAINING_LOSSES
        ]
        distance = f'{100 * run["distance"]:.1f} %'
        lines.append([row, seed, choice['rate'], *losses, distance])
    head = ['pretraining', 'seed', 'rate', *PRETRAINING_LOSSES.values()]
    found = table([*head, 'distance of the paths'], sorted(lines))
    return f'Images: {"; ".join(listings)}.\n\n{found}'


def report(runs: Sequence[dict]) -> str:
    """Tables of all tasks."""
    parts = []
    for task in TASKS:
        own = [run for run in runs if run['settings']['task'] == task]
        tests = [run for run in own if 'values' in run]
        held = [run for run in tests if run['settings']['held']]
        tests = [run for run in tests if not run['settings']['held']]
        later = [run for run in held if PRETRAINING_RATE in run['settings']['choice']]
        first = [run for run in held if run not in later]
        quantized = [run for run in tests if 'int8' in run]
        pretrained = [run for run in own if 'losses' in run]
        for title, group, make in (
            ('held-out training people', first, search_table),
            (
                'held-out training people, rate of the pretraining',
                later,
                partial(search_table, key=PRETRAINING_RATE),
            ),
            ('test people', tests, partial(results_table, task=task)),
            ('what a part changes', tests, partial(steps_table, task=task)),
            ('float32 and int8', quantized, partial(int8_table, task=task)),
            ('pretrainings', pretrained, pretraining_table),
        ):
            if group:
                parts.append(f'#### {task}: {title}\n\n{make(group)}')
    return '\n\n'.join(parts) + '\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', type=Path, help='--out of the study, or its JSON')
    source = parser.parse_args().source
    if source.is_file():
        print(report(json.loads(source.read_text())))
        return
    runs = finished_runs(source)
    text = report(runs)
    for task in TASKS:
        tests = [
            run
            for run in runs
            if run['settings']['task'] == task
            and 'values' in run
            and not run['settings']['held']
        ]
        if tests:
            plot_scores(tests, task, source / f'scores_{task}.png')
    write_text(text, source / 'tables.md')
    write_json(runs, source / 'results.json')
    print(text)


if __name__ == '__main__':
    sys.exit(cli.run(main))
