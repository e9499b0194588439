"""How a set of paired images with label maps is laid out on disk, and its files found.

Files of a sample are matched by the stem of their name; the suffix is whatever the
folder holds, since copies of the same set come with different ones.
"""

import os
import posixpath
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mmir.utils.files import few

from mmir.data.pairing import PairRule

LABEL = 'seg_map_path'
"""The key of label maps among the folders, as mmseg calls it."""

from mmir.data.images import SUFFIXES

CHECKER = 'tools/dataset_converters/check_pairs_seg.py'


class MissingFilesError(FileNotFoundError):
    """A data set lacks files; the message says which, how many and what to do."""


class Split(NamedTuple):
    """A split of a data set.

    Attributes:
        folder: What stands for `{split}` in the layout's paths.
        count: How many pairs its authors say it has; None where that is not known.
    """

    folder: str
    count: int | None = None


@dataclass(frozen=True)
class SegLayout:
    """Where a set keeps what.

    Attributes:
        title: Name for people, and of the check.
        folders: Modality or `LABEL` -> folder below the root, or several of which the
            first that exists counts; `{split}` is the split's folder.
        splits: Name of a split -> its folder and official size.
        classes: Names by label, in the official order, without what
            `reduce_zero_label` takes away.
        palette: (red, green, blue) by label.
        source: Where the set comes from, for messages.
        listed: Text file below the root with one name a line, None where the folder of
            the split is the list.
        entry: What a line stands for; with a slash at its end all files of that folder
            below the folder of the labels.
        rules: Modality -> how its file's name follows from the label's, where it does.
        copies: End of names in a list that are mirrored copies of others.
        planes: Planes an image file must have, None for any.
        reduce_zero_label: Whether 0 means not labeled.
        binary: Whether labels are gray pictures to be thresholded.
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
        """dict: `classes` and `palette` for a data set's METAINFO."""
        return {'classes': self.classes, 'palette': [list(c) for c in self.palette]}

    @property
    def modalities(self) -> tuple[str, ...]:
        """tuple[str, ...]: Names of the modalities there are."""
        return tuple(key for key in self.folders if key != LABEL)

    def split(self, name: str) -> Split:
        """Look a split up.

        Args:
            name (str): Its name.

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
        """Name the folders of a split.

        Args:
            root (str | Path): Folder of the set.
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
        """Name the list of a split.

        Args:
            split (str): Name of a split.

        Returns:
            str: Text file below the root, '' where the folder is the list.
        """
        return (self.listed or '').format(split=self.split(split).folder)


class Sample(NamedTuple):
    """The files of one sample.

    Attributes:
        name: What its files have in common.
        paths: Modality or `LABEL` -> file, None where there is none.
    """

    name: str
    paths: dict[str, str | None]


@dataclass
class Matches:
    """What was found on disk.

    Attributes:
        samples: All samples, complete or not, sorted by name or as listed.
        lacking: Modality or `LABEL` -> names of samples without such a file.
        twice: Modality or `LABEL` -> names of samples with several.
    """

    samples: list[Sample]
    lacking: dict[str, list[str]]
    twice: dict[str, list[str]]


class _Listings(dict):
    """Folder -> stem -> names of the images in it; reads a folder once."""

    def __missing__(self, folder: str) -> dict[str, list[str]]:
        """Read a folder; an absent one is empty."""
        stems: dict[str, list[str]] = {}
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        for name in names:
            stem, suffix = posixpath.splitext(name)
            if suffix.lower() in SUFFIXES:
                stems.setdefault(stem, []).append(name)
        self[folder] = stems
        return stems


def read_names(path: str | Path) -> list[str]:
    """Read the list of a split.

    Args:
        path (str | Path): Text file, one name a line, with or without the suffix of an
            image; empty lines do not count.

    Returns:
        list[str]: Names without suffix.

    Raises:
        MissingFilesError: There is no such file.
        ValueError: It is empty, or a name stands in it twice.
    """
    if not os.path.isfile(path):
        raise MissingFilesError(
            f'the list of the split is missing: {path}. It is part of the data set; '
            'copy it there, or give ann_file'
        )
    lines = Path(path).read_text(encoding='utf-8-sig').splitlines()
    names = Counter(_without_suffix(line.strip()) for line in lines if line.strip())
    if not names:
        raise ValueError(f'the list of the split is empty: {path}')
    if again := [name for name, times in names.items() if times > 1]:
        raise ValueError(f'{path} lists names twice: {few(again)}')
    return list(names)


