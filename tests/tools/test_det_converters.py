"""Converters of detection datasets: errors, omissions and counts."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from det_converters import FOLDER, convert, tool
from hypothesis import given
from hypothesis import strategies as st

from mmir.data.coco import validate_coco
from mmir.data.layouts.det import LLVIP, plain_name
from mmir.testing.scenes import det_layouts as layouts
from mmir.testing.scenes.disk import MARKER

SIZE = (96, 80)
NAMES = ('llvip', 'm3fd', 'kaist', 'flir_aligned', 'hituav', 'dronevehicle')


def write(name, root, **more):
    """A small copy of a dataset."""
    counts = {'train': 2, 'test' if name in ('llvip', 'kaist') else 'val': 1}
    if name in ('hituav', 'dronevehicle'):
        counts['test'] = 1
    make = getattr(layouts, f'write_{name}')
    return make(root, **{**counts, 'size': SIZE, 'progress': False, **more})


def files_of(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob('*'))
        if path.is_file() and path.name != MARKER
    }


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        (
            'llvip',
            'Annotations/010001.xml Annotations/010002.xml Annotations/190001.xml '
            'infrared/test/190001.jpg infrared/train/010001.jpg '
            'infrared/train/010002.jpg visible/test/190001.jpg '
            'visible/train/010001.jpg visible/train/010002.jpg',
        ),
        (
            'm3fd',
            'Annotation/00000.xml Annotation/00001.xml Annotation/00002.xml '
            'Ir/00000.png Ir/00001.png Ir/00002.png Vis/00000.png Vis/00001.png '
            'Vis/00002.png meta/train.txt meta/val.txt',
        ),
        (
            'kaist',
            'annotations-xml-new-sanitized/set00/V000/I00001.xml '
            'annotations-xml-new-sanitized/set00/V000/I00003.xml '
            'annotations-xml-new-sanitized/set06/V000/I00019.xml '
            'imageSets/test-all-20.txt imageSets/train-all-02.txt '
            + ' '.join(
                f'images/{place}/V000/{camera}/{name}.jpg'
                for place, names in (
                    ('set00', ('I00001', 'I00003', 'I99999')),
                    ('set06', ('I00019', 'I99999')),
                )
                for camera in ('lwir', 'visible')
                for name in names
            ),
        ),
        (
            'flir_aligned',
            ' '.join(
                f'align/Annotations/FLIR_0000{k}_PreviewData.xml' for k in (2, 3, 4)
            )
            + ' align/ImageSets/Main/align_train.txt '
            'align/ImageSets/Main/align_validation.txt '
            + ' '.join(
                f'align/JPEGImages/FLIR_0000{k}_{end}'
                for k in (2, 3, 4)
                for end in ('PreviewData.jpeg', 'RGB.jpg')
            ),
        ),
        (
            'dronevehicle',
            ' '.join(
                f'{split}/{split}{kind}/0000{k}.{"jpg" if "img" in kind else "xml"}'
                for split, n in (('test', 1), ('train', 2), ('val', 1))
                for kind in ('img', 'imgr', 'label', 'labelr')
                for k in range(1, n + 1)
            ),
        ),
    ],
)
def test_written_layouts(tmp_path, name, expected):
    assert sorted(files_of(write(name, tmp_path / 'a'))) == sorted(expected.split())


@pytest.mark.parametrize('name', NAMES)
def test_check_of_a_sound_copy_writes_nothing(tmp_path, capsys, name):
    root = write(name, tmp_path / 'a')
    before = files_of(root)
    assert convert(name, root, '--check') == 0
    assert files_of(root) == before
    text = capsys.readouterr().out
    assert 'no problems' in text
    assert ' were published' in text or name == 'm3fd'


@pytest.mark.parametrize('name', NAMES)
def test_files_are_sound_and_ids_unique(tmp_path, name):
    root = write(name, tmp_path / 'a')
    assert convert(name, root, '--out', 'labels/mine') == 0
    ids = []
    paths = sorted((root / 'labels/mine').iterdir())
    assert len(paths) == {'hituav': 3, 'dronevehicle': 6}.get(name, 2)
    for path in paths:
        assert validate_coco(path, root, deep=True).ok
        ids += [image['id'] for image in json.loads(path.read_text())['images']]
    assert sorted(set(ids)) == list(range(len(set(ids))))
    assert len(ids) == len(set(ids)) * (2 if name == 'dronevehicle' else 1)


def test_as_users_run_it(tmp_path):
    root = write('llvip', tmp_path / 'LLVIP').parent
    done = subprocess.run(
        [sys.executable, str(FOLDER / 'llvip.py'), '.'],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.count('written: coco/')) == (0, 2)
    coco = json.loads((root / 'coco/test.json').read_text())
    (image,) = coco['images']
    assert image['rgb'] == 'LLVIP/visible/test/190001.jpg'
    assert image['file_name'] == image['ir'] == 'LLVIP/infrared/test/190001.jpg'
    assert not list((root / 'coco').glob('.*'))


def test_missing_and_broken_files(tmp_path, capsys):
    root = write('llvip', tmp_path / 'a', train=5)
    (root / 'visible/train/010001.jpg').unlink()
    (root / 'Annotations/010002.xml').unlink()
    (root / 'Annotations/010003.xml').write_text('<annotation><object>')
    cut = root / 'visible/train/010004.jpg'
    cut.write_bytes(cut.read_bytes()[:40])
    assert convert('llvip', root) == 1
    assert not (root / 'coco').exists()
    text = capsys.readouterr().out
    for part in (
        'visible/train/010001.jpg: rgb image is missing',
        'Annotations/010002.xml: label file is missing',
        '010003: cannot be read',
        '010003.xml is not a complete XML file',
        '3 problems; nothing was written',
        'note: 2 usable images, 12025 were published',
    ):
        assert part in text
    assert convert('llvip', root, '--check') == 1
    text = capsys.readouterr().out
    assert 'visible/train/010004.jpg: image cannot be read' in text
    assert '4 problems. Unpack or download the files above again' in text
    assert convert('llvip', root, '--drop') == 0
    coco = json.loads((root / 'coco/train.json').read_text())
    assert [image['rgb'][-10:] for image in coco['images']] == ['010005.jpg']
    assert validate_coco(root / 'coco/train.json', root, deep=True).ok


def test_size_of_the_partner(tmp_path, capsys):
    root = write('llvip', tmp_path / 'a')
    image = np.zeros((SIZE[1], SIZE[0] + 2, 3), np.uint8)
    cv2.imwrite(str(root / 'visible/test/190001.jpg'), image)
    assert convert('llvip', root, '--check') == 1
    expected = 'visible/test/190001.jpg: size differs from the annotation (file 98x80'
    assert expected in capsys.readouterr().out


def add_object(path, name, box, shape='edges'):
    """Add an object to a label file."""
    x, y, w, h = box
    keys = {'xmin': x, 'ymin': y, 'xmax': x + w, 'ymax': y + h}
    if shape == 'sides':
        keys = {'x': x, 'y': y, 'w': w, 'h': h}
    inner = ''.join(f'<{k}>{v}</{k}>' for k, v in keys.items())
    node = f'<object><name>{name}</name><bndbox>{inner}</bndbox></object>'
    text = path.read_text().replace('</annotation>', f'{node}</annotation>')
    path.write_text(text)


def test_boxes_and_classes(tmp_path, capsys):
    """Boxes outside or empty are dropped, overlapping ones clipped, all counted."""
    root = write('llvip', tmp_path / 'a', train=1, test=1)
    path = root / 'Annotations/010001.xml'
    path.write_text('<annotation></annotation>')  # no size: taken from the image
    add_object(path, 'person', (90, 70, 20, 30))
    add_object(path, 'person', (96, 10, 20, 30))
    add_object(path, 'person', (10, 10, 0, 30))
    add_object(path, ' Person', (1, 2, 3, 4))
    assert convert('llvip', root) == 0
    text = capsys.readouterr().out
    for part in (
        '1 boxes that extend past the edge, clipped (010001)',
        '1 boxes outside the image, left out (010001)',
        '1 boxes without a positive finite size, left out (010001)',
    ):
        assert part in text
    coco = json.loads((root / 'coco/train.json').read_text())
    boxes = [ann['bbox'] for ann in coco['annotations']]
    assert boxes == [[90, 70, 6, 10], [1, 2, 3, 4]]
    add_object(path, 'unicorn', (1, 2, 3, 4))
    assert convert('llvip', root) == 1
    assert "010001: unknown class ('unicorn')" in capsys.readouterr().out
    assert convert('llvip', root, '--drop') == 0
    assert json.loads((root / 'coco/train.json').read_text()) == coco


def test_flir_dogs_are_counted(tmp_path, capsys):
    root = write('flir_aligned', tmp_path / 'a')
    path = root / 'align/Annotations/FLIR_00004_PreviewData.xml'
    before = path.read_text().count('<name>dog</name>')
    add_object(path, 'dog', (1, 2, 3, 4))
    assert convert('flir_aligned', root) == 0
    assert f"note: {before + 1} boxes of 'dog', left out" in capsys.readouterr().out
    coco = json.loads((root / 'coco/val.json').read_text())
    names = [category['name'] for category in coco['categories']]
    assert names == ['person', 'bicycle', 'car']
    assert coco['images'][0]['rgb'] == 'align/JPEGImages/FLIR_00004_RGB.jpg'


def test_flir_without_its_outer_folder(tmp_path):
    root = write('flir_aligned', tmp_path / 'a') / 'align'
    (root / 'ImageSets/Main/align_train.txt').rename(root / 'align_train.txt')
    assert convert('flir_aligned', root) == 0
    coco = json.loads((root / 'coco/train.json').read_text())
    assert coco['images'][0]['rgb'] == 'JPEGImages/FLIR_00002_RGB.jpg'


def test_kaist_text_labels_equal_xml(tmp_path):
    found = []
    for name, text in (('xml', False), ('txt', True)):
        root = write('kaist', tmp_path / name, text=text)
        assert convert('kaist', root) == 0
        found.append((root / 'coco/train.json').read_text())
    assert found[0] == found[1]
    assert 'I99999' not in found[0]


def test_kaist_ignored_labels(tmp_path, capsys):
    root = write('kaist', tmp_path / 'a', train=1)
    path = root / 'annotations-xml-new-sanitized/set00/V000/I00001.xml'
    path.write_text('<annotation></annotation>')
    names = ('person', 'people', 'cyclist', 'person?', 'person?a')
    for k, name in enumerate(names):
        add_object(path, name, (k, 1, 5, 6), 'sides')
    assert convert('kaist', root) == 0
    coco = json.loads((root / 'coco/train.json').read_text())
    assert [ann['iscrowd'] for ann in coco['annotations']] == [0, 1, 1, 1, 1]
    assert [ann['bbox'] for ann in coco['annotations']] == [
        [k, 1, 5, 6] for k in range(5)
    ]
    assert "1 boxes of 'person?', ignored in evaluation" in capsys.readouterr().out


def test_kaist_lists_and_label_folders(tmp_path, capsys):
    root = write('kaist', tmp_path / 'a')
    lists = root / 'imageSets'
    (lists / 'train-all-04.txt').write_text('set00/V000/I00003\nset00/V000/I00003\n')
    assert convert('kaist', root, '--train-list', 'train-all-04') == 1
    assert 'set00/V000/I00003: listed twice (2 times)' in capsys.readouterr().out
    assert convert('kaist', root, '--labels', 'annotations-xml-15') == 1
    assert 'no label folder' in capsys.readouterr().err
    (lists / 'test-all-20.txt').unlink()
    assert convert('kaist', root) == 0
    text = capsys.readouterr().out
    assert 'test-all-20.txt not found' in text
    assert 'KAIST test: not found, skipped' in text
    assert not (root / 'coco/test.json').exists()


def test_m3fd_draws_a_split_without_lists(tmp_path):
    root = write('m3fd', tmp_path / 'a', train=4, val=1, lists=False)
    splits = []
    for _ in range(2):
        assert convert('m3fd', root, '--val', '0.4', '--seed', '3') == 0
        images = {
            split: json.loads((root / f'coco/{split}.json').read_text())['images']
            for split in ('train', 'val')
        }
        splits.append({k: [i['rgb'] for i in v] for k, v in images.items()})
    assert splits[0] == splits[1]
    assert [len(splits[0][split]) for split in ('train', 'val')] == [3, 2]
    assert convert('m3fd', root, '--val', '1.5') == 1


@given(st.integers(2, 60), st.floats(0.01, 0.99), st.integers(0, 9))
def test_drawn_splits_are_partitions(number, part, seed):
    keys = [f'{k:05d}' for k in range(number)]
    split = tool('m3fd').draw(keys[::-1], part, seed)
    assert sorted(split['train'] + split['val']) == keys
    assert len(split['val']) == max(1, round(part * number))
    assert split == tool('m3fd').draw(keys, part, seed)


def test_hituav_layouts_and_dont_care(tmp_path, capsys):
    """The owners' keys and COCO's give the same; DontCare covers every class."""
    root = write('hituav', tmp_path / 'a')
    path = root / 'normal_json/annotations/train.json'
    owners = json.loads(path.read_text())
    assert {'filename', 'id'} < set(owners['images'][0])
    care = {'id': 999, 'image_id': 1, 'category_id': 3, 'bbox': [1, 2, 3, 4]}
    owners['annotation'] = [care]
    path.write_text(json.dumps(owners))
    assert convert('hituav', root) == 0
    assert "1 boxes of 'DontCare', ignored" in capsys.readouterr().out
    coco = json.loads((root / 'coco/train.json').read_text())
    assert [(a['category_id'], a['iscrowd']) for a in coco['annotations']] == [
        (k, 1) for k in (1, 2, 3, 4)
    ]
    plain = root / 'normal_json'
    path.rename(plain / 'train.json')
    assert convert('hituav', plain) == 0
    again = json.loads((plain / 'coco/train.json').read_text())
    assert again['annotations'] == coco['annotations']


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'image_id': 77}, 'image_id 77 and category_id 0'),
        ({'category_id': 9}, 'image_id 0 and category_id 9'),
        ({'bbox': [1, 2]}, 'no box of four numbers'),
    ],
)
def test_hituav_faults(tmp_path, capsys, change, message):
    root = write('hituav', tmp_path / 'a')
    path = root / 'normal_json/annotations/train.json'
    owners = json.loads(path.read_text())
    row = {'id': 5, 'image_id': 0, 'category_id': 0, 'bbox': [1, 2, 3, 4]}
    owners['annotation'] = [{**row, **change}]
    path.write_text(json.dumps(owners))
    assert convert('hituav', root) == 1
    assert message in capsys.readouterr().err
    owners['images'][1]['id'] = 0
    path.write_text(json.dumps({**owners, 'annotation': [row]}))
    assert convert('hituav', root) == 1
    assert 'image id 0 is used twice' in capsys.readouterr().err


def test_dronevehicle_quirks(tmp_path, capsys):
    root = write('dronevehicle', tmp_path / 'a', train=6, seed=3)
    raw = ''.join(p.read_text() for p in sorted((root / 'train/trainlabelr').iterdir()))
    assert convert('dronevehicle', root) == 0
    text = capsys.readouterr().out
    block = text[text.index('train_ir.json') : text.index('train_rgb.json')]
    assert '1 labels without a box, left out' in block
    assert '1 boxes outside the image, left out (00001)' in block
    for wrong, right in (('truvk', 'truck'), ('feright_car', 'freight car')):
        number = raw.count(f'<name>{wrong}</name>')
        note = f'{number} boxes of {wrong!r}, read as {right!r}'
        assert (note in block) == (number > 0)
    assert raw.count('<name>truvk</name>') > 0
    coco = json.loads((root / 'coco/train_ir.json').read_text())
    bad = raw.count('<name>*</name>') + 2
    assert len(coco['annotations']) == raw.count('<object>') - bad
    image = cv2.imread(str(root / coco['images'][0]['rgb']))
    assert image.shape == (SIZE[1], SIZE[0], 3)
    assert coco['images'][0]['rgb'] == 'cropped/train/trainimg/00001.jpg'


def test_dronevehicle_keeps_what_is_cropped(tmp_path, capsys):
    root = write('dronevehicle', tmp_path / 'a')
    assert convert('dronevehicle', root) == 0
    first = files_of(root / 'cropped')
    mark = root / 'cropped/val/valimg/00001.jpg'
    mark.write_bytes(b'kept')
    assert convert('dronevehicle', root) == 0
    assert mark.read_bytes() == b'kept'
    assert set(files_of(root / 'cropped')) == set(first)
    small = np.zeros((150, 300, 3), np.uint8)
    cv2.imwrite(str(root / 'val/valimgr/00001.jpg'), small)
    (root / 'cropped/val/valimgr/00001.jpg').unlink()
    assert convert('dronevehicle', root) == 1
    assert 'nothing is left inside a border of 100 px' in capsys.readouterr().err


def test_parts_of_a_set(tmp_path, capsys):
    """Splits are separate downloads; a missing one is reported and skipped."""
    root = write('dronevehicle', tmp_path / 'a')
    for split in ('train', 'test'):
        (root / split).rename(tmp_path / split)
    (root / 'val/valimgr/00001.jpg').unlink()
    assert convert('dronevehicle', root) == 1
    text = capsys.readouterr().out
    assert 'DroneVehicle train: not found, skipped' in text
    assert 'val/valimgr/00001.jpg: ir image is missing' in text


@pytest.mark.parametrize('name', NAMES)
def test_no_data(tmp_path, capsys, name):
    assert convert(name, tmp_path / 'none', '--check') == 1
    error = capsys.readouterr().err
    assert 'error: no ' in error
    assert 'It does not exist.' in error


def test_names_are_compared_plainly():
    assert plain_name(' Freight__Car ') == 'freight car'
    assert LLVIP.json_name('train', 'ir') == 'train.json'


def test_suffixes_in_capitals(tmp_path):
    """Images and labels of one split in capitals: the same boxes, the names on disk."""
    root = write('llvip', tmp_path / 'a')
    assert convert('llvip', root, '--out', 'before') == 0
    for name in ('visible/train/010001.jpg', 'Annotations/010002.xml'):
        path = root / name
        path.rename(path.with_suffix(path.suffix.upper()))
    assert convert('llvip', root, '--out', 'after') == 0
    before, after = (
        json.loads((root / k / 'train.json').read_text()) for k in ('before', 'after')
    )
    assert after['annotations'] == before['annotations'] != []
    assert [i['rgb'] for i in after['images']] == [
        'visible/train/010001.JPG',
        'visible/train/010002.jpg',
    ]
    assert [i['ir'] for i in after['images']] == [i['ir'] for i in before['images']]


def test_both_spellings_of_a_suffix_are_a_problem(tmp_path, capsys):
    root = write('llvip', tmp_path / 'a')
    path = root / 'infrared/train/010001.jpg'
    path.with_suffix('.JPG').write_bytes(path.read_bytes())
    assert convert('llvip', root, '--check') == 1
    assert '010001.jpg: ir image exists more than once' in capsys.readouterr().out


def test_names_with_a_dot(tmp_path):
    """M3FD's lists name files without a suffix; what follows a dot is part of it."""
    root = write('m3fd', tmp_path / 'a')
    for folder in ('Ir', 'Vis', 'Annotation'):
        for path in (root / folder).glob('00001.*'):
            path.rename(path.with_name(f'f.00001{path.suffix}'))
    for name in ('train', 'val'):
        path = root / f'meta/{name}.txt'
        text = path.read_text().replace('00001', 'f.00001')
        path.write_bytes(b'\xef\xbb\xbf' + text.encode())
    assert convert('m3fd', root) == 0
    files = [
        image['file_name']
        for split in ('train', 'val')
        for image in json.loads((root / f'coco/{split}.json').read_text())['images']
    ]
    assert sorted(files) == ['Ir/00000.png', 'Ir/00002.png', 'Ir/f.00001.png']


