"""Layouts of visible-infrared person re-identification datasets on disk.

Identities and cameras come from the folders below the root and from the lists of the
dataset, never from fixed positions in a path.
"""

import hashlib
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from mmir.data.images import SUFFIXES
from mmir.data.inside import outside
from mmir.data.layouts.seg import MissingFilesError
from mmir.utils.errors import AnnotationError
from mmir.utils.files import few, read_lines, read_text

MODALITIES = ('rgb', 'ir')
UNKNOWN_CAM = 0
"""Camera of an image whose path names none."""

_CAM = re.compile(r'(?:.*_)?c(?:am)?0*(\d+)(?:_.*)?', re.IGNORECASE)


class PersonImage(NamedTuple):
    """One image of a person.

    Attributes:
        path: File below the root, with forward slashes.
        pid: Identity.
        cam: Camera, from 1; `UNKNOWN_CAM` if unknown.
        modality: `rgb` or `ir`.
    """

    path: str
    pid: int
    cam: int
    modality: str


class Count(NamedTuple):
    """Official size of a split: identities, RGB images, infrared images."""

    ids: int
    rgb: int
    ir: int


Reader = Callable[[Path, str, int], list[PersonImage]]


@dataclass(frozen=True)
class ReIDLayout:
    """Layout of a re-identification dataset.

    Attributes:
        title: Display name.
        read: Function that lists the images of a split: (root, split, trial) -> images,
            RGB first.
        counts: Name of a split -> its official size.
        expected: What the root must hold, for messages; `{trial}` is the trial.
        source: Where to get the dataset, for messages.
        trials: Number of splits into train and test, from 1.
    """

    title: str
    read: Reader
    counts: Mapping[str, Count]
    expected: tuple[str, ...]
    source: str
    trials: int = 1

    def images(
        self, root: str | os.PathLike[str], split: str, trial: int = 1
    ) -> list[PersonImage]:
        """List the images of a split.

        Args:
            root (str | PathLike): Root of the dataset.
            split (str): `train` or `test`.
            trial (int): Number of the split into train and test, from 1.

        Returns:
            list[PersonImage]: RGB images, then infrared ones; within a modality by
            identity, camera and name, or in the order of the list. The test split
            holds queries and gallery; the protocol takes them apart.

        Raises:
            MissingFilesError: The dataset, a list or listed files are missing.
            AnnotationError: A list is empty or broken.
            ValueError: There is no such split or trial.
        """
        if split not in self.counts:
            raise ValueError(
                f'{self.title}: split must be one of {[*self.counts]}, got {split!r}'
            )
        if trial not in range(1, self.trials + 1):
            raise ValueError(
                f'{self.title}: trial must be from 1 to {self.trials}, got {trial!r}'
            )
        root = Path(root)
        try:
            found = self.read(root, split, trial)
        except FileNotFoundError as error:
            raise MissingFilesError(self._missing(root, split, trial, error)) from error
        if not found:
            empty = FileNotFoundError('no image of the listed identities')
            raise MissingFilesError(self._missing(root, split, trial, empty))
        return found

    def _missing(
        self, root: Path, split: str, trial: int, error: FileNotFoundError
    ) -> str:
        """Message for absent data: what is expected, and where to get it."""
        there = 'It does not exist.'
        if root.is_dir():
            there = f'It holds: {few(sorted(p.name for p in root.iterdir())) or "-"}.'
        lines = '\n'.join(f'  {root}/{e.format(trial=trial)}' for e in self.expected)
        return (
            f'no {self.title} data ({split}) in {root}: {error}\n{there} Expected:\n'
            f'{lines}\n{self.source}. Unpack it and point data_root to the folder that '
            'holds these. Without it, mmir.testing.scenes.reid_layouts writes '
            'synthetic people in this layout'
        )


def folder_images(folder: Path, below: str) -> list[str]:
    """List the images of a folder by name; a missing folder has none.

    Args:
        folder (Path): Root of the dataset.
        below (str): Folder below it.

    Returns:
        list[str]: Paths below the root.
    """
    where = folder / below
    names = sorted(os.listdir(where)) if where.is_dir() else []
    return [
        posixpath.join(below, name)
        for name in names
        if name.lower().endswith(SUFFIXES) and not name.startswith('.')
    ]


