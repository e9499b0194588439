"""Readers of label files: accepted input and errors that name the file."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmir.data.readers import (
    read_bbgt,
    read_names,
    read_voc,
    read_xml,
    read_yolo,
    without_suffix,
    yolo_boxes,
)
from mmir.utils.errors import AnnotationError

SIZE_XML = '<size><width>9</width><height>8</height></size>'


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', 'is refused'),
        ('<?xml version="1.0"?><!DOCTYPE a><a/>'.encode('utf-16'), 'is refused'),
        ('<!DOCTYPE a><a/>'.encode('utf-16-le'), 'is refused'),
        (b'<annotation>', 'not a complete XML file'),
        (
            b'<a><object><name>x</name><bndbox><x>1</x><y>b</y><w>1</w><h>1</h>'
            b'</bndbox></object></a>',
            r'object\[0\].*could not convert',
        ),
    ],
)
def test_refused_xml(tmp_path, content, message):
    path = tmp_path / 'a.xml'
    path.write_bytes(content)
    with pytest.raises(AnnotationError, match=message):
        read_xml(path)


def test_xml_shapes(tmp_path):
    """Edges, sides, and the box around a polygon, which precedes a bndbox."""
    path = tmp_path / 'a.xml'
    polygon = ''.join(
        f'<x{k}>{x}</x{k}><y{k}>{y}</y{k}>'
        for k, (x, y) in enumerate([(5, 1), (9, 4.5), (5, 8), (2, 4)], 1)
    )
    path.write_bytes(
        f'\ufeff<annotation>{SIZE_XML}<object><name>na\xefve</name><bndbox><xmin>1</xmin>'
        '<ymin>2</ymin><xmax>4</xmax><ymax>7</ymax></bndbox><polygon>'
        f'{polygon}</polygon></object></annotation>'.encode()
    )
    size, (label,) = read_xml(path)
    assert (size, label.name, label.box) == ((9, 8), 'na\xefve', (2, 1, 7, 7))
    edges = '<xmin>1</xmin><ymin>2</ymin><xmax>4</xmax><ymax>7</ymax>'
    sides = '<x>1</x><y>2</y><w>3</w><h>5</h>'
    objects = [
        f'<object><name>a</name><bndbox>{box}</bndbox></object>'
        for box in (edges, sides)
    ]
    path.write_text(f'<annotation>{"".join(objects)}</annotation>')
    size, labels = read_xml(path)
    assert size is None
    assert [label.box for label in labels] == [(1, 2, 3, 5)] * 2


@pytest.mark.parametrize('line', ['person 1 2 3', 'person a 2 3 4 0 0 0 0 0 0 0'])
def test_wrong_bbgt_lines(tmp_path, line):
    path = tmp_path / 'a.txt'
    path.write_text(f'% bbGt version=3\n\nperson 1 2 3 4 0 0 0 0 0 1 0\n{line}\n')
    with pytest.raises(AnnotationError, match=r'a\.txt:4: expected'):
        read_bbgt(path)
    path.write_text(path.read_text().removesuffix(f'{line}\n'))
    _, (label,) = read_bbgt(path)
    assert (label.box, label.crowd) == ((1, 2, 3, 4), True)


def test_voc_files_are_refused_as_other_xml(tmp_path):
    path = tmp_path / 'a.xml'
    path.write_text('<!DOCTYPE a><annotation/>')
    with pytest.raises(AnnotationError, match='is refused'):
        read_voc(path)
    path.write_text('<annotation><object><name>x</name></object></annotation>')
    with pytest.raises(AnnotationError, match=r'object\[0\] needs name and bndbox'):
        read_voc(path)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 30), st.floats(0, 20), st.floats(1, 10), st.floats(1, 12)
        ),
        max_size=4,
    )
)
def test_yolo_pixels_round_trip(boxes):
    boxes = np.array(boxes).reshape(-1, 4)
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    rows = np.concatenate([centres, boxes[:, 2:]], 1) / [40, 32, 40, 32]
    back = yolo_boxes(rows, 40, 32)
    np.testing.assert_allclose(back, boxes, atol=1e-12)


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('2 0.5 0.5 0.1 0.1', r'a\.txt:2: class 2, but there are 2 class names'),
        ('-1 0.5 0.5 0.1 0.1', 'class -1'),
        ('0 20 16 4 4', 'is not relative to the image size'),
        ('0 0.5 0.5 0.1', 'expected "class x y width height"'),
        ('car 0.5 0.5 0.1 0.1', 'expected "class x y width height"'),
        ('0 .1 .1 .2 .1 .2 .2', r'\(polygons are not boxes\)'),
    ],
)
def test_wrong_yolo_lines(tmp_path, line, message):
    path = tmp_path / 'a.txt'
    path.write_text(f'0 0.5 0.5 0.1 0.1\n{line}\n')
    with pytest.raises(AnnotationError, match=message):
        read_yolo(path, 2)


def labeled_xml(name, head='', size=SIZE_XML, difficult='', path=''):
    box = '<xmin>1</xmin><ymin>2</ymin><xmax>4</xmax><ymax>7</ymax>'
    return (
        f'{head}<annotation>{path}{size}<object><name>{name}</name>{difficult}'
        f'<bndbox>{box}</bndbox></object></annotation>'
    )


@pytest.mark.parametrize(
    ('head', 'encoding'),
    [
        ('', 'utf-8'),
        ('', 'utf-8-sig'),
        ('', 'utf-16'),
        ('\n<?xml version="1.0" encoding="utf-8"?>', 'utf-8'),
        ('<?xml version="1.0" encoding="GB2312"?>', 'gbk'),
        ("<?xml version='1.0' encoding='gbk'?>", 'gb18030'),
        ('<?xml version="1.0" encoding="utf-16"?>', 'utf-16'),
        ('<?xml version="1.0" encoding="utf-16"?>', 'utf-8'),  # of .NET's StringWriter
    ],
)
@pytest.mark.parametrize('read', [read_xml, read_voc])
def test_xml_in_any_encoding_it_declares(tmp_path, read, head, encoding):
    path = tmp_path / 'a.xml'
    path.write_bytes(labeled_xml('\u884c\u4eba', head).encode(encoding))
    label = read(path)[-1][0]
    name = label['name'] if read is read_voc else label.name
    assert name == '\u884c\u4eba'


@pytest.mark.parametrize('head', ['', '<?xml version="1.0" encoding="utf-8"?>\n'])
def test_xml_in_an_encoding_it_does_not_declare(tmp_path, head):
    """It is refused where a name is concerned, not for the path on someone's disk."""
    path = tmp_path / 'a.xml'
    path.write_bytes(labeled_xml('\u884c\u4eba', head).encode('gbk'))
    line = 1 + head.count('\n')
    with pytest.raises(AnnotationError, match=rf'a\.xml:{line} .*name .* as UTF-8'):
        read_xml(path)
    disk = '<path>D:\\\u7ea2\u5916\\a.png</path>'
    path.write_bytes(labeled_xml('car', head, path=disk).encode('gbk'))
    assert read_xml(path)[1][0].name == 'car'
    broken = labeled_xml('\u884c', '<?xml version="1.0" encoding="no-such"?>')
    path.write_bytes(broken.encode('gbk'))
    with pytest.raises(AnnotationError, match=r'a\.xml:1: not UTF-8'):
        read_xml(path)


