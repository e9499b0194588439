"""Values of COCO files as tools write them: read, counted, or refused by name."""

import copy
import math

import pytest
from coco_files import coco_dict
from hypothesis import given
from hypothesis import strategies as st

from mmir.data.coco_entries import normalize_coco
from mmir.utils.errors import AnnotationError


def one_box(**values):
    """A file with one box of 8x9 and a second, plain one."""
    coco = coco_dict([[(1, (1, 2, 8, 9)), (2, (3, 3, 4, 4))]])
    coco['annotations'][0].update(values)
    return coco


def normalized(**values):
    coco = one_box(**values)
    normalize_coco(coco, 'ann.json')
    first, second = coco['annotations']
    assert (second['bbox'], second['area'], second['iscrowd']) == ([3, 3, 4, 4], 16, 0)
    return first, coco['notes']


@pytest.mark.parametrize(
    ('area', 'expected', 'note'),
    [
        (60, 60, None),
        (None, 72, None),
        (0, 72, 'not positive'),
        (-200, 72, 'not positive'),
        (math.nan, 72, 'not positive'),
        ('200', 200, 'areas written as text'),
        ('-3', 72, 'not positive'),
        ('Unspecified', 72, 'not positive'),
    ],
)
def test_areas(area, expected, note):
    ann, notes = normalized(area=area)
    assert ann['area'] == expected
    assert len(notes) == (note is not None)
    assert note is None or notes[0].startswith('1 ')
    assert note is None or note in notes[0]


@pytest.mark.parametrize(
    ('flags', 'crowd', 'noted'),
    [
        (dict(iscrowd='0'), 0, 'iscrowd as text'),
        (dict(iscrowd='1'), 1, 'iscrowd as text'),
        (dict(iscrowd=True), 1, ''),
        (dict(iscrowd=1.0), 1, ''),
        (dict(iscrowd=None), 0, ''),
        (dict(ignore=1), 1, 'ignore=1'),
        (dict(ignore=True, iscrowd=0), 1, 'ignore=1'),
        (dict(ignore='1'), 1, 'ignore=1'),
        (dict(ignore=0), 0, ''),
        (dict(ignore='false'), 0, 'ignore as text'),
    ],
)
def test_flags(flags, crowd, noted):
    ann, notes = normalized(**flags)
    assert (ann['iscrowd'], type(ann['iscrowd'])) == (crowd, int)
    assert 'ignore' not in ann  # mmdet leaves such a box out without a word
    assert bool(notes) == bool(noted)
    assert noted in ' '.join(notes)


def test_numbers_as_text():
    ann, notes = normalized(bbox=['1', '2.5', 8, ' 9 '], image_id='0', category_id='1')
    assert ann['bbox'] == [1, 2.5, 8, 9]
    assert (ann['image_id'], ann['category_id']) == (0, 1)
    assert notes == [
        '1 boxes written as text, read as numbers',
        '1 annotations with image_id of another type than the list',
        '1 annotations with category_id of another type than the list',
    ]
    coco = one_box()
    coco['images'][0].update(width='40', height='32.0')
    normalize_coco(coco, 'ann.json')
    assert (coco['images'][0]['width'], coco['images'][0]['height']) == (40, 32)
    assert 'size as text' in coco['notes'][0]


def test_ids_of_text_stay_as_listed():
    """The listed id is that of predictions and of the metric, so it stays."""
    coco = one_box()
    coco['images'][0]['id'] = '0'
    normalize_coco(coco, 'ann.json')
    assert [ann['image_id'] for ann in coco['annotations']] == ['0', '0']


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        (
            dict(iscrowd='maybe'),
            "annotation 1 of image 0 has iscrowd='maybe', which is",
        ),
        (dict(ignore=2), 'has ignore=2, which is neither 0 nor 1'),
        (dict(bbox=['a', 1, 2, 3]), r"no box of four numbers .*\['a', 1, 2, 3\]"),
        (dict(bbox=[True, 1, 2, 3]), 'no box of four numbers'),
        (dict(bbox=[1, 2, 3]), 'no box of four numbers'),
        (dict(image_id=[0]), r"annotations\[0\] has no 'image_id'"),
    ],
)
def test_values_without_a_meaning_are_named(values, message):
    with pytest.raises(AnnotationError, match=rf'ann\.json.*{message}'):
        normalize_coco(one_box(**values), 'ann.json')


@pytest.mark.parametrize('size', [0, -3, math.nan, math.inf, 'Unspecified', True])
def test_sizes_without_a_meaning_are_named(size):
    coco = one_box()
    coco['images'][0]['width'] = size
    with pytest.raises(AnnotationError, match=r'image 0\.png has the size'):
        normalize_coco(coco, 'ann.json')


@given(st.lists(st.sampled_from([0, 1, '0', '1', True, False, None]), max_size=6))
def test_normalizing_twice_changes_nothing(flags):
    coco = coco_dict([[(1, (1, 2, 8, 9)) for _ in flags]])
    for ann, flag in zip(coco['annotations'], flags, strict=True):
        ann['iscrowd'] = flag
    normalize_coco(coco, 'ann.json')
    once = copy.deepcopy(coco['annotations'])
    assert [ann['iscrowd'] for ann in once] == [int(flag or 0) for flag in flags]
    normalize_coco(coco, 'ann.json')
    assert (coco['annotations'], coco['notes']) == (once, [])