def read_ids(path: Path) -> list[int]:
    """Read a list of identities, separated by commas or spaces.

    Args:
        path (Path): Text file.

    Returns:
        list[int]: Identities in ascending order.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It holds no numbers, or something else.
    """
    words = read_text(path).replace(',', ' ').split()
    if not words or not all(word.isdecimal() for word in words):
        odd = few(word for word in words if not word.isdecimal())
        raise AnnotationError(
            f'{path} must hold identity numbers separated by commas, got '
            f'{odd or "nothing"}'
        )
    return sorted({int(word) for word in words})


def read_listed(
    root: Path, name: str, modality: str, cam_of: Callable[[str], int]
) -> list[PersonImage]:
    """Read a list with lines `path label`.

    Args:
        root (Path): Root of the dataset.
        name (str): List file below the root.
        modality (str): Modality of all images.
        cam_of (Callable): Path -> camera.

    Returns:
        list[PersonImage]: Images in the order of the list.

    Raises:
        FileNotFoundError: The list or listed images are missing.
        AnnotationError: A line is broken, or names a file outside of the root.
    """
    found = []
    for line in read_lines(root / name):
        path, _, label = line.rpartition(' ')
        if not path or not label.isdecimal():
            raise AnnotationError(f'{root / name}: {line!r} is not "path label"')
        path = path.strip().replace('\\', '/')
        found.append(PersonImage(path, int(label), cam_of(path), modality))
    require_files(root, [image.path for image in found], root / name)
    return found


def require_files(root: Path, paths: Sequence[str], source: Path) -> None:
    """Refuse a list that is empty or names files that do not exist.

    Args:
        root (Path): Folder the paths are relative to.
        paths (Sequence[str]): Listed files.
        source (Path): The list, for messages.

    Raises:
        FileNotFoundError: Files are missing.
        AnnotationError: The list is empty, names a file twice or one outside of the
            root.
    """
    if not paths:
        raise AnnotationError(f'{source} is empty')
    if odd := outside(paths, str(root)):
        raise AnnotationError(f'{source} leads out of {root}: {few(odd)}')
    if len(set(paths)) < len(paths):
        seen: set[str] = set()
        twice = [path for path in paths if path in seen or seen.add(path)]
        raise AnnotationError(f'{source} lists files twice: {few(twice)}')
    gone = [path for path in paths if not os.path.isfile(os.path.join(root, path))]
    if gone:
        raise FileNotFoundError(
            f'{len(gone)} of {len(paths)} files in {source} do not exist: {few(gone)}'
        )


def camera_in(path: str) -> int:
    """Find the camera that a path names: a folder `cam3`, or `_c03_` in the name.

    Args:
        path (str): Path below the root of the dataset.

    Returns:
        int: Camera; `UNKNOWN_CAM` if the path names none.
    """
    *folders, name = path.split('/')
    for part in reversed(folders):
        if found := re.fullmatch(r'cam0*(\d+)', part, re.IGNORECASE):
            return int(found[1])
    found = _CAM.fullmatch(posixpath.splitext(name)[0])
    return int(found[1]) if found else UNKNOWN_CAM


def _by_folder(
    root: Path, ids: Iterable[int], cams: Iterable[int], prefix: str, modality: str
) -> list[PersonImage]:
    """List `{prefix}cam{c}/{id:04d}/*` by identity, camera and name."""
    cams = list(cams)
    return [
        PersonImage(path, pid, cam, modality)
        for pid in ids
        for cam in cams
        for path in folder_images(root, f'{prefix}cam{cam}/{pid:04d}')
    ]


def _read_sysu(root: Path, split: str, trial: int) -> list[PersonImage]:
    """Training uses the identities of `train` and `val`, as all published results."""
    names = ('train', 'val') if split == 'train' else ('test',)
    ids = sorted({i for name in names for i in read_ids(root / f'exp/{name}_id.txt')})
    found = _by_folder(root, ids, (1, 2, 4, 5), '', 'rgb')
    return found + _by_folder(root, ids, (3, 6), '', 'ir')


