"""Tables and JSON of the runs of `ivtuning_study.py`.

python tools/benchmark/ivtuning_study_report.py work_dirs/ivtuning
python tools/benchmark/ivtuning_study_report.py docs/results/ivtuning.json
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from _clip_rows import ROWS
from _paired import difference, spread, table
from _runs import finished_runs
from _score_plot import save_plot

from mmir.cli import cli
from mmir.cli.study import grouped
from mmir.utils.files import atomic_path, write_json

PERCENT = ('field',)  # scores are in percent there, elsewhere from 0 to 1
SUBSETS = 'rgb', 'ir'


def score(run: dict) -> float:
    """Score of a run in points."""
    return run['score'] * (1 if run['settings']['task'] in PERCENT else 100)


def ordered(runs: Sequence[dict]) -> dict[str, list[dict]]:
    """Runs of each row, in the order of `ROWS`."""
    return {
        name: group
        for name in ROWS
        if (group := [run for run in runs if run['settings']['row'] == name])
    }


def results_table(runs: Sequence[dict], baseline: str) -> str:
    """Score and costs of each row, and its difference to `baseline` by seed."""
    rows = ordered(runs)
    by_seed = {
        name: {run['settings']['seed']: score(run) for run in group}
        for name, group in rows.items()
    }
    lines = []
    for name, group in rows.items():
        settings = group[0]['settings']
        choice = ' '.join(f'{k}={v}' for k, v in settings['choice'].items())
        lines.append(
            [
                name,
                f'{settings["rate"]:g} {choice}'.strip(),
                len(group),
                spread([score(run) for run in group]),
                difference(by_seed[name], by_seed.get(baseline, {}), scale=1)
                if name != baseline
                else '',
                *(
                    statistics.mean(subset(run, key) for run in group)
                    for key in SUBSETS
                ),
                f'{group[0]["trainable"] / 1e6:.2f} M',
                f'{group[0]["adapter_bytes"] / 2**20:.1f} MiB',
                f'{statistics.mean(run["seconds"] for run in group) / 60:.1f}',
            ]
        )
        lines[-1][5:7] = [f'{value:.1f}' for value in lines[-1][5:7]]
    head = ['row', 'rate', 'seeds', 'score', f'minus {baseline}']
    head += [f'{key} alone' for key in SUBSETS]
    return table([*head, 'trainable', 'file', 'minutes'], lines)


def subset(run: dict, key: str) -> float:
    """Score with one modality, in points."""
    return score(dict(run, score=run['subsets'][key]))


def corruption_table(runs: Sequence[dict]) -> str:
    """Mean loss of each row by a corruption of one image, in points."""
    names = list(dict.fromkeys(name for run in runs for name in run['corruptions']))
    lines = []
    for row, group in ordered(runs).items():
        means = {
            name: statistics.mean(
                score(dict(run, score=run['corruptions'][name])) for run in group
            )
            for name in names
        }
        clean = means['clean']
        losses = [means[name] - clean for name in names if name != 'clean']
        lines.append([row, f'{clean:.1f}', *(f'{loss:+.1f}' for loss in losses)])
    return table(['row', 'clean', *(n for n in names if n != 'clean')], lines)


def ranks_table(runs: Sequence[dict]) -> str:
    """Effective rank of the features after each block, mean over seeds."""
    lines = [
        [name, *(f'{statistics.mean(ranks):.0f}' for ranks in zip(*found, strict=True))]
        for name, group in ordered(runs).items()
        if (found := [run['effective_rank'] for run in group])
    ]
    return table(['row', *map(str, range(1, len(lines[0])))], lines)


def search_table(runs: Sequence[dict]) -> str:
    """Scores on held-out training images."""
    lines = []
    for name, group in ordered(runs).items():
        for run in group:
            settings = run['settings']
            choice = ' '.join(f'{k}={v}' for k, v in settings['choice'].items())
            lines.append([name, f'{settings["rate"]:g}', choice, f'{score(run):.1f}'])
    return table(['row', 'rate', 'choice', 'held out'], lines)


def report(runs: Sequence[dict], baseline: str) -> str:
    """Tables of all tasks; scores are compared with those of the row `baseline`."""
    parts = []
    for (task, part), group in grouped(runs, ['task', 'part']).items():
        test = part == 'test'
        scores = results_table(group, baseline) if test else search_table(group)
        parts.append(f'#### {task}, {part}\n\n{scores}')
        for key, title, show in (
            ('corruptions', 'points lost by a corruption', corruption_table),
            ('effective_rank', 'effective rank by block', ranks_table),
        ):
            if some := [run for run in group if key in run]:
                parts.append(f'#### {task}, {title}\n\n{show(some)}')
    return '\n\n'.join(parts) + '\n'


def read_runs(folder: Path) -> list[dict]:
    """Finished runs of a folder, which say whether they are tests."""
    runs = finished_runs(folder)
    for run in runs:
        held = run['settings'].pop('held')
        run['settings']['part'] = 'held out' if held else 'test'
    return runs


def save_plots(runs: Sequence[dict], baseline: str, folder: Path) -> None:
    """Plot the scores of all rows of a task: a dot per seed."""
    for (task, part), group in grouped(runs, ['task', 'part']).items():
        if part != 'test':
            continue
        scores = {
            name: [score(run) for run in found]
            for name, found in ordered(group).items()
        }
        title = f'{task}, both images'
        path = folder / f'scores_{task}.png'
        save_plot({title: scores}, {title: baseline}, 'percent', path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', type=Path, help='--out of the study, or its JSON')
    parser.add_argument(
        '--baseline', choices=ROWS, default='full', help='row to compare with'
    )
    args = parser.parse_args()
    source = args.source
    if source.is_file():
        print(report(json.loads(source.read_text()), args.baseline))
        return
    runs = read_runs(source)
    text = report(runs, args.baseline)
    with atomic_path(source / 'tables.md') as path:
        path.write_text(text)
    write_json(runs, source / 'results.json')
    save_plots(runs, args.baseline, source)
    print(text)


if __name__ == '__main__':
    sys.exit(cli.run(main))
