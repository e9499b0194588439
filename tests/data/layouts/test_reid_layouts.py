"""Layouts of re-identification datasets: official counts, order, what is wrong."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from sysu_counts import COUNTS, images

from mmir.data.layouts.reid import (
    LLCM,
    REGDB,
    REID_SETS,
    SYSU_MM01,
    camera_in,
    read_ids,
    read_person_list,
)
from mmir.data.layouts.reid_check import check_reid
from mmir.data.layouts.seg import MissingFilesError
from mmir.testing.scenes.reid_layouts import write_reid_set
from mmir.utils.errors import AnnotationError


@pytest.fixture(scope='module')
def sysu(tmp_path_factory):
    """A tree of empty files with the numbers of SYSU-MM01."""
    root = tmp_path_factory.mktemp('cam9') / 'sysu'  # "cam" in the path must not matter
    (root / 'exp').mkdir(parents=True)
    everyone = []
    for name in ('train', 'val', 'test'):
        ids = COUNTS[f'{name}_ids']
        everyone += ids
        (root / f'exp/{name}_id.txt').write_text(','.join(map(str, ids)) + '\n')
    folder = None
    for pid, cam, name in images((1, 2, 3, 4, 5, 6), everyone):
        if folder != root / f'cam{cam}/{pid:04d}':
            folder = root / f'cam{cam}/{pid:04d}'
            folder.mkdir(parents=True)
        (folder / name).touch()
    return root


def test_numbers_of_sysu(sysu):
    for split, (ids, rgb, ir) in SYSU_MM01.counts.items():
        found = SYSU_MM01.images(sysu, split)
        assert len({image.pid for image in found}) == ids
        assert [image.modality for image in found] == ['rgb'] * rgb + ['ir'] * ir
    queries = [image.cam for image in found if image.modality == 'ir']
    assert (queries.count(3), queries.count(6)) == (1883, 1920)
    cams = {image.cam for image in found if image.modality == 'rgb'}
    assert cams == {1, 2, 4, 5}


def test_order_of_sysu(sysu):
    found = SYSU_MM01.images(sysu, 'test')
    assert found[0] == ('cam1/0006/0001.jpg', 6, 1, 'rgb')
    for modality in ('rgb', 'ir'):
        keys = [(i.pid, i.cam, i.path) for i in found if i.modality == modality]
        assert keys == sorted(keys)


def copy_of(source, tmp_path):
    root = tmp_path / 'copy'
    shutil.copytree(source, root)
    return root


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Synthetic people in every layout: 6 + 4 identities."""
    root = tmp_path_factory.mktemp('people')
    for name in REID_SETS:
        write_reid_set(name, root / name, 6, 4, 2, size=(16, 32), progress=False)
    return root


@pytest.mark.parametrize('name', REID_SETS)
@pytest.mark.parametrize('split', ['train', 'test'])
def test_synthetic_people_are_read(made, name, split):
    layout = REID_SETS[name]
    found = layout.images(made / name, split)
    assert len({image.pid for image in found}) == {'train': 6, 'test': 4}[split]
    order = [image.modality for image in found]
    assert order == sorted(order, reverse=True)
    assert {*order} == {'rgb', 'ir'}
    assert len({image.path for image in found}) == len(found)
    report = check_reid(layout, made / name, split)
    assert report.ok, report.text()
    assert 'not comparable to published ones' in report.notes[0]


def test_cameras_of_llcm(made):
    for split in ('train', 'test'):
        for image in LLCM.images(made / 'LLCM', split):
            assert f'_c{image.cam:02d}_' in image.path
            assert not (image.cam == 3 and image.modality == 'ir')


def test_trials_of_regdb_differ_and_do_not_leak(made):
    tests = []
    for trial in range(1, 11):
        train, test = (
            {i.path for i in REGDB.images(made / 'RegDB', split, trial)}
            for split in ('train', 'test')
        )
        assert not train & test
        tests.append(frozenset(test))
    assert len(set(tests)) > 5
    with pytest.raises(ValueError, match='trial must be from 1 to 10, got 0'):
        REGDB.images(made / 'RegDB', 'test', 0)


