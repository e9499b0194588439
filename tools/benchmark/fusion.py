"""Fusion baselines on real pairs: one camera, early, halfway and late fusion.

Every row starts from the same RGB detector and trains with the same pairs, labels,
augmentation and steps; late fusion takes the two detectors of one camera. Each is then
tested with every subset of the cameras and with corrupted images. Runs that are done
are not repeated; tables, curves and JSON go to the output folder.

    python tools/benchmark/fusion.py --data street_pairs/ --start rgb.pth
"""

import argparse
import itertools
import json
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

import mmir  # noqa: F401  the hosts need it before they load
from mmir.apis.stages import ROOT
from mmir.apis.study import collect, mean_std, run_once
from mmir.utils.checkpoint import refuse_unsafe_checkpoints
from mmir.utils.coco import write_json
from mmir.utils.rescale import set_image_scale, set_schedule
from mmir.visualization import save_curves

CONFIGS = ROOT / 'configs/fusion'
METRIC = 'coco/bbox_mAP_50'
SCALE, BATCH_SIZE, EPOCHS, RATE = (320, 320), 8, 25, 1e-3
DROP = dict(rgb=0.2, ir=0.2)

# Row -> ending of its config, and whether modalities are dropped in its training.
ROWS = {
    'rgb': ('rgb', False),
    'ir': ('ir', False),
    'early': ('early', False),
    'add': ('add', False),
    'concat': ('concat', False),
    'cross': ('cross', False),
    'add_drop': ('add', True),
    'late': ('late', False),
}
SUBSETS = 'rgb', 'ir', 'rgb+ir'
LOOPS = {
    'modality_subsets': dict(type='mmir.MissingModalityTestLoop', metrics=[METRIC]),
    'corruptions': dict(type='mmir.CorruptionTestLoop', metrics=[METRIC]),
}


def row_config(row: str, data: Path, seed: int, start: Path) -> Config:
    """Config of a row at the size of the study."""
    ending, drops = ROWS[row]
    cfg = Config.fromfile(CONFIGS / f'yolo-tiny_flir_pair_{ending}.py')
    sets = cfg.train_dataloader.dataset.dataset, cfg.val_dataloader.dataset
    for dataset, split in zip(sets, ('train', 'val'), strict=True):
        dataset.data_root = str(data)
        dataset.ann_file = f'{split}/fused_annotations.json'
    if drops:
        drop = dict(type='mmir.DropModality', probs=DROP)
        cfg.train_dataloader.dataset.pipeline.insert(-1, drop)
    set_image_scale(cfg, SCALE)
    set_schedule(cfg, EPOCHS, BATCH_SIZE)
    cfg.train_cfg.val_interval = cfg.default_hooks.checkpoint.interval = EPOCHS
    for key in ('train_dataloader', 'val_dataloader'):
        cfg[key].num_workers = 1
    cfg.val_evaluator.classwise = True
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    cfg.randomness = dict(seed=seed)
    cfg.default_hooks.pop('visualization', None)
    cfg.default_hooks.logger.interval = 5
    cfg.load_from = str(start)
    cfg.optim_wrapper.type = 'mmir.AutocastOptimWrapper'
    cfg.optim_wrapper.optimizer.lr = RATE
    cfg.custom_hooks.append(dict(type='mmir.ChannelsLastHook'))
    return cfg


def run_row(row: str, seed: int, data: Path, start: Path, out: Path) -> None:
    """Train a row, unless it is the late fusion of others, and test it in all ways."""
    cfg = row_config(row, data, seed, start)
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
        cfg.load_from = run_once(cfg, folder, settings, METRIC)['checkpoint']
    for name, loop in LOOPS.items():
        robustness_test(cfg, loop, folder / f'{name}.json')


def robustness_test(cfg: Config, loop: dict, out: Path) -> None:
    """Test with one of the loops, unless that was done; writes all its metrics."""
    if out.is_file():
        return
    cfg = Config(dict(cfg.to_dict(), test_cfg=loop))
    cfg.work_dir = str(out.parent / 'tests')
    cfg.experiment_name = f'{out.parent.name}_{out.stem}'
    cfg.custom_hooks = [h for h in cfg.custom_hooks if 'EMA' not in h.type]
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
    return sorted(found, key=lambda pair: [*ROWS].index(pair[0]))


def subset_values(metrics: dict) -> dict[str, list[float]]:
    """The metric with each subset of the cameras."""
    return {s: [metrics.get(f'{s}/{METRIC}', 0.0)] for s in SUBSETS}


def corruption_values(
    metrics: dict, strengths: Sequence[int] = (1, 2, 3, 4, 5)
) -> dict[str, list[float]]:
    """The metric with each corruption, one value a strength."""
    kinds = dict.fromkeys(k.split('/')[0] for k in metrics if k.split('/')[1].isdigit())
    values = {
        kind: [metrics.get(f'{kind}/{s}/{METRIC}', 0.0) for s in strengths]
        for kind in kinds
    }
    return {'clean': [metrics.get(f'clean/{METRIC}', 0.0)]} | values


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


def report(out: Path) -> None:
    """Write tables, curves and JSON of what is there."""
    subsets = averages(out, 'modality_subsets', subset_values)
    corrupted = averages(out, 'corruptions', corruption_values)
    text = f'mAP50 by the cameras there are\n\n{markdown(subsets)}\n\n'
    text += f'mAP50, mean over five strengths\n\n{markdown(corrupted)}\n'
    (out / 'table.md').write_text(text)
    tests = {
        name: {file.parent.name: json.loads(file.read_text()) for _, file in rows}
        for name in LOOPS
        if (rows := _tested(out, name))
    }
    write_json(dict(training=collect(out / 'runs'), **tests), out / 'results.json')
    plots: dict[str, dict] = {}
    by_strength = [
        averages(out, 'corruptions', partial(corruption_values, strengths=(s,)))
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
    parser.add_argument('--data', type=Path, required=True, help='pairs, FLIR layout')
    parser.add_argument('--start', type=Path, required=True, help='RGB checkpoint')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/fusion'))
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--rows', nargs='+', choices=ROWS, default=list(ROWS))
    args = parser.parse_args()
    refuse_unsafe_checkpoints()
    for seed, row in itertools.product(args.seeds, args.rows):
        run_row(row, seed, args.data, args.start, args.out)
        report(args.out)


if __name__ == '__main__':
    main()