def _read_regdb(root: Path, split: str, trial: int) -> list[PersonImage]:
    found = []
    for cam, (modality, kind) in enumerate(
        (('rgb', 'visible'), ('ir', 'thermal')), start=1
    ):
        name = f'idx/{split}_{kind}_{trial}.txt'
        found += read_listed(root, name, modality, lambda _, cam=cam: cam)
    return found


def regdb_training_split(root: str | os.PathLike[str], trial: int) -> str:
    """Name the training images of a trial of RegDB.

    Args:
        root (str | PathLike): Root of the dataset.
        trial (int): Number of the split into train and test, from 1.

    Returns:
        str: Trial and a checksum of its training lists, such as
        'RegDB trial 2 (3f9a0c21d4)'; equal for the training and the test images.

    Raises:
        FileNotFoundError: A list is missing.
    """
    lists = [
        read_lines(Path(root) / f'idx/train_{kind}_{trial}.txt')
        for kind in ('visible', 'thermal')
    ]
    digest = hashlib.sha1('\n'.join(chain(*lists)).encode(), usedforsecurity=False)
    return f'RegDB trial {trial} ({digest.hexdigest()[:10]})'


def _read_llcm(root: Path, split: str, trial: int) -> list[PersonImage]:
    kinds = (('rgb', 'vis'), ('ir', 'nir'))
    if split == 'train':
        lists = [
            read_listed(root, f'idx/train_{kind}.txt', modality, camera_in)
            for modality, kind in kinds
        ]
        return [image for images in lists for image in images]
    ids = read_ids(root / 'idx/test_id.txt')
    return [
        image
        for modality, kind in kinds
        for image in _by_folder(root, ids, range(1, 10), f'test_{kind}/', modality)
    ]


SYSU_MM01 = ReIDLayout(
    title='SYSU-MM01',
    read=_read_sysu,
    counts={'train': Count(395, 22258, 11909), 'test': Count(96, 6775, 3803)},
    expected=('cam1/ ... cam6/ with folders 0001/ ...', 'exp/*_id.txt'),
    source='The dataset is given by its authors on request (wuancong/SYSU-MM01)',
)
REGDB = ReIDLayout(
    title='RegDB',
    read=_read_regdb,
    counts={'train': Count(206, 2060, 2060), 'test': Count(206, 2060, 2060)},
    expected=('Visible/', 'Thermal/', 'idx/{{train,test}}_*_{trial}.txt'),
    source='The dataset is given by its authors on request (Dongguk University)',
    trials=10,
)
LLCM = ReIDLayout(
    title='LLCM',
    read=_read_llcm,
    counts={'train': Count(713, 16946, 13975), 'test': Count(351, 8680, 7166)},
    expected=('idx/', 'vis/', 'nir/', 'test_vis/cam*/', 'test_nir/cam*/'),
    source='The dataset is given by its authors on request (ZYK100/LLCM)',
)
REID_SETS = {'SYSUMM01': SYSU_MM01, 'RegDB': REGDB, 'LLCM': LLCM}
"""Layouts by the name of their dataset class."""


def read_person_list(
    root: str | os.PathLike[str], ann_file: str | os.PathLike[str]
) -> list[PersonImage]:
    """Read a list of your own, with lines `path pid cam modality`.

    Args:
        root (str | PathLike): Folder the paths are relative to.
        ann_file (str | PathLike): The list. Paths may contain spaces.

    Returns:
        list[PersonImage]: Images in the order of the list.

    Raises:
        FileNotFoundError: The list or listed images are missing.
        AnnotationError: A line is broken, or names a file outside of the root.
    """
    found = []
    for number, line in enumerate(read_lines(ann_file), 1):
        words = line.rsplit(maxsplit=3)
        if (
            len(words) < 4
            or not (words[1].isdecimal() and words[2].isdecimal())
            or words[3] not in MODALITIES
        ):
            raise AnnotationError(
                f'{ann_file}, entry {number}: {line!r} is not "path pid cam modality" '
                f'with a modality of {MODALITIES}'
            )
        found.append(PersonImage(words[0], int(words[1]), int(words[2]), words[3]))
    require_files(Path(root), [image.path for image in found], Path(ann_file))
    return found
