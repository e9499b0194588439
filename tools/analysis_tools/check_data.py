"""Check every file of the datasets of a config, the way training would read them.

    python tools/analysis_tools/check_data.py CONFIG

Counts and lists missing partners, unreadable or truncated images, damaged JPEG data,
wrong bit depths, pairs of different sizes, files used twice, boxes outside their image,
label maps that training would misread and images that cannot be temperatures. Exit code
2 if there are any. `--cfg-options data_root=DIR` checks another copy.
`custom_hooks=[dict(type='mmir.ValidateDataHook')]` in a config does the same before
training.
"""

import argparse
import sys
from pathlib import Path

from mmengine.registry import DATASETS, init_default_scope

import mmir  # noqa: F401  the hosts need it before they load
from mmir.cli import cli
from mmir.engine import check_dataset
from mmir.utils.errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help=cli.CONFIG_HELP)
    parser.add_argument(
        '--splits',
        nargs='+',
        choices=['train', 'val', 'test'],
        default=['train', 'val', 'test'],
    )
    parser.add_argument('--workers', type=int, default=4, help='reader threads')
    parser.add_argument(
        '--cache', type=Path, help='JSON file that lists files found good'
    )
    cli.add_cfg_options(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = cli.load_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    bad, seen = 0, []
    for split in args.splits:
        loader = cfg.get(f'{split}_dataloader')
        if loader is None or loader.dataset in seen:
            continue
        seen.append(loader.dataset)
        try:
            dataset = DATASETS.build(loader.dataset)
        except (UserError, FileNotFoundError) as error:
            print(f'{split}\n  PROBLEM: {error}', flush=True)
            bad += 1
            continue  # the other splits are still checked
        report = check_dataset(dataset, args.workers, args.cache, source=split)
        print(report.text(), flush=True)
        bad += len(report.problems) + len(report.skipped)
    if bad:
        raise UserError(f'{bad} problems, listed above')


if __name__ == '__main__':
    sys.exit(cli.run(main))