@pytest.mark.parametrize(
    ('path', 'cam'),
    [
        ('test_vis/cam7/0003/x.jpg', 7),
        ('cam2/cam4/x_c09_y.jpg', 4),
        ('nir/0001/0001_c05_s185535_f7010_nir.jpg', 5),
        ('a/cam03.png', 3),
        ('a/0003.jpg', 0),
        ('camera/acam3b.jpg', 0),
    ],
)
def test_camera_of_a_path(path, cam):
    assert camera_in(path) == cam


def test_check_finds_what_is_wrong(made, tmp_path):
    root = copy_of(made / 'SYSUMM01', tmp_path)
    (root / 'cam4/0001/0001.jpg').write_bytes(b'')
    data = (root / 'cam4/0002/0001.jpg').read_bytes()
    (root / 'cam4/0002/0001.jpg').write_bytes(data[: len(data) // 2])
    for cam in (3, 6):
        shutil.rmtree(root / f'cam{cam}/0004')
    (root / 'exp/val_id.txt').write_text('6,7')
    report = check_reid(SYSU_MM01, root, 'train')
    found = {(p.kind, p.name) for p in report.problems}
    assert ('image cannot be read', 'cam4/0001/0001.jpg') in found
    damaged = {name for kind, name in found if name == 'cam4/0002/0001.jpg'}
    assert damaged
    assert ('identity in one modality only', 'identity 4') in found
    shared = [name for kind, name in found if kind == 'shared by train and test']
    assert shared
    assert all('/0007/' in name for name in shared)


def test_missing_data_says_what_is_expected(made, tmp_path):
    for layout in REID_SETS.values():
        with pytest.raises(
            MissingFilesError, match=r'It does not exist\. Expected'
        ) as e:
            layout.images(tmp_path / 'none', 'train')
        assert layout.title in str(e.value)
    with pytest.raises(ValueError, match=r"one of \['train', 'test'\], got 'val'"):
        LLCM.images(tmp_path, 'val')
    root = copy_of(made / 'RegDB', tmp_path)
    name = REGDB.images(root, 'train')[3].path
    (root / name).unlink()
    with pytest.raises(MissingFilesError, match='1 of 12 files') as error:
        REGDB.images(root, 'train')
    assert name in str(error.value)
    assert 'idx/{train,test}_*_1.txt' in str(error.value)
    (tmp_path / 'exp').mkdir()
    (tmp_path / 'exp/test_id.txt').write_text('1,2')
    with pytest.raises(MissingFilesError, match='no image of the listed identities'):
        SYSU_MM01.images(tmp_path, 'test')


@pytest.mark.parametrize('text', ['', '1;2', '1,x,3'])
def test_broken_lists_of_identities(tmp_path, text):
    (tmp_path / 'ids.txt').write_text(text)
    with pytest.raises(AnnotationError, match='must hold identity numbers'):
        read_ids(tmp_path / 'ids.txt')


@pytest.fixture
def own(tmp_path):
    """Write a list with its images; the lines are given."""
    for name in ('a b.jpg', 'c.jpg'):
        cv2.imwrite(str(tmp_path / name), np.zeros((4, 4), np.uint8))

    def write(*lines: str) -> tuple[Path, Path]:
        (tmp_path / 'list.txt').write_text('\n'.join(lines))
        return tmp_path, tmp_path / 'list.txt'

    return write


def test_a_list_of_your_own(own):
    found = read_person_list(*own('a b.jpg 17 2 ir', 'c.jpg 3 1 rgb'))
    assert found == [('a b.jpg', 17, 2, 'ir'), ('c.jpg', 3, 1, 'rgb')]


@pytest.mark.parametrize(
    ('lines', 'message'),
    [
        (['c.jpg 1 2'], 'is not "path pid cam modality"'),
        (['c.jpg 1 2 nir'], 'is not "path pid cam modality"'),
        (['c.jpg x 2 ir'], 'entry 1'),
        ([], 'is empty'),
        (['c.jpg 1 2 ir', 'c.jpg 1 2 ir'], 'lists files twice: c.jpg'),
        (['../c.jpg 1 2 ir'], 'leads out of'),
    ],
)
def test_broken_lists_are_refused(own, lines, message):
    with pytest.raises(AnnotationError, match=message):
        read_person_list(*own(*lines))


def test_missing_files_of_a_list_are_named(own):
    with pytest.raises(FileNotFoundError, match=r'1 of 2 files .* d.jpg'):
        read_person_list(*own('c.jpg 1 2 ir', 'd.jpg 1 2 ir'))
