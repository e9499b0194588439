"""Fusion baselines on real pairs: one camera, early, halfway and late fusion.

Every row starts from the same weights and trains with the same pairs, labels,
augmentation and steps; late fusion takes the two models of one camera. Each is then
tested with every subset of the cameras and with corrupted images. Runs that are done
are not repeated; tables, curves and JSON go to the output folder.

    python tools/benchmark/fusion.py street --data FOLDER --start rgb.pth
    python tools/benchmark/fusion.py apple --data FOLDER
"""

import argparse
import itertools
import json
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import _fusion_apple
import _fusion_street
from mmengine.config import Config
from mmengine.runner import Runner

import mmir  # noqa: F401  the hosts need it before they load
from mmir.apis.study import collect, mean_std, run_once
from mmir.utils.checkpoint import refuse_unsafe_checkpoints
from mmir.utils.coco import write_json
from mmir.visualization import save_curves

STUDIES = {'street': _fusion_street, 'apple': _fusion_apple}
SUBSETS = 'rgb', 'ir', 'rgb+ir'
LOOPS = {
    'modality_subsets': 'mmir.MissingModalityTestLoop',
    'corruptions': 'mmir.CorruptionTestLoop',
}


def run_row(
    study: str, row: str, seed: int, data: Path, start: Path | None, out: Path
) -> None:
    """Train a row, unless it is the late fusion of others, and test it in all ways."""
    metric = STUDIES[study].METRIC
    cfg = STUDIES[study].config(row, seed, data, start, out)
    cfg.randomness = dict(seed=seed)
    cfg.default_hooks.logger.interval = 5
    cfg.default_hooks.pop('visualization', None)
    for key in ('train_dataloader', 'val_dataloader'):
        cfg[key].num_workers = 1
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    folder = out / 'runs' / f'{row}_seed{seed}'
    if row == 'late':
        folder.mkdir(parents=True, exist_ok=True)
        cfg.load_from = None
        cfg.model.checkpoints = {
            name: json.loads((out / f'runs/{name}_seed{seed}/result.json').read_text())[
                'checkpoint'
            ]
            for name in ('rgb', 'ir')
        }
    else:
        settings = dict(row=row, seed=seed)
        cfg.load_from = run_once(cfg, folder, settings, metric)['checkpoint']
    for name, loop in LOOPS.items():
        robustness_test(cfg, dict(type=loop, metrics=[metric]), folder / f'{name}.json')


def robustness_test(cfg: Config, loop: dict, out: Path) -> None:
    """Test with one of the loops, unless that was done; writes all its metrics."""
    if out.is_file():
        return
    cfg = Config(dict(cfg.to_dict(), test_cfg=loop))
    cfg.work_dir = str(out.parent / 'tests')
    cfg.experiment_name = f'{out.parent.name}_{out.stem}'
    # the averaged weights are in the checkpoint
    cfg.custom_hooks = [h for h in cfg.get('custom_hooks', []) if 'EMA' not in h.type]
    write_json(Runner.from_cfg(cfg).test(), out)


def averages(
    out: Path, name: str, keys: Callable[[dict], dict[str, list[float]]]
) -> dict[str, dict[str, list[float]]]:
    """Row -> title -> one value a seed, of the tests called `name`."""
    table: dict[str, dict[str, list[float]]] = {}
    for row, seed_file in _tested(out, name):
        values = keys(json.loads(seed_file.read_text()))
        for title, numbers in values.items():
            cell = table.setdefault(row, {}).setdefault(title, [])
            cell.append(statistics.mean(numbers))
    return table


def _tested(out: Path, name: str) -> list[tuple[str, Path]]:
    """Rows and files of the tests that are done, in the order of the rows."""
    files = sorted((out / 'runs').glob(f'*/{name}.json'))
    found = [(file.parent.name.rpartition('_seed')[0], file) for file in files]
    order = list(dict.fromkeys(row for study in STUDIES.values() for row in study.ROWS))
    return sorted(found, key=lambda pair: order.index(pair[0]))


def subset_values(metrics: dict, metric: str) -> dict[str, list[float]]:
    """The metric with each subset of the cameras."""
    return {s: [metrics.get(f'{s}/{metric}', 0.0)] for s in SUBSETS}


def corruption_values(
    metrics: dict, metric: str, strengths: Sequence[int] = (1, 2, 3, 4, 5)
) -> dict[str, list[float]]:
    """The metric with each corruption, one value a strength."""
    kinds = dict.fromkeys(k.split('/')[0] for k in metrics if k.split('/')[1].isdigit())
    values = {
        kind: [metrics.get(f'{kind}/{s}/{metric}', 0.0) for s in strengths]
        for kind in kinds
    }
    return {'clean': [metrics.get(f'clean/{metric}', 0.0)]} | values


def markdown(table: dict[str, dict[str, list[float]]]) -> str:
    """Rows and columns with mean and spread over the seeds."""
    columns = list(dict.fromkeys(title for row in table.values() for title in row))
    lines = ['| row | seeds | ' + ' | '.join(columns) + ' |']
    lines.append('|' + '---|' * (len(columns) + 2))
    for name, row in table.items():
        seeds = str(max(map(len, row.values())))
        cells = [mean_std(row[c]) if c in row else '' for c in columns]
        lines.append('| ' + ' | '.join([name, seeds, *cells]) + ' |')
    return '\n'.join(lines)


def report(out: Path, metric: str) -> None:
    """Write tables, curves and JSON of what is there."""
    subsets = averages(out, 'modality_subsets', partial(subset_values, metric=metric))
    values = partial(corruption_values, metric=metric)
    corrupted = averages(out, 'corruptions', values)
    text = f'{metric} by the cameras there are\n\n{markdown(subsets)}\n\n'
    text += f'{metric}, mean over five strengths\n\n{markdown(corrupted)}\n'
    (out / 'table.md').write_text(text)
    tests = {
        name: {file.parent.name: json.loads(file.read_text()) for _, file in rows}
        for name in LOOPS
        if (rows := _tested(out, name))
    }
    write_json(dict(training=collect(out / 'runs'), **tests), out / 'results.json')
    plots: dict[str, dict] = {}
    by_strength = [
        averages(out, 'corruptions', partial(values, strengths=(s,)))
        for s in range(1, 6)
    ]
    for row, kinds in corrupted.items():
        for kind in kinds.keys() - {'clean'}:
            y = [statistics.mean(table[row][kind]) for table in by_strength]
            y.insert(0, statistics.mean(corrupted[row]['clean']))
            plots.setdefault(kind, {})[row] = (list(range(6)), y)
    if plots:
        ordered = {kind: plots[kind] for kind in sorted(plots)}
        save_curves(out / 'corruptions.png', ordered, 'strength')
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('study', choices=STUDIES)
    parser.add_argument('--data', type=Path, required=True, help='folder of the pairs')
    parser.add_argument('--start', type=Path, help='checkpoint of an RGB detector')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/fusion'))
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--rows', nargs='+', help='some of the rows')
    args = parser.parse_args()
    study, out = STUDIES[args.study], args.out / args.study
    if unknown := set(args.rows or ()) - study.ROWS.keys():
        parser.error(f'unknown rows {sorted(unknown)}, known: {[*study.ROWS]}')
    refuse_unsafe_checkpoints()
    for seed, row in itertools.product(args.seeds, args.rows or study.ROWS):
        run_row(args.study, row, seed, args.data, args.start, out)
        report(out, study.METRIC)


if __name__ == '__main__':
    main()
