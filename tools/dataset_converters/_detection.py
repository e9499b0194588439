"""Converter of the detection datasets with an entry in `mmir.data.layouts.det`.

A script per dataset lists the pairs of each split; everything else is here.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from _common import run
from _split import Record, Split

from mmir.data.layouts.det import JSON_FOLDER, DetLayout, absent_message
from mmir.utils.errors import AnnotationError
from mmir.utils.files import write_json

Lister = Callable[[Path, str, str, str, argparse.Namespace], list[Record] | None]
"""Lists the pairs of a split, given root, inner root, split, label modality and
arguments; None if the split is not there."""


def paths(layout: DetLayout, inner: str, split: str, labels: str, key: str) -> Record:
    """Get the files of a pair.

    Args:
        layout (DetLayout): The dataset.
        inner (str): Result of :meth:`DetLayout.find`.
        split (str): The split.
        labels (str): Modality of the labels.
        key (str): Name of the image.

    Returns:
        Record: The pair, without its labels yet.
    """
    files = {
        name: inner + layout.place(template, split, key)
        for name, template in layout.images.items()
    }
    return Record(key, files, inner + layout.place(layout.labels[labels], split, key))


def listed(folder: Path, template: str, split: str) -> set[str]:
    """List the names that match a path template whose last part contains `{name}`.

    The suffix of a file may be written in another case.

    Args:
        folder (Path): Folder that the path is relative to.
        template (str): Path template of the layout.
        split (str): The split.

    Returns:
        set[str]: Names, without the rest of the file name.
    """
    pattern = PurePosixPath(template.format(split=split, folder='', name='{'))
    start, end = pattern.name.split('{')
    place = folder / pattern.parent
    names = [path.name for path in place.iterdir()] if place.is_dir() else []
    return {
        name[len(start) : len(name) - len(end)]
        for name in names
        if name.startswith(start)
        and not name.startswith('.')
        and name.lower().endswith(end.lower())
    }


def records_in_folders(layout: DetLayout, with_labels: bool = False) -> Lister:
    """Make a lister for splits stored as folders: all names that any camera has.

    Args:
        layout (DetLayout): The dataset.
        with_labels (bool): Whether each split has its own label files, so that labels
            without images are listed too.

    Returns:
        Lister: The function.
    """

    def lister(
        root: Path, inner: str, split: str, labels: str, args: argparse.Namespace
    ) -> list[Record] | None:
        """List a split."""
        templates = list(layout.images.values())
        keys = set().union(*(listed(root / inner, t, split) for t in templates))
        if keys and with_labels:
            keys |= listed(root / inner, layout.labels[labels], split)
        return [paths(layout, inner, split, labels, k) for k in sorted(keys)] or None

    return lister


@dataclass(frozen=True)
class Converter:
    """Converter of one detection dataset.

    Attributes:
        layout (DetLayout): The dataset.
        records (Lister): Lists the pairs of a split.
        options (Callable, optional): Adds arguments to the parser.
        finish (Callable, optional): Called before the labels are written, with the root
            and the names of the original images in use.
    """

    layout: DetLayout
    records: Lister
    options: Callable[[argparse.ArgumentParser], None] | None = None
    finish: Callable[[Path, list[str]], None] | None = None

    def convert(self, args: argparse.Namespace) -> int:
        """Run with parsed arguments.

        Args:
            args (Namespace): See :meth:`main`.

        Returns:
            int: Exit status; 1 if there are problems, in which case nothing is written
            without `--drop`.

        Raises:
            AnnotationError: The list or label file of a split cannot be read.
            FileNotFoundError: There is no split.
        """
        layout, root = self.layout, args.root
        inner = layout.find(root)
        if inner is None:
            raise FileNotFoundError(absent_message(layout, root))
        done, unread, broken, first_id = {}, [], 0, 0
        for split, official in layout.splits.items():
            opened: dict = {}
            for labels in layout.labels:
                try:
                    records = self.records(root, inner, split, labels, args)
                except AnnotationError as error:
                    unread.append(str(error))
                    records = None
                    break
                if records is None:
                    print(f'{layout.name} {split}: not found, skipped')
                    break
                part = Split(layout, root, labels, records, opened)
                part.require_files()
                part.read_labels()
                if args.check or args.drop:
                    part.open_images()
                coco = part.to_coco(first_id)
                coco['info'] = {
                    'description': f'{layout.name} {split}, {labels} labels'
                }
                name = layout.json_name(split, labels)
                report = part.report(f'{layout.name} {name}', coco, official)
                print(report.text())
                done[name] = part, coco
                broken += len(report.problems)
            first_id += len(records or ())
        if unread:  # raised here, after the other splits were checked
            raise AnnotationError('\n'.join(unread))
        if not done:
            raise FileNotFoundError(absent_message(layout, root))
        if broken and not args.drop:
            print(self._advice(broken, args.check))
        elif not args.check:
            self._write(root, args.out, done)
        return int(bool(broken) and not (args.drop and not args.check))

    def _advice(self, broken: int, check: bool) -> str:
        """Advise what to do about problems."""
        if check:
            return (
                f'{broken} problems. Unpack or download the files above again, or '
                'leave out what cannot be used: --drop instead of --check'
            )
        return (
            f'{broken} problems; nothing was written. --check also opens the images; '
            '--drop leaves out what cannot be used'
        )

    def _write(self, root: Path, out: Path, done: dict[str, tuple]) -> None:
        """Write the label files, each atomically."""
        if self.finish is not None:
            files = [
                name for part, _ in done.values() for r in part.records
                for name in r.files.values()
            ]  # fmt: skip
            self.finish(root, list(dict.fromkeys(files)))
        for name, (_, coco) in done.items():
            write_json(coco, root / out / name)
            print(f'written: {root / out / name}')

    def main(self, description: str, argv: Sequence[str] | None) -> int:
        """Run the script.

        Args:
            description (str): Docstring of the script.
            argv (Sequence[str], optional): Arguments. Default: those of the command
                line.

        Returns:
            int: Exit status.
        """
        parser = argparse.ArgumentParser(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument('root', type=Path, help='folder of the dataset')
        parser.add_argument(
            '--out',
            type=Path,
            default=Path(JSON_FOLDER),
            help='folder for the COCO files, relative to ROOT (default: %(default)s)',
        )
        parser.add_argument(
            '--check',
            action='store_true',
            help='open every image and report; write nothing',
        )
        parser.add_argument(
            '--drop',
            action='store_true',
            help='open every image; leave out, and count, pairs with missing or '
            'unreadable files and boxes of unknown classes',
        )
        if self.options is not None:
            self.options(parser)
        return run(parser, self.convert, argv)


def start(converter: Converter, description: str | None) -> None:
    """Run a script from the command line.

    Args:
        converter (Converter): Converter of the dataset.
        description (str, optional): Docstring of the script.
    """
    sys.exit(converter.main(description or '', None))
