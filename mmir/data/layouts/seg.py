"""Layouts of paired segmentation datasets on disk, and matching of their files.

The files of a sample are matched by file stem. Any image suffix will do, since copies
of the same dataset come with different ones.
"""

import os
import posixpath
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mmir.data.images import SUFFIXES
from mmir.data.inside import outside
from mmir.data.pairing import PairRule
from mmir.data.readers import read_names, without_suffix
from mmir.utils.errors import AnnotationError
from mmir.utils.files import few

LABEL = 'seg_map_path'
"""Key of the label maps among the folders, named as in mmseg."""

CHECKER = 'tools/dataset_converters/check_pairs_seg.py'


class MissingFilesError(FileNotFoundError):
    """A dataset lacks files; the message says which, how many, and what to do."""


class Split(NamedTuple):
    """A split of a dataset.

    Attributes:
        folder: Value of `{split}` in the paths of the layout.
        count: Official number of pairs; None if unknown.
    """

    folder: str
    count: int | None = None


@dataclass(frozen=True)
class SegLayout:
    """Layout of a paired segmentation dataset.

    Attributes:
        title: Display name, also the name used by the check.
        folders: Modality or `LABEL` -> folder below the root, or several, of which the
            first that exists is used; `{split}` is the folder of the split.
        splits: Name of a split -> its folder and official size.
        classes: Class names by label in the official order, without the class removed
            by `reduce_zero_label`.
        palette: (red, green, blue) by label.
        source: Where to get the dataset, for messages.
        listed: Text file below the root with one name per line; None if the split is
            whatever its folder holds.
        entry: Template applied to each line. If it ends in a slash, a line stands for
            all files of that folder below the label folder.
        rules: Modality -> rule that derives its file name from that of the label map.
        copies: Name ending of mirrored copies in a list.
        planes: Number of planes an image file must have; None for any.
        reduce_zero_label: Whether 0 means unlabeled.
        binary: Whether labels are grayscale masks to be thresholded.
    """

    title: str
    folders: Mapping[str, str | tuple[str, ...]]
    splits: Mapping[str, Split]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    source: str
    listed: str | None = None
    entry: str = '{}'
    rules: Mapping[str, Callable[[str], str]] = field(default_factory=dict)
    copies: str | None = None
    planes: int | None = None
    reduce_zero_label: bool = False
    binary: bool = False

    @property
    def metainfo(self) -> dict:
        """dict: `classes` and `palette` for a dataset's METAINFO."""
        return {'classes': self.classes, 'palette': [list(c) for c in self.palette]}

    @property
    def modalities(self) -> tuple[str, ...]:
        """tuple[str, ...]: Names of the modalities."""
        return tuple(key for key in self.folders if key != LABEL)

    def split(self, name: str) -> Split:
        """Look up a split.

        Args:
            name (str): Name of the split.

        Returns:
            Split: Folder and official size.

        Raises:
            ValueError: There is no such split.
        """
        if name not in self.splits:
            raise ValueError(
                f'{self.title}: split must be one of {tuple(self.splits)}, got {name!r}'
            )
        return self.splits[name]

    def prefixes(self, root: str | Path, split: str) -> dict[str, str]:
        """Get the folders of a split.

        Args:
            root (str | Path): Root of the dataset.
            split (str): Name of a split.

        Returns:
            dict[str, str]: Modality or `LABEL` -> folder below the root.
        """
        part = self.split(split).folder
        found = {}
        for key, value in self.folders.items():
            options = (value,) if isinstance(value, str) else value
            named = [posixpath.normpath(o.format(split=part)) for o in options]
            there = [name for name in named if os.path.isdir(os.path.join(root, name))]
            found[key] = (there or named)[0]
        return found

    def list_file(self, split: str) -> str:
        """Get the list file of a split.

        Args:
            split (str): Name of a split.

        Returns:
            str: Text file below the root, '' if there is no list.
        """
        return (self.listed or '').format(split=self.split(split).folder)