@pytest.mark.parametrize('name', ['m3fd', 'hituav'])
def test_a_broken_split_is_named_after_the_others_are_checked(tmp_path, capsys, name):
    root = write(name, tmp_path / 'a')
    path = next(root.rglob('train.txt' if name == 'm3fd' else 'train.json'))
    path.write_bytes(path.read_text().encode('utf-16'))
    for more in ((), ('--check',), ('--drop',)):
        assert convert(name, root, *more) == 1
        said = capsys.readouterr()
        assert f'{path}:1: not UTF-8 text (UTF-16)' in said.err
        assert 'val.json\n' in said.out
        assert not (root / 'coco').exists()


def test_hituav_notes(tmp_path, capsys):
    root = write('hituav', tmp_path / 'a')
    path = next(root.rglob('train.json'))
    content = json.loads(path.read_text())
    key = 'annotation' if 'annotation' in content else 'annotations'
    content[key][0].update(ignore=1, area=-1)
    path.write_text(json.dumps(content))
    assert convert('hituav', root) == 0
    text = capsys.readouterr().out
    assert 'train.json: 1 boxes with ignore=1' in text
    anns = json.loads((root / 'coco/train.json').read_text())['annotations']
    assert anns[0]['iscrowd'] == 1
    assert anns[0]['area'] == anns[0]['bbox'][2] * anns[0]['bbox'][3] > 0


def test_names_that_lead_out_of_the_root_are_problems(tmp_path, capsys):
    root = write('kaist', tmp_path / 'set')
    names = root / 'imageSets/train-all-02.txt'
    names.write_text(names.read_text() + '../../other/V000/I00001\n')
    assert convert('kaist', root, '--check') == 1
    text = capsys.readouterr().out
    assert 'PROBLEM: file outside the data folder: 3' in text
    assert 'images/../../other/V000/lwir/I00001.jpg: file outside' in text
    assert 'is missing' not in text