def _without_suffix(name: str) -> str:
    stem, suffix = posixpath.splitext(name)
    return stem if suffix.lower() in SUFFIXES else name


def listed_names(
    path: str | Path, folder: str, entry: str = '{}', copies: str | None = None
) -> tuple[list[str], list[str]]:
    """Name the samples of a list.

    Args:
        path (str | Path): The list, see :func:`read_names`.
        folder (str): Folder of the label maps.
        entry (str): What a line stands for, see :class:`SegLayout`. A line whose folder
            is empty or absent stays a name, so that it is missed later.
        copies (str, optional): End of names to leave out.

    Returns:
        tuple[list[str], list[str]]: Names of samples; names left out.
    """
    names = read_names(path)
    left_out = [name for name in names if copies and name.endswith(copies)]
    names = [name for name in names if not (copies and name.endswith(copies))]
    if not entry.endswith('/'):
        return [entry.format(name) for name in names], left_out
    listings, found = _Listings(), []
    for name in names:
        inner = entry.format(name)
        stems = listings[os.path.join(folder, inner.rstrip('/'))]
        found += [f'{inner}{stem}' for stem in sorted(stems)] or [f'{inner}*']
    return found, left_out


def match_files(
    folders: Mapping[str, str],
    names: Sequence[str] | None = None,
    rules: Mapping[str, Callable[[str], str]] | None = None,
) -> Matches:
    """Find the files of samples.

    Args:
        folders (Mapping[str, str]): Modality or `LABEL` -> folder.
        names (Sequence[str], optional): Names of the samples; by default all that a
            folder without rule has a file of, so that a file without partner is
            noticed whichever it is.
        rules (Mapping[str, Callable[[str], str]], optional): Modality -> how its name
            follows from the sample's. A :class:`PairRule` with a suffix wants that one.

    Returns:
        Matches: All samples, and what they lack.

    Raises:
        ValueError: No names are given and every folder has a rule.
    """
    rules, listings = dict(rules or {}), _Listings()
    if names is None:
        plain = [folder for key, folder in folders.items() if key not in rules]
        if not plain:
            raise ValueError('every modality has a rule: none gives names to the rest')
        names = sorted(set().union(*(listings[folder] for folder in plain)))
    result = Matches([], {}, {})
    for name in names:
        paths = {}
        for key, folder in folders.items():
            rule = rules.get(key)
            wanted = name if rule is None else _without_suffix(rule(f'{name}.png'))
            inner, stem = posixpath.split(wanted)
            where = os.path.join(folder, inner) if inner else folder
            hits = listings[where].get(stem, [])
            if isinstance(rule, PairRule) and rule.suffix is not None:
                hits = [hit for hit in hits if hit.endswith(rule.suffix)]
            paths[key] = os.path.join(where, hits[0]) if hits else None
            if len(hits) != 1:
                fault = result.twice if hits else result.lacking
                fault.setdefault(key, []).append(name)
        result.samples.append(Sample(name, paths))
    return result


def no_data_message(layout: SegLayout, root: str | Path, split: str) -> str:
    """Say what is expected where.

    Args:
        layout (SegLayout): The set's layout.
        root (str | Path): Folder that was searched.
        split (str): Split that was asked for.

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
        'these. Without it: synthetic scenes in this layout, '
        'mmir.testing.scenes.seg_layouts'
    )


def faults_message(title: str, matches: Matches, folders: Mapping[str, str]) -> str:
    """Say which files are missing or ambiguous, how many, and what to do.

    Args:
        title (str): Set and split, for people.
        matches (Matches): What was found.
        folders (Mapping[str, str]): Modality or `LABEL` -> folder.

    Returns:
        str: Several lines.
    """
    lines = [f'{title} is not sound, of {len(matches.samples)} samples:']
    for faults, what in ((matches.lacking, 'no'), (matches.twice, 'more than one')):
        for key, names in faults.items():
            kind = 'label map' if key == LABEL else f'{key} image'
            lines.append(
                f'  {len(names)} with {what} {kind} in {folders[key]}: {few(names)}'
            )
    lines.append(
        'Copy the missing files there again, or leave the samples out (delete their '
        "other files, or their lines in the list). missing='absent' goes on without "
        f'images, never without label maps. {CHECKER} names them all'
    )
    return '\n'.join(lines)