class Sample(NamedTuple):
    """The files of one sample.

    Attributes:
        name: Common name of its files.
        paths: Modality or `LABEL` -> file, None if there is none.
    """

    name: str
    paths: dict[str, str | None]


@dataclass
class Matches:
    """Files found on disk, matched to samples.

    Attributes:
        samples: All samples, complete or not, sorted by name or in list order.
        lacking: Modality or `LABEL` -> names of samples without such a file.
        twice: Modality or `LABEL` -> names of samples with more than one.
    """

    samples: list[Sample]
    lacking: dict[str, list[str]]
    twice: dict[str, list[str]]


class Listings(dict):
    """Folder -> stem -> names of the images in it; reads each folder only once."""

    def __missing__(self, folder: str) -> dict[str, list[str]]:
        """Read a folder; a missing folder counts as empty."""
        stems: dict[str, list[str]] = {}
        names = []
        if os.path.isdir(folder):
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries if entry.is_file()]
        for name in sorted(names):
            stem, suffix = posixpath.splitext(name)
            if suffix.lower() in SUFFIXES:
                stems.setdefault(stem, []).append(name)
        self[folder] = stems
        return stems


def read_split(path: str | Path) -> list[str]:
    """Read the list of a split.

    Args:
        path (str | Path): Text file with one name per line, see
            :func:`mmir.data.readers.read_names`.

    Returns:
        list[str]: Names without suffix.

    Raises:
        MissingFilesError: There is no such file.
        AnnotationError: It is empty, in an unknown encoding, or lists a name twice.
    """
    if not os.path.isfile(path):
        raise MissingFilesError(
            f'the list of the split is missing: {path}. It is part of the dataset: '
            'copy it there, or set ann_file'
        )
    names = Counter(read_names(path))
    if not names:
        raise AnnotationError(f'the list of the split is empty: {path}')
    if again := [name for name, times in names.items() if times > 1]:
        raise AnnotationError(f'{path} lists names twice: {few(again)}')
    return list(names)


def listed_names(
    path: str | Path, folder: str, entry: str = '{}', copies: str | None = None
) -> tuple[list[str], list[str]]:
    """Get the sample names of a list.

    Args:
        path (str | Path): The list, see :func:`read_split`.
        folder (str): Folder of the label maps.
        entry (str): Template of a line, see :class:`SegLayout`. A line whose folder is
            empty or absent is kept as a name, so that it is reported as missing.
        copies (str, optional): Ending of names to leave out.

    Returns:
        tuple[list[str], list[str]]: Sample names; names left out.
    """
    names = read_split(path)
    left_out = [name for name in names if copies and name.endswith(copies)]
    names = [name for name in names if not (copies and name.endswith(copies))]
    if not entry.endswith('/'):
        return [entry.format(name) for name in names], left_out
    listings, found = Listings(), []
    for name in names:
        inner = entry.format(name)
        stems = listings[os.path.join(folder, inner.rstrip('/'))]
        found += [f'{inner}{stem}' for stem in sorted(stems)] or [f'{inner}*']
    return found, left_out


