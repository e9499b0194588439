"""Fusion baselines on real pairs: single modality, early, halfway and late fusion.

All rows start from the same weights and train with the same pairs, labels, augmentation
and steps; late fusion combines the two single-modality models. Each is then tested on
every subset of the modalities and on corrupted images. Finished runs are skipped.
Tables, plots and JSON are written to the output folder.

    python tools/benchmark/fusion.py street --data FOLDER --start rgb.pth
    python tools/benchmark/fusion.py coco --data FOLDER --start yolox_nano.pth
    python tools/benchmark/fusion.py apple --data FOLDER
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

import _fusion_apple
import _fusion_coco
import _fusion_street
from _fusion_report import TESTS, report
from mmengine.config import Config
from mmengine.runner import Runner

import mmir  # noqa: F401  the hosts need it before they load
from mmir.cli import cli
from mmir.cli.study import run_once
from mmir.utils.checkpoint import refuse_unsafe_checkpoints
from mmir.utils.files import write_json

STUDIES = {'street': _fusion_street, 'coco': _fusion_coco, 'apple': _fusion_apple}


def run_row(
    study: str, row: str, seed: int, data: Path, start: Path | None, out: Path
) -> None:
    """Train a row, unless it is late fusion of others, and run all tests on it."""
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
    corruptions = dict(
        type='mmir.CorruptionTestLoop',
        strengths=STUDIES[study].STRENGTHS,
        value_ranges=STUDIES[study].VALUE_RANGES,
    )
    loops = dict(type='mmir.MissingModalityTestLoop'), corruptions
    for name, loop in zip(TESTS, loops, strict=True):
        if loop is corruptions and not STUDIES[study].STRENGTHS:
            continue
        robustness_test(cfg, dict(loop, metrics=[metric]), folder / f'{name}.json')


def robustness_test(cfg: Config, loop: dict, out: Path) -> None:
    """Test with one of the loops, unless already done; writes all metrics."""
    if out.is_file():
        return
    cfg = Config(dict(cfg.to_dict(), test_cfg=loop))
    cfg.work_dir = str(out.parent / 'tests')
    cfg.experiment_name = f'{out.parent.name}_{out.stem}'
    # the checkpoint already holds the averaged weights
    cfg.custom_hooks = [h for h in cfg.get('custom_hooks', []) if 'EMA' not in h.type]
    metrics = Runner.from_cfg(cfg).test()
    write_json({name: float(value) for name, value in metrics.items()}, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('study', choices=STUDIES)
    parser.add_argument('--data', type=Path, required=True, help='folder of the pairs')
    parser.add_argument('--start', type=Path, help='checkpoint of an RGB detector')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/fusion'))
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--rows', nargs='+', help='rows to run; default: all')
    args = parser.parse_args()
    study, out = STUDIES[args.study], args.out / args.study
    if unknown := set(args.rows or ()) - study.ROWS.keys():
        parser.error(f'unknown rows {sorted(unknown)}, known: {[*study.ROWS]}')
    refuse_unsafe_checkpoints()
    for seed, row in itertools.product(args.seeds, args.rows or study.ROWS):
        run_row(args.study, row, seed, args.data, args.start, out)
        report(out, study.METRIC, study.DETAILS, [*study.ROWS], study.STRENGTHS)


if __name__ == '__main__':
    sys.exit(cli.run(main))
