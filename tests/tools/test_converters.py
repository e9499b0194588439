"""The converters, run as users run them and as functions."""

import json
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from coco_files import image, write_flir_v10, write_flir_v13, write_image
from pycocotools.coco import COCO

from mmir.data.coco import validate_coco
from mmir.utils.errors import AnnotationError

FOLDER = Path(__file__).parents[2] / 'tools' / 'dataset_converters'


@pytest.fixture(scope='module')
def tools():
    """The three scripts, importable as their own imports expect."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield {n: import_module(n) for n in ('flir', 'voc_to_coco', 'yolo_to_coco')}
    finally:
        sys.path.remove(str(FOLDER))


def write_voc(folder, name, objects, size=(40, 32), image_name=None):
    """Write a VOC file and its image; objects are (name, corners, difficult)."""
    write_image(folder / 'JPEGImages' / f'{name}.png', image(32, 40))
    nodes = ''.join(
        f'<object><name>{n}</name><difficult>{d}</difficult><bndbox>'
        + ''.join(f'<{k}>{v}</{k}>' for k, v in zip(KEYS, corners, strict=True))
        + '</bndbox></object>'
        for n, corners, d in objects
    )
    path = folder / 'Annotations' / f'{name}.xml'
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f'<annotation><filename>{image_name or name + ".jpg"}</filename>'
        f'<size><width>{size[0]}</width><height>{size[1]}</height></size>{nodes}'
        '</annotation>'
    )


KEYS = ('xmin', 'ymin', 'xmax', 'ymax')


def voc_arguments(folder, *more):
    images = str(folder / 'JPEGImages')
    return [str(folder / 'Annotations'), '--images', images, *more]


def test_voc_pixels_count_from_one(tools, tmp_path):
    """Boxes of the whole image and of a single pixel: both ends are included."""
    objects = [('car', (1, 1, 40, 32), 0), ('person', (3, 5, 3, 5), 1)]
    write_voc(tmp_path, 'a', objects, size=(0, 0))  # size unknown: read from the image
    write_voc(tmp_path, 'b', [])
    out = tmp_path / 'out' / 'train.json'
    assert tools['voc_to_coco'].main(voc_arguments(tmp_path, '--out', str(out))) == 0
    coco = COCO(str(out))
    assert [a['bbox'] for a in coco.loadAnns([1, 2])] == [[0, 0, 40, 32], [2, 4, 1, 1]]
    assert [a['iscrowd'] for a in coco.loadAnns([1, 2])] == [0, 1]
    assert [coco.cats[k]['name'] for k in (1, 2)] == ['car', 'person']
    assert coco.imgs[0] == {'id': 0, 'file_name': 'a.png', 'width': 40, 'height': 32}
    assert validate_coco(out, tmp_path / 'JPEGImages', deep=True).ok


def test_voc_list_and_class_order(tools, tmp_path):
    for name in 'abc':
        write_voc(tmp_path, name, [('car', (1, 1, 9, 9), 0)])
    (tmp_path / 'train.txt').write_text('c\na\n')
    out = str(tmp_path / 'o.json')
    more = ['--list', str(tmp_path / 'train.txt'), '--classes', 'person', 'car']
    main = tools['voc_to_coco'].main
    assert main(voc_arguments(tmp_path, '--out', out, *more)) == 0
    coco = json.loads(Path(out).read_text())
    assert [entry['file_name'] for entry in coco['images']] == ['c.png', 'a.png']
    assert {ann['category_id'] for ann in coco['annotations']} == {2}


def test_voc_problems_are_named_and_nothing_is_written(tools, tmp_path, capsys):
    write_voc(tmp_path, 'good', [('car', (1, 1, 9, 9), 0)])
    write_voc(tmp_path, 'far', [('car', (60, 1, 70, 9), 0), ('tram', (1, 1, 3, 3), 0)])
    write_voc(tmp_path, 'half', [('car', ('', 1, 70, 9), 0)])
    write_voc(tmp_path, 'lone', [])
    (tmp_path / 'JPEGImages' / 'lone.png').unlink()
    (tmp_path / 'Annotations' / 'cut.xml').write_text('<annotation><object>')
    out = tmp_path / 'o.json'
    main = tools['voc_to_coco'].main
    more = ['--classes', 'car']
    assert main(voc_arguments(tmp_path, *more, '--out', str(out))) == 1
    text = capsys.readouterr().out
    for part in (
        'far.xml: unknown class (tram)',
        'far.png: box outside the image',
        'half.xml: object[0] needs name and bndbox',
        'lone.xml: image is missing',
        'cut.xml is not a complete XML file',
        '5 problems',
    ):
        assert part in text
    assert not out.exists()


def test_voc_check_opens_the_images(tools, tmp_path, capsys):
    write_voc(tmp_path, 'a', [('car', (1, 1, 9, 9), 0)], size=(50, 32))
    main = tools['voc_to_coco'].main
    assert main(voc_arguments(tmp_path, '--check')) == 1
    assert 'a.png: size differs from the annotation' in capsys.readouterr().out
    write_voc(tmp_path, 'a', [('car', (1, 1, 9, 9), 0)])
    assert main(voc_arguments(tmp_path, '--check')) == 0


@pytest.mark.parametrize('name', ['voc_to_coco', 'yolo_to_coco'])
def test_wrong_calls(tools, tmp_path, capsys, name):
    main = tools[name].main
    images = ['--images', 'x'] if name.startswith('voc') else ['--names', 'x']
    with pytest.raises(SystemExit):
        main([str(tmp_path / 'none'), *images])
    assert 'set --out FILE to write, or --check' in capsys.readouterr().err
    assert main([str(tmp_path / 'none'), *images, '--check']) == 1
    assert 'error: ' in capsys.readouterr().err


def write_yolo(folder, labels, names='names: [person, car]\n'):
    """Write images, labels (None: no text file) and data.yaml."""
    for name, text in labels.items():
        write_image(folder / 'images' / f'{name}.png', image(32, 40))
        if text is not None:
            path = folder / 'labels' / f'{name}.txt'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    (folder / 'data.yaml').write_text(names)
    return [str(folder / 'images'), '--names', str(folder / 'data.yaml')]


def test_yolo(tools, tmp_path):
    labels = {'sub/a': '1 0.5 0.5 0.25 0.5\n\n0 0.1 0.25 0.2 0.5\n', 'b': None, 'c': ''}
    arguments = write_yolo(tmp_path, labels)
    out = tmp_path / 'train.json'
    assert tools['yolo_to_coco'].main([*arguments, '--out', str(out)]) == 0
    coco = COCO(str(out))
    assert [img['file_name'] for img in coco.imgs.values()] == [
        'b.png',
        'c.png',
        'sub/a.png',
    ]
    first, second = coco.loadAnns([1, 2])
    np.testing.assert_allclose(first['bbox'], [15, 8, 10, 16])
    np.testing.assert_allclose(second['bbox'], [0, 0, 8, 16])
    assert [coco.cats[a['category_id']]['name'] for a in (first, second)] == [
        'car',
        'person',
    ]
    assert first['image_id'] == second['image_id'] == 2
    assert validate_coco(out, tmp_path / 'images', deep=True).ok


def test_yolo_problems(tools, tmp_path, capsys):
    arguments = write_yolo(tmp_path, {'a': '7 0.5 0.5 0.1 0.1', 'b': '0 .5 .5 0 .1'})
    (tmp_path / 'labels' / 'ghost.txt').write_text('')
    (tmp_path / 'images' / 'cut.png').write_bytes(b'\x89PNG')
    assert tools['yolo_to_coco'].main([*arguments, '--check']) == 1
    text = capsys.readouterr().out
    for part in (
        'ghost.txt: label without',
        'a.txt:1: class 7',
        'cut.png',
        'b.png: box',
    ):
        assert part in text


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('data.yaml', 'nc: 2\nnames: {1: car, 0: person}\n'),
        ('data.yml', 'names:\n- person\n- car\n'),
        ('classes.txt', 'person\ncar\n\n'),
    ],
)
def test_class_names(tools, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert tools['yolo_to_coco'].read_names(tmp_path / name) == ['person', 'car']


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('nc: 2\n', 'no class names'),
        ('names: {0: a, 2: b}', 'not numbered 0, 1, 2'),
        ('names: [', 'not valid YAML'),
    ],
)
def test_wrong_class_names(tools, tmp_path, text, message):
    (tmp_path / 'data.yaml').write_text(text)
    with pytest.raises(AnnotationError, match=message):
        tools['yolo_to_coco'].read_names(tmp_path / 'data.yaml')


def test_labels_folder_is_guessed(tools):
    guess = tools['yolo_to_coco'].default_labels
    assert guess(Path('/images/x/images/train')) == Path('/images/x/labels/train')
    assert guess(Path('/a/b')) == Path('/a/b')


def test_flir_check_reports(tools, tmp_path, capsys):
    root = write_flir_v13(tmp_path)
    assert tools['flir'].main([str(root), '--check']) == 0
    text = capsys.readouterr().out
    for part in (
        'boxes: person 3, car 3, dog 3',
        'boxes of other categories, left out: dog 3',
        'dog has the category id 17',
        'image ids 0 to 2, first file thermal_8_bit/FLIR_00004.jpeg',
        '2 images have a matching RGB file',
        '0 images have a matching 16-bit thermal file',
    ):
        assert part in text
    assert text.count('no problems') == 2


def test_flir_problems(tools, tmp_path, capsys):
    root = write_flir_v13(tmp_path)
    path = root / 'val' / 'thermal_8_bit' / 'FLIR_00005.jpeg'
    path.write_bytes(path.read_bytes()[:-9])
    out = tmp_path / 'out'
    assert tools['flir'].main([str(root), '--out', str(out)]) == 1
    assert 'FLIR_00005.jpeg: image cannot be read' in capsys.readouterr().out
    assert not out.exists()
    assert tools['flir'].main([str(tmp_path / 'no'), '--check']) == 1
    assert 'Teledyne FLIR' in capsys.readouterr().err


def test_flir_to_plain_coco(tools, tmp_path):
    root = write_flir_v13(tmp_path / 'flir')
    assert tools['flir'].main([str(root), '--out', str(tmp_path / 'out')]) == 0
    ids = []
    for split in ('train', 'val'):
        path = tmp_path / 'out' / f'{split}.json'
        assert validate_coco(path, root, ('person', 'bicycle', 'car'), deep=True).ok
        coco = COCO(str(path))
        ids += sorted(coco.imgs)
        assert [cat['id'] for cat in coco.cats.values()] == [1, 2, 3]
        for image_id, entry in coco.imgs.items():
            (car,) = coco.loadAnns(coco.getAnnIds(imgIds=[image_id], catIds=[3]))
            assert car['bbox'][0] == 11 + image_id % 3
            assert entry['file_name'].startswith(f'{split}/thermal_8_bit/')
    assert ids == list(range(6))  # unique over the splits


def test_flir_v10(tools, tmp_path, capsys):
    root = write_flir_v10(tmp_path / 'old')
    assert tools['flir'].main([str(root), '--check']) == 0
    text = capsys.readouterr().out
    assert 'layout of FLIR ADAS v1.0' in text
    assert 'left out: dog 2, other vehicle 2' in text


def test_street_pairs_are_sound(tools, real_data, capsys):
    assert tools['flir'].main([str(real_data / 'street_pairs'), '--check']) == 0
    assert 'boxes: person 655, car 207, bicycle 94' in capsys.readouterr().out


def converted(tool, arguments, out):
    assert tool.main([*arguments, '--out', str(out)]) == 0
    return json.loads(out.read_text())


def test_voc_list_names_with_spaces_dots_and_suffixes(tools, tmp_path, capsys):
    for name in ('f', 'f.2021', 'a b', 'c'):
        write_voc(tmp_path, name, [('car', (1, 1, 9, 9), 0)], image_name=name)
    listed = tmp_path / 'train.txt'
    listed.write_bytes(b'\xef\xbb\xbff.2021\r\na b\r\n\r\nc.png\r\n')
    arguments = voc_arguments(tmp_path, '--list', str(listed))
    coco = converted(tools['voc_to_coco'], arguments, tmp_path / 'o.json')
    names = [entry['file_name'] for entry in coco['images']]
    assert names == ['f.2021.png', 'a b.png', 'c.png']
    listed.write_text('c\nnone\ngone too\n')
    assert tools['voc_to_coco'].main([*arguments, '--check']) == 1
    text = capsys.readouterr().out
    assert 'none: listed, but has no label file' in text
    assert 'gone too: listed, but has no label file' in text


def test_voc_takes_the_image_of_its_own_name(tools, tmp_path, capsys):
    """A stale <filename> neither swaps images nor goes unnoticed."""
    write_voc(tmp_path, 'a', [('car', (1, 1, 9, 9), 0)], image_name='b.png')
    write_voc(tmp_path, 'b', [('car', (2, 2, 9, 9), 0)], image_name='old.png')
    write_voc(tmp_path, '1', [], image_name='frame.png')
    (tmp_path / 'JPEGImages/1.png').rename(tmp_path / 'JPEGImages/frame.png')
    coco = converted(tools['voc_to_coco'], voc_arguments(tmp_path), tmp_path / 'o.json')
    assert set(coco) == {'images', 'annotations', 'categories'}
    names = {entry['id']: entry['file_name'] for entry in coco['images']}
    assert list(names.values()) == ['frame.png', 'a.png', 'b.png']
    found = {names[a['image_id']]: a['bbox'][0] for a in coco['annotations']}
    assert found == {'a.png': 0, 'b.png': 1}
    text = capsys.readouterr().out
    assert 'note: 1 files whose <filename> is another image' in text
    assert 'a.xml (b.png)' in text


def test_voc_never_picks_one_of_two_images(tools, tmp_path, capsys):
    write_voc(tmp_path, 'a', [('car', (1, 1, 9, 9), 0)], image_name='a')
    write_voc(tmp_path, 'c', [('car', (1, 1, 9, 9), 0)], image_name='c')
    folder, arguments = tmp_path / 'JPEGImages', voc_arguments(tmp_path)
    (folder / 'a.png').unlink()
    for camera in ('rgb', 'ir'):
        write_image(folder / camera / 'a.png', image(32, 40))
    main = tools['voc_to_coco'].main
    assert main([*arguments, '--check']) == 1
    text = capsys.readouterr().out
    assert 'ir/a.png, rgb/a.png' in text
    assert 'boxes: car 1' in text  # the other file is checked all the same
    (tmp_path / 'Annotations/a.xml').unlink()
    write_image(folder / 'c.jpg', image(32, 40))
    assert main([*arguments, '--check']) == 1
    assert 'c.jpg, c.png' in capsys.readouterr().out
    write_voc(tmp_path, 'c', [('car', (1, 1, 9, 9), 0)], image_name='c.jpg')
    coco = converted(tools['voc_to_coco'], arguments, tmp_path / 'o.json')
    assert [entry['file_name'] for entry in coco['images']] == ['c.jpg']


def test_voc_labels_in_subfolders_belong_to_images_in_the_same(tools, tmp_path):
    write_voc(tmp_path, 'a', [('car', (1, 1, 9, 9), 0)])
    write_image(tmp_path / 'JPEGImages/ir/a.png', image(32, 40))
    inner = tmp_path / 'Annotations/ir/a.XML'
    inner.parent.mkdir()
    inner.write_text((tmp_path / 'Annotations/a.xml').read_text().replace('9', '7'))
    coco = converted(tools['voc_to_coco'], voc_arguments(tmp_path), tmp_path / 'o.json')
    names = {entry['id']: entry['file_name'] for entry in coco['images']}
    found = {names[a['image_id']]: a['bbox'] for a in coco['annotations']}
    assert found == {'a.png': [0, 0, 9, 9], 'ir/a.png': [0, 0, 7, 7]}


def test_voc_other_files_are_checked(tools, tmp_path, capsys):
    """A size that is a word comes from the image; a broken file is named."""
    write_voc(tmp_path, 'a', [('car', (1, 1, 9, 9), 0)], size=('Unspecified', ''))
    coco = converted(tools['voc_to_coco'], voc_arguments(tmp_path), tmp_path / 'o.json')
    assert (coco['images'][0]['width'], coco['images'][0]['height']) == (40, 32)
    write_voc(tmp_path, 'b', [('\u884c', (1, 1, 9, 9), 0)])
    text = (tmp_path / 'Annotations/b.xml').read_text(encoding='utf-8')
    (tmp_path / 'Annotations/b.xml').write_bytes(text.encode('gbk'))
    write_voc(tmp_path, 'c', [('car', ('Unspecified', 1, 9, 9), 0)])
    assert tools['voc_to_coco'].main(voc_arguments(tmp_path, '--check')) == 1
    text = capsys.readouterr().out
    assert 'b.xml:1 is not in the encoding it declares' in text
    assert 'c.xml: object[0] needs name and bndbox' in text
    assert 'boxes: car 1' in text


def test_yolo_suffixes_in_capitals_and_marks(tools, tmp_path):
    labels = {'a': None, 'f.2021': '0 .5 .5 .5 .5', 'f': '1 .5 .5 .25 .5'}
    arguments = write_yolo(tmp_path, labels)
    (tmp_path / 'labels/a.TXT').write_bytes(b'\xef\xbb\xbf1 0.5 0.5 0.25 0.5\n')
    (tmp_path / 'data.yaml').write_bytes(b'\xef\xbb\xbfnames: [person, car]\n')
    coco = converted(tools['yolo_to_coco'], arguments, tmp_path / 'o.json')
    names = {entry['id']: entry['file_name'] for entry in coco['images']}
    found = {names[a['image_id']]: a['bbox'] for a in coco['annotations']}
    assert found == {
        'a.png': [15, 8, 10, 16],
        'f.png': [15, 8, 10, 16],
        'f.2021.png': [10, 8, 20, 16],
    }
    assert [cat['name'] for cat in coco['categories']] == ['person', 'car']


def test_yolo_names_that_are_not_unique_and_broken_files(tools, tmp_path, capsys):
    line = '0 .5 .5 .5 .5'
    arguments = write_yolo(tmp_path, dict.fromkeys(('a', 'b', 'c', 'd'), line))
    write_image(tmp_path / 'images/a.jpg', image(32, 40))
    (tmp_path / 'labels/b.TXT').write_text(line)
    (tmp_path / 'labels/c.txt').write_bytes(line.encode('utf-16'))
    assert tools['yolo_to_coco'].main([*arguments, '--check']) == 1
    text = capsys.readouterr().out
    assert 'several files of one name: 2' in text
    assert 'a.jpg, a.png, ' in text
    assert 'b.TXT' in text
    assert 'c.txt:1: not UTF-8' in text
    assert 'boxes: person 1' in text  # of d


def test_class_names_with_a_mark_and_in_gbk(tools, tmp_path):
    path = tmp_path / 'classes.txt'
    path.write_bytes(b'\xef\xbb\xbfperson\r\ntwo wheels\r\n')
    assert tools['yolo_to_coco'].read_names(path) == ['person', 'two wheels']
    path.write_bytes('person\n\u8f66\n'.encode('gbk'))
    with pytest.raises(AnnotationError, match=r'classes\.txt:2: not UTF-8'):
        tools['yolo_to_coco'].read_names(path)


def test_flir_checks_the_other_splits(tools, tmp_path, capsys):
    root = write_flir_v13(tmp_path)
    path = root / 'train/thermal_annotations.json'
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
    assert tools['flir'].main([str(root), '--check']) == 0
    path.write_bytes('{}'.encode('utf-16'))
    assert tools['flir'].main([str(root), '--check']) == 1
    text = capsys.readouterr().out
    assert 'thermal_annotations.json:1: not UTF-8' in text
    assert text.count('no problems') == 3  # twice before, val now
