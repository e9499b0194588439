"""Tables, plots and JSON of the fusion study."""

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from _paired import difference
from _paired import table as markdown

from mmir.cli.study import collect, mean_std, table
from mmir.utils.files import write_json
from mmir.visualization import save_curves

SUBSETS = 'rgb', 'ir', 'rgb+ir'
BASELINES = {'rgb': 'rgb', 'ir': 'ir', 'rgb+ir': 'add'}  # of each subset
TESTS = 'modality_subsets', 'corruptions'

Cells = dict[str, dict[str, list[float]]]
"""Row -> column -> one value per seed."""


def report(
    out: Path,
    metric: str,
    details: Sequence[str],
    order: Sequence[str],
    strengths: Sequence[int],
) -> None:
    """Write the results so far to `table.md`, `results.json` and `corruptions.png`.

    Args:
        out (Path): Folder of the study; the runs are in `runs/<row>_seed<seed>`.
        metric (str): Main metric, shown in all tables, such as `mIoU`.
        details (Sequence[str]): Other metrics, shown for both modalities together.
        order (Sequence[str]): All rows in the order of the tables.
        strengths (Sequence[int]): Tested strengths of the corruptions.
    """
    runs, tests = collect(out / 'runs'), _tests(out / 'runs', order)
    subsets, corruptions = (tests[name] for name in TESTS)
    corruptions = corruptions if strengths else {}
    corrupted = _cells(corruptions, lambda m: _by_corruption(m, metric, strengths))
    available = _cells(
        subsets, lambda m: {s: m.get(f'{s}/{metric}', 0.0) for s in SUBSETS}
    )
    parts = {
        'training': table(runs, ['row'], {metric: lambda run: run['final'][metric]}),
        f'{metric} by available modalities': _markdown(available),
        'minus the row of that camera, or two backbones': _differences(available),
        'with both modalities': _markdown(
            _cells(
                subsets,
                lambda m: {d: m.get(f'{SUBSETS[-1]}/{d}', 0.0) for d in details},
            )
        ),
    }
    if strengths:
        parts[f'{metric}, mean over strengths {strengths}'] = _markdown(corrupted)
    text = '\n\n'.join(f'{title}\n\n{part}' for title, part in parts.items())
    (out / 'table.md').write_text(text + '\n')
    write_json(dict(training=runs, **tests), out / 'results.json')
    by_strength = [
        _cells(corruptions, lambda m, s=s: _by_corruption(m, metric, (s,)))
        for s in strengths
    ]
    if plots := _plots(corrupted, by_strength, strengths):
        save_curves(out / 'corruptions.png', plots, 'strength')
    print(text, flush=True)


def _tests(runs: Path, order: Sequence[str]) -> dict[str, dict[str, dict]]:
    """Test -> run name -> metrics, sorted by row."""
    found: dict[str, dict[str, dict]] = {}
    for name in TESTS:
        files = sorted(
            runs.glob(f'*/{name}.json'),
            key=lambda file: (order.index(_row(file.parent.name)), file.parent.name),
        )
        found[name] = {f.parent.name: json.loads(f.read_text()) for f in files}
    return found


def _row(run: str) -> str:
    """Row of a run."""
    return run.rpartition('_seed')[0]


def _cells(runs: dict[str, dict], values: Callable[[dict], dict[str, float]]) -> Cells:
    """Values of all runs, grouped by row."""
    rows: Cells = {}
    for run, metrics in runs.items():
        for column, value in values(metrics).items():
            rows.setdefault(_row(run), {}).setdefault(column, []).append(value)
    return rows


def _by_corruption(
    metrics: dict, metric: str, strengths: Sequence[int]
) -> dict[str, float]:
    """Metric on clean images and per corruption, averaged over strengths."""
    kinds = dict.fromkeys(k.split('/')[0] for k in metrics if k.split('/')[1].isdigit())
    values = {
        kind: statistics.mean(
            metrics.get(f'{kind}/{s}/{metric}', 0.0) for s in strengths
        )
        for kind in kinds
    }
    return {'clean': metrics.get(f'clean/{metric}', 0.0)} | values


def _markdown(rows: Cells) -> str:
    """Markdown table of mean and spread over the seeds."""
    columns = list(dict.fromkeys(title for row in rows.values() for title in row))
    lines = ['| row | seeds | ' + ' | '.join(columns) + ' |']
    lines.append('|' + '---|' * (len(columns) + 2))
    for name, row in rows.items():
        seeds = str(max(map(len, row.values())))
        cells = [mean_std(row[c]) if c in row else '' for c in columns]
        lines.append('| ' + ' | '.join([name, seeds, *cells]) + ' |')
    return '\n'.join(lines)


def _differences(rows: Cells) -> str:
    """Markdown table of paired differences to the baselines, in points.

    Seeds are paired by their order, so a row needs as many as its baseline.
    """
    lines = []
    for name, row in rows.items():
        cells = []
        for subset, baseline in BASELINES.items():
            own, other = (
                dict(enumerate(found.get(subset, [])))
                for found in (row, rows.get(baseline, {}))
            )
            fits = name != baseline and len(own) == len(other)
            cells.append(difference(own, other) if fits else '')
        lines.append([name, *cells])
    return markdown(['row', *BASELINES], lines)


def _plots(
    mean: Cells, by_strength: Sequence[Cells], strengths: Sequence[int]
) -> dict[str, dict]:
    """Corruption -> row -> strengths (0 is clean) and means over the seeds."""
    plots: dict[str, dict] = {}
    for row, kinds in mean.items():
        for kind in kinds.keys() - {'clean'}:
            y = [statistics.mean(cells[row][kind]) for cells in by_strength]
            y.insert(0, statistics.mean(kinds['clean']))
            plots.setdefault(kind, {})[row] = ([0, *strengths], y)
    return {kind: plots[kind] for kind in sorted(plots)}
