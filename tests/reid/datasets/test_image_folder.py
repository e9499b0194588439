"""`ImageFolder`: samples and errors."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mmir.reid import ImageFolder
from mmir.utils.errors import AnnotationError, UserError

LOAD = [dict(type='LoadImageFromFile')]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for k, name in enumerate(('cat', 'dog')):
        (tmp_path / 'train' / name).mkdir(parents=True)
        for n in range(2):
            image = np.full((8, 6, 3), 100 * k + n, np.uint8)
            cv2.imwrite(str(tmp_path / f'train/{name}/{n}.png'), image)
    return tmp_path


def folder(root: Path, pipeline: list | tuple = LOAD) -> ImageFolder:
    return ImageFolder(data_root=str(root), data_prefix='train', pipeline=pipeline)


def test_a_folder_is_a_class(root: Path) -> None:
    data = folder(root)
    assert data.metainfo['classes'] == ('cat', 'dog')
    found = [(data[k]['gt_label'], int(data[k]['img'][0, 0, 0])) for k in range(4)]
    assert found == [(0, 0), (0, 1), (1, 100), (1, 101)]


def test_a_single_class_is_refused(root: Path) -> None:
    for path in (root / 'train/dog').iterdir():
        path.unlink()
    with pytest.raises(UserError, match='only one of the 2 folders'):
        folder(root)
    (root / 'train/dog').rmdir()
    with pytest.raises(UserError, match='1 folders of classes'):
        folder(root)
    with pytest.raises(UserError, match='is no folder'):
        folder(root / 'gone')


@pytest.mark.parametrize('content', [b'', b'no image'])
def test_unreadable_files_are_named(root: Path, content: bytes) -> None:
    (root / 'train/dog/1.png').write_bytes(content)
    data = folder(root)
    assert data[2]['gt_label'] == 1
    with pytest.raises(AnnotationError, match=r'dog/1\.png cannot be read'):
        data[3]


def test_faults_of_transforms_are_theirs(root: Path) -> None:
    def broken(results: dict) -> dict:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        folder(root, [*LOAD, broken])[0]
