"""Check a copy of a paired segmentation or salient-object dataset.

    python tools/dataset_converters/check_pairs_seg.py MSRS data/MSRS --check
    python tools/dataset_converters/check_pairs_seg.py VT5000 data/VT5000 --split test

Every file is opened. The report names files that are missing, ambiguous or unreadable,
sizes that differ within a sample, and label maps that mmseg would misread. The datasets
are used in their original layout, so nothing is converted or written. The exit status
is 1 if there are problems.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from _common import run

from mmir.data.check import NO_LABELS, Problem, Report
from mmir.data.layouts.seg import MissingFilesError
from mmir.data.layouts.seg_check import check_seg
from mmir.data.layouts.seg_sets import SEG_SETS
from mmir.utils.errors import AnnotationError


def check(args: argparse.Namespace) -> int:
    """Run with parsed arguments.

    Args:
        args (Namespace): See :func:`main`.

    Returns:
        int: Exit status, 1 if there are problems.

    Raises:
        MissingFilesError: There is no split, or the requested one is missing.
    """
    layout = SEG_SETS[args.set]
    reports, gone = [], []
    for split in args.split or layout.splits:
        try:
            report = check_seg(layout, args.root, split, args.modalities, progress=True)
        except MissingFilesError as error:
            gone.append(error)
            continue
        except AnnotationError as error:
            report = Report(split, problems=[Problem(NO_LABELS, str(error))])
        reports.append(report)
        print(report.text(args.limit))
    if gone and (args.split or not reports):
        raise gone[0]
    for error in gone:
        print(f'note: {str(error).splitlines()[0]}')
    return int(not all(report.ok for report in reports))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('set', choices=[*SEG_SETS], help='which dataset')
    parser.add_argument('root', type=Path, help='root of the dataset')
    parser.add_argument('--split', nargs='+', help='splits to check (default: all)')
    parser.add_argument(
        '--modalities', nargs='+', default=['rgb', 'ir'], help='such as rgb ir depth'
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
