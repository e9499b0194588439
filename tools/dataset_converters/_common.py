"""Shared by the converters: output arguments, final check, exit status."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mmir.cli import cli
from mmir.data.check import Problem
from mmir.data.coco import check_coco, open_images
from mmir.data.images import ImageReadError
from mmir.utils.files import write_json


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--out` and `--check`.

    Args:
        parser (ArgumentParser): Parser of a converter.
    """
    parser.add_argument('--out', type=Path, help='COCO file to write')
    parser.add_argument(
        '--check',
        action='store_true',
        help='only check labels and images (decoding every image) and report',
    )


def finish(
    coco: dict,
    problems: Sequence[Problem],
    source: Path,
    images: Path,
    args: argparse.Namespace,
    notes: Sequence[str] = (),
) -> int:
    """Check the result, print the report, and write the file if there is no problem.

    Args:
        coco (dict): The converted labels.
        problems (Sequence[Problem]): Problems found during the conversion.
        source (Path): The source labels, for the report.
        images (Path): Folder of the images.
        args (Namespace): With `out` and `check`.
        notes (Sequence[str]): Findings for the report that are no problems.

    Returns:
        int: Exit status; 1 if there are problems, in which case nothing is written.
    """
    report = check_coco(coco, str(source), images)
    report.problems[:0] = problems
    report.notes += notes
    if args.check:
        report.problems += open_images(coco['images'], images, progress=True)
    print(report.text())
    if report.ok and not args.check:
        write_json(coco, args.out)
        print(f'written: {args.out}')
    return int(not report.ok)


def run(
    parser: argparse.ArgumentParser,
    convert: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None,
) -> int:
    """Parse arguments and convert; report an error as one line.

    Args:
        parser (ArgumentParser): Parser of a converter.
        convert (Callable): Takes the parsed arguments, returns the exit status.
        argv (Sequence[str], optional): Arguments. Default: those of the command line.

    Returns:
        int: Exit status; 1 for missing or wrong files, 2 for errors of the machine.
    """

    def main() -> int:
        args = parser.parse_args(argv)
        if not args.check and args.out is None:
            parser.error('set --out FILE to write, or --check')
        try:
            return convert(args)
        except (ValueError, FileNotFoundError, ImageReadError) as error:
            print(f'error: {error}', file=sys.stderr)
            return 1

    return cli.run(main)