def match_files(
    folders: Mapping[str, str],
    names: Sequence[str] | None = None,
    rules: Mapping[str, Callable[[str], str]] | None = None,
    below: str | os.PathLike[str] | None = None,
) -> Matches:
    """Find the files of samples.

    Args:
        folders (Mapping[str, str]): Modality or `LABEL` -> folder.
        names (Sequence[str], optional): Names of the samples. Default: every name
            found in a folder without a rule, so that any file without partner is
            noticed.
        rules (Mapping[str, Callable[[str], str]], optional): Modality -> rule that
            derives its file name from the sample name. A :class:`PairRule` with a
            suffix matches only that suffix.
        below (str | PathLike, optional): Folder that may hold the files too, such as
            the root of the dataset; '/' allows every file. Default: only `folders`.

    Returns:
        Matches: All samples, and the files they lack.

    Raises:
        AnnotationError: Names lead out of the data (absolute ones, `../`).
        ValueError: No names are given and every folder has a rule.
    """
    rules, listings = dict(rules or {}), Listings()
    if names is None:
        plain = [folder for key, folder in folders.items() if key not in rules]
        if not plain:
            raise ValueError(
                'every modality has a rule: none is left to name the samples'
            )
        names = sorted(set().union(*(listings[folder] for folder in plain)))
    else:
        _require_inside(names, folders, below)
    result = Matches([], {}, {})
    for name in names:
        paths = {}
        for key, folder in folders.items():
            rule = rules.get(key)
            wanted = name if rule is None else without_suffix(rule(f'{name}.png'))
            inner, stem = posixpath.split(wanted)
            where = os.path.join(folder, inner) if inner else folder
            hits = listings[where].get(stem, [])
            if isinstance(rule, PairRule) and rule.suffix is not None:
                end = rule.suffix.lower()
                hits = [hit for hit in hits if hit.lower().endswith(end)]
            paths[key] = os.path.join(where, hits[0]) if hits else None
            if len(hits) != 1:
                fault = result.twice if hits else result.lacking
                fault.setdefault(key, []).append(name)
        result.samples.append(Sample(name, paths))
    return result


def _require_inside(
    names: Sequence[str],
    folders: Mapping[str, str],
    below: str | os.PathLike[str] | None,
) -> None:
    """Refuse names that lead out of the data."""
    for folder in folders.values():
        if odd := outside(names, folder, below):
            raise AnnotationError(
                f'names in the list lead out of {below or folder}: {few(odd)}. If '
                'these files are meant, set allow_outside=True in the dataset'
            )


def no_data_message(layout: SegLayout, root: str | Path, split: str) -> str:
    """Message for absent data: what is expected, and where to get it.

    Args:
        layout (SegLayout): Layout of the dataset.
        root (str | Path): Folder that was searched.
        split (str): Split that was requested.

    Returns:
        str: Several lines.
    """
    root = Path(root)
    there = few(sorted(path.name for path in root.iterdir())) if root.is_dir() else ''
    found = (
        f'It holds: {there or "nothing"}.' if root.is_dir() else 'It does not exist.'
    )
    wanted = [f'  {root}/{folder}/' for folder in layout.prefixes(root, split).values()]
    if layout.listed:
        wanted.insert(0, f'  {root}/{layout.list_file(split)}')
    lines = '\n'.join(dict.fromkeys(wanted))
    return (
        f'no {layout.title} data ({split}) in {root}\n{found} Expected:\n{lines}\n'
        f'{layout.source}. Unpack it and point data_root to the folder that holds '
        'these. Without it, mmir.testing.scenes.seg_layouts writes synthetic scenes in '
        'this layout'
    )


def faults_message(title: str, matches: Matches, folders: Mapping[str, str]) -> str:
    """Message for missing or ambiguous files: which, how many, and what to do.

    Args:
        title (str): Dataset and split, for display.
        matches (Matches): The matched files.
        folders (Mapping[str, str]): Modality or `LABEL` -> folder.

    Returns:
        str: Several lines.
    """
    lines = [f'{title} is incomplete; of {len(matches.samples)} samples:']
    for faults, what in ((matches.lacking, 'no'), (matches.twice, 'more than one')):
        for key, names in faults.items():
            kind = 'label map' if key == LABEL else f'{key} image'
            lines.append(
                f'  {len(names)} with {what} {kind} in {folders[key]}: {few(names)}'
            )
    lines.append(
        'Copy the missing files again, or leave the samples out (delete their other '
        "files, or their lines in the list). missing='absent' continues without "
        f'images, but not without label maps. {CHECKER} lists them all'
    )
    return '\n'.join(lines)
