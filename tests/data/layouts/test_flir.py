import json
from pathlib import Path

import pytest
from coco_files import write_flir_v10, write_flir_v13

from mmir.data.coco import count_boxes
from mmir.data.layouts.flir import (
    V10,
    V13,
    add_rgb_partners,
    find_flir,
    missing_flir_message,
    read_flir,
    use_16_bit,
)
from mmir.utils.errors import AnnotationError


def test_versions_are_told_apart(tmp_path):
    assert find_flir(write_flir_v13(tmp_path / 'new'), 'val') is V13
    assert find_flir(write_flir_v10(tmp_path / 'old'), 'train') is V10


def test_missing_data_message(tmp_path):
    root = tmp_path / 'FLIR_ADAS_1_3'
    with pytest.raises(FileNotFoundError) as error:
        find_flir(root, 'val')
    text = str(error.value)
    assert f'{root}/val/thermal_annotations.json' in text
    for part in ('does not exist', 'Teledyne FLIR', '--demo', 'docs/your_camera.md'):
        assert part in text
    write_flir_v13(tmp_path / 'x' / 'FLIR_ADAS_1_3', ('train',), 1)
    assert 'It holds: FLIR_ADAS_1_3.' in missing_flir_message(tmp_path / 'x')


def test_unknown_split(tmp_path):
    with pytest.raises(ValueError, match=r"split must be one of .* got 'test'"):
        find_flir(tmp_path, 'test')


def test_v10_is_read_as_coco(tmp_path):
    root = write_flir_v10(tmp_path)
    coco, layout = read_flir(root / 'training' / 'Annotations')
    assert layout is V10
    assert [image['id'] for image in coco['images']] == [0, 1]
    assert coco['images'][1]['file_name'] == 'PreviewData/FLIR_00002.jpeg'
    assert count_boxes(coco) == {'person': 2, 'dog': 2, 'other vehicle': 2}
    assert [ann['id'] for ann in coco['annotations']] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'annotations': []}, "no keys 'annotation' and 'image'"),
        (
            {'annotation': [{'category_id': '17', 'bbox': [1, 2, 3, 4]}], 'image': {}},
            'category_id 17 is not one of',
        ),
    ],
)
def test_broken_v10_files_are_named(tmp_path, content, message):
    (tmp_path / 'FLIR_00009.json').write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=f'FLIR_00009.json.*{message}'):
        read_flir(tmp_path)


def test_empty_v10_folder(tmp_path):
    with pytest.raises(AnnotationError, match=r'holds no \.json files'):
        read_flir(tmp_path)


def test_16_bit_names(tmp_path):
    coco, layout = read_flir(write_flir_v13(tmp_path) / 'val/thermal_annotations.json')
    coco['images'][2]['file_name'] = 'mine/a.tiff'
    use_16_bit(coco, layout)
    names = [image['file_name'] for image in coco['images']]
    assert names == [
        'thermal_16_bit/FLIR_00004.tiff',
        'thermal_16_bit/FLIR_00005.tiff',
        'mine/a.tiff',
    ]


def test_rgb_partners_are_counted(tmp_path):
    folder = write_flir_v13(tmp_path) / 'train'
    coco, layout = read_flir(folder / 'thermal_annotations.json')
    assert add_rgb_partners(coco, layout, folder) == 1
    assert 'rgb_name' not in coco['images'][0]
    for entry in coco['images'][1:]:
        assert (folder / entry['rgb_name']).is_file()
        assert Path(entry['rgb_name']).stem == Path(entry['file_name']).stem


def test_all_broken_v10_files_are_named_and_flags_kept(tmp_path):
    folder = write_flir_v10(tmp_path) / 'training' / 'Annotations'
    first, second = sorted(folder.iterdir())
    content = json.loads(first.read_text())
    content['annotation'][0]['ignore'] = 1
    content['image']['file_name'] = (
        'FLIR_v1.2'  # without a suffix: all of it is the name
    )
    first.write_text(json.dumps(content))
    second.rename(second.with_suffix('.JSON'))
    coco, _ = read_flir(folder)
    assert coco['images'][0]['file_name'] == 'PreviewData/FLIR_v1.2.jpeg'
    assert [ann['iscrowd'] for ann in coco['annotations']] == [1, 0, 0, 0, 0, 0]
    (folder / 'x.json').write_bytes('{"a": 1}'.encode('utf-16'))
    (folder / 'y.json').write_text('{"image": ')
    with pytest.raises(AnnotationError, match=r'2 files.*\n.*x\.json:1: .*\n.*y\.json'):
        read_flir(folder)
