"""Check a copy of a visible-infrared re-identification dataset.

    python tools/dataset_converters/check_reid.py SYSUMM01 data/SYSU-MM01 --check
    python tools/dataset_converters/check_reid.py RegDB data/RegDB --trials 1 2

Every image is opened. The report names images that are unreadable, identities without
images in one of the modalities, and images in both train and test, and compares the
counts with the official ones. The datasets are used in their original layout, so
nothing is converted or written. The exit status is 1 if there are problems.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from _common import run

from mmir.data.layouts.reid import REID_SETS
from mmir.data.layouts.reid_check import check_reid


def check(args: argparse.Namespace) -> int:
    """Run with parsed arguments.

    Args:
        args (Namespace): See :func:`main`.

    Returns:
        int: Exit status, 1 if there are problems.
    """
    layout, ok = REID_SETS[args.set], True
    for trial in args.trials or range(1, layout.trials + 1):
        for split in args.split or layout.counts:
            report = check_reid(layout, args.root, split, trial, progress=True)
            print(report.text(args.limit))
            ok &= report.ok
    return int(not ok)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('set', choices=[*REID_SETS], help='which dataset')
    parser.add_argument('root', type=Path, help='root of the dataset')
    parser.add_argument('--split', nargs='+', help='splits to check (default: all)')
    parser.add_argument(
        '--trials', nargs='+', type=int, help='splits of RegDB (default: 1 to 10)'
    )
    parser.add_argument('--limit', type=int, default=20, help='names to list per kind')
    parser.add_argument(
        '--check',
        action='store_true',
        default=True,
        help='check and report only, which is all this tool does',
    )
    return run(parser, check, argv)


if __name__ == '__main__':
    sys.exit(main())
