"""Files that annotations name lie below the data folder."""

import json
import os

import cv2
import numpy as np
import pytest
from coco_files import coco_dict, image, write_coco, write_image

from mmir.data.check import DAMAGED, ELSEWHERE, IRREGULAR
from mmir.data.coco import check_coco, validate_coco
from mmir.data.inside import outside
from mmir.data.layouts.seg import match_files
from mmir.utils.errors import AnnotationError

LEADING_OUT = ['/etc/hostname', '../a.png', 'x/../../a.png', '/data/other/a.png']


def test_names_that_lead_out_of_the_data():
    inside = ['a.png', 'x/a.png', 'x/../a.png', '..a.png', 'x/..y/a.png']
    inside += ['/data/set/images/a.png']
    assert outside(inside + LEADING_OUT, '/data/set/images') == LEADING_OUT
    below = '/data/set'
    assert outside(inside + LEADING_OUT, '/data/set/images', below) == [
        name for name in LEADING_OUT if name not in ('../a.png', 'x/../../a.png')
    ]
    assert outside(['../setting/a.png'], below) == ['../setting/a.png']
    assert outside(LEADING_OUT, '/data/set/images', '/') == []


def test_relative_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ('', '.', 'images'):
        assert outside(['a.png', 'b/../a.png'], folder) == []
        assert outside(['../a.png'], folder) == ['../a.png']


def test_links_are_followed_but_not_climbed_out_of(tmp_path):
    """`link/..` is the parent of what the link points to."""
    root, other = tmp_path / 'root', tmp_path / 'other/pictures'
    root.mkdir()
    other.mkdir(parents=True)
    (root / 'images').symlink_to(other)
    write_image(other / 'a.png')
    assert outside(['images/a.png'], root) == []
    assert outside(['a.png', '../images/a.png'], root / 'images', root) == [
        '../images/a.png'  # the system would look for tmp_path/other/images/a.png
    ]
    assert outside(['images/../a.png'], root) == ['images/../a.png']


def test_annotations_that_name_files_elsewhere(tmp_path):
    root = tmp_path / 'data'
    coco = coco_dict([[], []])
    ann_file = write_coco(root, coco)
    write_image(tmp_path / 'secret.png', image())
    coco['images'][1]['file_name'] = '../secret.png'
    ann_file.write_text(json.dumps(coco))
    report = validate_coco(ann_file, root, deep=True)
    assert [(p.kind, p.name) for p in report.problems] == [(ELSEWHERE, '../secret.png')]
    assert validate_coco(ann_file, root, deep=True, below=tmp_path).ok
    assert validate_coco(ann_file, root, deep=True, below='/').ok


@pytest.mark.timeout(60)
def test_pipes_are_named_and_not_opened(tmp_path):
    coco = coco_dict([[], [], []])
    ann_file = write_coco(tmp_path, coco)
    for name in ('0.png', '1.png'):
        (tmp_path / name).unlink()
    os.mkfifo(tmp_path / '0.png')
    (tmp_path / '1.png').symlink_to('/dev/zero')
    report = validate_coco(ann_file, tmp_path, deep=True)
    assert [(p.kind, p.name) for p in report.problems] == [
        (IRREGULAR, '0.png'),
        (IRREGULAR, '1.png'),
    ]
    assert [p.kind for p in check_coco(coco, 'ann.json', tmp_path).problems] == [
        IRREGULAR,
        IRREGULAR,
    ]


def test_lists_that_name_files_elsewhere(tmp_path):
    folders = {key: str(tmp_path / 'set' / key) for key in ('rgb', 'seg_map_path')}
    for folder in folders.values():
        write_image(f'{folder}/a.png')
        write_image(f'{tmp_path}/{os.path.basename(folder)}/b.png')
    name = '../../rgb/b'
    with pytest.raises(AnnotationError, match=r'\.\./rgb/b.*allow_outside=True'):
        match_files(folders, ['a', name])
    assert match_files(folders, ['a', '../rgb/a'], below=tmp_path / 'set').samples
    assert match_files(folders, ['a', name], below='/').samples[1].paths['rgb']
    os.mkfifo(tmp_path / 'set/rgb/pipe.png')
    assert [sample.name for sample in match_files(folders).samples] == ['a']


def test_damaged_jpeg_is_named_by_the_deep_check(tmp_path):
    coco = coco_dict([[], []], size=(128, 96))
    for entry in coco['images']:
        entry['file_name'] = entry['file_name'].replace('png', 'jpg')
    ann_file = write_coco(tmp_path, coco)
    pixels = cv2.GaussianBlur(image(96, 128), (0, 0), 2)
    data = bytearray(cv2.imencode('.jpg', pixels)[1].tobytes())
    (tmp_path / '1.jpg').write_bytes(data)
    assert validate_coco(ann_file, tmp_path, deep=True).ok
    del data[len(data) // 2 : len(data) // 2 + 40]
    (tmp_path / '1.jpg').write_bytes(data)
    assert np.any(cv2.imread(str(tmp_path / '1.jpg'), 0) != pixels)
    report = validate_coco(ann_file, tmp_path, deep=True)
    assert [(p.kind, p.name) for p in report.problems] == [(DAMAGED, '1.jpg')]
