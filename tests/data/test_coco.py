import json
import math

import numpy as np
import pytest
from coco_files import coco_dict, image, write_coco, write_image
from hypothesis import given, settings
from hypothesis import strategies as st

from mmir.data.check import examine_boxes
from mmir.data.coco import check_coco, image_names, label_map, read_coco, validate_coco
from mmir.utils.errors import AnnotationError
from mmir.utils.files import few

VALUES = st.floats(-60, 60) | st.sampled_from([0.0, math.nan, math.inf, -math.inf])


def reference_box(box, width, height):
    """Classify and clip one box with scalar code."""
    x, y, w, h = box
    if not all(map(math.isfinite, box)) or w <= 0 or h <= 0:
        return 'degenerate', None
    x1, y1 = min(max(x, 0), width), min(max(y, 0), height)
    x2, y2 = min(max(x + w, 0), width), min(max(y + h, 0), height)
    if x2 - x1 <= 0 or y2 - y1 <= 0:
        return 'outside', None
    over = max(-x, -y, x + w - width, y + h - height)
    return ('partly' if over > 1 else 'fine'), (x1, y1, x2 - x1, y2 - y1)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(VALUES, VALUES, VALUES, VALUES), max_size=5))
def test_boxes_equal_the_scalar_reference(boxes):
    found = examine_boxes(np.array(boxes), np.tile([40.0, 32.0], (len(boxes), 1)))
    for k, box in enumerate(boxes):
        kind, clipped = reference_box(box, 40, 32)
        flags = {
            'degenerate': found.degenerate[k],
            'outside': found.outside[k],
            'partly': found.partly[k],
        }
        assert [name for name, on in flags.items() if on] == [kind] * (kind != 'fine')
        if clipped:
            np.testing.assert_array_equal(found.clipped[k], clipped)


def test_sound_data(tmp_path):
    coco = coco_dict([[(1, (1, 2, 8, 9))], [(2, (0, 0, 40, 32)), (1, (5, 5, 3, 3))]])
    report = validate_coco(write_coco(tmp_path, coco), tmp_path, ('car',), deep=True)
    assert report.ok
    assert (report.samples, report.labels) == (2, {'person': 2, 'car': 1})
    assert report.notes == ['boxes of other categories, left out: person 2']
    assert 'no problems' in report.text()
    report.raise_on_problems()


def test_every_problem_is_named():
    coco = coco_dict(
        [
            [(1, (1, 2, 0, 9)), (1, (math.nan, 2, 5, 5)), (9, (1, 1, 2, 2))],
            [(2, (50, 0, 4, 4)), (2, (36, 0, 8, 8))],
        ]
    )
    coco['annotations'].append(
        {'id': 5, 'image_id': 77, 'category_id': 1, 'bbox': [0, 0, 1, 1]}
    )
    coco['images'].append({**coco['images'][1]})
    report = check_coco(coco, 'ann.json')
    found = sorted((p.kind, p.name) for p in report.problems)
    assert found == [
        ('annotation id used twice', '5'),
        ('annotation of an image not listed', 'annotation 5'),
        ('box outside the image', '1.png'),
        ('box without a positive finite size', '0.png'),
        ('box without a positive finite size', '0.png'),
        ('category id not listed', '0.png'),
        ('image id used twice', '1'),
        ('image listed twice', '1.png'),
    ]
    assert report.notes == [
        '1 boxes extend past the edge of the image and are clipped: 1.png'
    ]
    assert 'box [50, 0, 4, 4], image 40x32' in report.text()
    with pytest.raises(AnnotationError, match='image_id 77'):
        report.raise_on_problems()


def test_unlisted_ids_are_found_also_when_classes_are_chosen():
    coco = coco_dict([[(9, (1, 1, 2, 2)), (1, (90, 90, 2, 2))]])
    report = check_coco(coco, 'ann.json', classes=('car',))
    assert [p.kind for p in report.problems] == ['category id not listed']
    assert report.labels == {'id 9 (not listed)': 1, 'person': 1}