@pytest.mark.parametrize('side', ['Unspecified', '', '0', '-4', 'nan', 'inf', None])
@pytest.mark.parametrize('read', [read_xml, read_voc])
def test_a_size_that_is_no_number_is_unknown(tmp_path, read, side):
    size = (
        '' if side is None else f'<size><width>{side}</width><height>8</height></size>'
    )
    path = tmp_path / 'a.xml'
    path.write_text(labeled_xml('car', size=size))
    found = read(path)
    assert found[-2] is None
    assert len(found[-1]) == 1


@pytest.mark.parametrize(
    ('text', 'crowd'),
    [('1', 1), ('0', 0), ('True', 1), (' 1 ', 1), ('Unspecified', 0), ('', 0)],
)
def test_difficult(tmp_path, text, crowd):
    path = tmp_path / 'a.xml'
    path.write_text(labeled_xml('car', difficult=f'<difficult>{text}</difficult>'))
    assert read_voc(path)[2][0]['iscrowd'] == crowd


def test_difficult_without_a_meaning_is_named(tmp_path):
    path = tmp_path / 'a.xml'
    path.write_text(labeled_xml('car', difficult='<difficult>often</difficult>'))
    with pytest.raises(AnnotationError, match=r"a\.xml: object\[0\].*'often'"):
        read_voc(path)


@pytest.mark.parametrize(
    ('name', 'bare'),
    [
        ('a.png', 'a'),
        ('a.JPG', 'a'),
        ('set 1/f.2021', 'set 1/f.2021'),
        ('f.2021.tiff', 'f.2021'),
        ('a.xml', 'a'),
        ('v1.0/frame', 'v1.0/frame'),
    ],
)
def test_only_the_suffix_of_a_file_is_removed(name, bare):
    assert without_suffix(name) == bare


def test_lists_keep_spaces_and_dots(tmp_path):
    path = tmp_path / 'train.txt'
    path.write_bytes(b'\xef\xbb\xbfa b.png\r\n\r\nf.2021\r\nc\r\n')
    assert read_names(path) == ['a b', 'f.2021', 'c']


@pytest.mark.parametrize('read', [read_bbgt, lambda path: read_yolo(path, 1)])
def test_text_labels_in_another_encoding_are_named(tmp_path, read):
    path = tmp_path / 'a.txt'
    path.write_bytes('0 .5 .5 .2 .2'.encode('utf-16'))
    with pytest.raises(AnnotationError, match=r'a\.txt:1: not UTF-8 text \(UTF-16'):
        read(path)
    more = b' 0 0 0 0 0 0' if read is read_bbgt else b''
    path.write_bytes(b'\xef\xbb\xbf0 .5 .5 .25 .5' + more)
    assert len(read(path)[-1]) == (1 if read is read_bbgt else 5)
