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