def test_unknown_class_names_those_there_are():
    coco = coco_dict([[]], names=('Person', 'car'))
    report = check_coco(coco, 'ann.json', classes=('person', 'car'))
    assert "no category 'person'; it has 'Person', 'car'" in report.text()
    with pytest.raises(AnnotationError, match='metainfo=dict'):
        label_map(coco, ('person', 'car'), 'ann.json')


def test_labels_follow_the_classes_not_the_file():
    coco = {'categories': [{'id': 18, 'name': 'a'}, {'id': 3, 'name': 'b'}]}
    assert label_map(coco, ('b', 'a'), 'x') == {18: 1, 3: 0}
    assert label_map(coco, ('a',), 'x') == {18: 0}


def test_images_missing_unreadable_and_of_another_size(tmp_path):
    coco = coco_dict([[], [], [], []])
    ann_file = write_coco(tmp_path, coco)
    (tmp_path / '0.png').unlink()
    cut = (tmp_path / '1.png').read_bytes()[:-30]
    (tmp_path / '1.png').write_bytes(cut)
    write_image(tmp_path / '2.png', image(20, 20))
    quick = validate_coco(ann_file, tmp_path)
    assert [(p.kind, p.name) for p in quick.problems] == [('image is missing', '0.png')]
    deep = validate_coco(ann_file, tmp_path, deep=True)
    assert [(p.kind, p.name) for p in deep.problems[1:]] == [
        ('image cannot be read', '1.png'),
        ('size differs from the annotation', '2.png'),
    ]
    assert 'file 20x20, annotation 40x32' in deep.text()


def test_long_reports_are_cut(tmp_path):
    coco = coco_dict([[] for _ in range(50)])
    report = check_coco(coco, 'ann.json', tmp_path)
    text = report.text(limit=3)
    assert 'image is missing: 50' in text
    assert '... and 47 more' in text
    assert len(text.splitlines()) < 12
    assert few('abcdefg', 3) == 'a, b, c and 4 more'


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{"images": [', 'not a complete JSON file'),
        ('[1]', 'holds a list, not COCO data'),
        ('{"images": []}', "no list 'annotations'"),
        ({'images': [{'id': 0, 'file_name': 'a'}]}, r"images\[0\] has no 'width'"),
        ({'images': [5]}, r'images\[0\] has no'),
        ({'annotations': [{'image_id': 0, 'category_id': 1}]}, "has no 'bbox'"),
        (
            {'annotations': [{'image_id': 0, 'category_id': 1, 'bbox': [1, 2, '3']}]},
            'annotation None of image 0 has no box of four numbers',
        ),
        (
            {'images': [{'id': 0, 'file_name': 'a', 'width': 0, 'height': 3}]},
            r'image a has the size \(0, 3\)',
        ),
    ],
)
def test_broken_annotation_files(tmp_path, content, message):
    if isinstance(content, dict):
        content = {'images': [], 'annotations': [], 'categories': [], **content}
        content = json.dumps(content)
    path = tmp_path / 'ann.json'
    path.write_text(content)
    with pytest.raises(AnnotationError, match=message) as error:
        read_coco(path)
    assert str(path) in str(error.value)


def test_missing_annotation_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'not found: .*nothing\.json'):
        read_coco(tmp_path / 'nothing.json')


def test_image_names_lists_each_folder(tmp_path):
    write_image(tmp_path / 'a' / 'x.png')
    write_image(tmp_path / 'y.png')
    names = ['a/x.png', 'y.png', 'a/y.png', 'b/x.png']
    assert image_names(tmp_path, names) == {'a/x.png', 'y.png'}


@pytest.mark.parametrize(
    ('ann_file', 'folder', 'images', 'boxes'),
    [
        ('hituav/train.json', 'hituav/train', 400, 3608),
        ('hituav/test.json', 'hituav/test', 200, 1630),
        ('drone_ir/train.json', 'drone_ir/images', 245, 253),
    ],
)
def test_real_data_are_sound(real_data, ann_file, folder, images, boxes):
    report = validate_coco(real_data / ann_file, real_data / folder)
    assert report.ok, report.text()
    assert (report.samples, sum(report.labels.values())) == (images, boxes)
