import collections
import json

import numpy as np
import pytest
from coco_files import write_flir_v10, write_flir_v13
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs  # noqa: F401

from mmir.det.datasets import FLIRDataset
from mmir.utils.errors import AnnotationError


def infos_of(dataset):
    return [dataset.get_data_info(k) for k in range(len(dataset))]


def test_v13_defaults(tmp_path):
    """Ids start at 0 in both splits, dogs are left out, names include their folder."""
    root = str(write_flir_v13(tmp_path))
    for split, first in (('train', 1), ('val', 4)):
        infos = infos_of(FLIRDataset(data_root=root, split=split))
        assert [info['img_id'] for info in infos] == [0, 1, 2]
        for k, info in enumerate(infos):
            name = f'thermal_8_bit/FLIR_{first + k:05d}.jpeg'
            assert info['img_path'] == f'{root}/{split}/{name}'
            assert info['file_name'] == name
            found = [(i['bbox_label'], i['bbox']) for i in info['instances']]
            person, car = [1 + k, 2, 9 + k, 14], [11 + k, 2, 19 + k, 14]
            assert found == [(0, person), (2, car)]
            assert 'img_paths' not in info


def test_boxes_join_by_image_id_not_by_position(tmp_path):
    path = write_flir_v13(tmp_path) / 'train' / 'thermal_annotations.json'
    coco = json.loads(path.read_text())
    coco['images'].reverse()
    path.write_text(json.dumps(coco))
    for info in infos_of(FLIRDataset(data_root=str(tmp_path))):
        assert info['instances'][0]['bbox'][0] == 1 + info['img_id']
        assert info['file_name'].endswith(f'{info["img_id"] + 1}.jpeg')


def test_explicit_files_win(tmp_path):
    write_flir_v13(tmp_path)
    (tmp_path / 'val' / 'thermal_annotations.json').rename(tmp_path / 'mine.json')
    dataset = FLIRDataset(
        data_root=str(tmp_path),
        ann_file='mine.json',
        data_prefix={'img': 'val'},
        metainfo={'classes': ('dog',)},
    )
    assert [len(info['instances']) for info in infos_of(dataset)] == [1, 1, 1]


def test_both_modalities(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mmir.det.datasets.flir.print_log', lambda text, **kw: lines.append(text)
    )
    root = write_flir_v13(tmp_path)
    infos = infos_of(FLIRDataset(data_root=str(root), modality='both'))
    assert infos[0]['img_paths'] == {'rgb': None, 'ir': infos[0]['img_path']}
    for info, number in zip(infos[1:], (2, 3), strict=True):
        rgb = f'{root}/train/RGB/FLIR_{number:05d}.jpg'
        assert info['img_paths'] == {'rgb': rgb, 'ir': info['img_path']}
    assert {info['reference'] for info in infos} == {'ir'}
    assert lines == ['1 of 3 thermal images without RGB']


def test_rgb_needs_labels_of_its_own(tmp_path):
    with pytest.raises(FileNotFoundError, match="FLIR's RGB frames have no labels"):
        FLIRDataset(data_root=str(write_flir_v13(tmp_path / 'a')), modality='rgb')
    root = write_flir_v13(tmp_path / 'b', labeled_rgb=True)
    infos = infos_of(FLIRDataset(data_root=str(root), modality='rgb'))
    names = [info['file_name'] for info in infos]
    assert names == ['RGB/FLIR_00002.jpg', 'RGB/FLIR_00003.jpg']
    assert infos[0]['width'] == 72


def test_16_bit_through_a_pipeline(tmp_path):
    root = str(write_flir_v13(tmp_path, deep=True))
    pipeline = [
        {'type': 'LoadThermalImage', 'bit_depth': 16},
        {'type': 'ThermalToUint8', 'mode': 'percentile'},
        {'type': 'mmdet.LoadAnnotations', 'with_bbox': True},
        {'type': 'mmdet.PackDetInputs'},
    ]
    dataset = FLIRDataset(data_root=root, bit_depth=16, pipeline=pipeline)
    sample = dataset[1]
    assert sample['inputs'].shape == (3, 32, 40)
    assert sample['inputs'].numpy().dtype == np.uint8
    assert (sample['inputs'].min(), sample['inputs'].max()) == (0, 255)
    assert sample['data_samples'].img_path.endswith('thermal_16_bit/FLIR_00002.tiff')
    assert sample['data_samples'].gt_instances.labels.tolist() == [0, 2]


def test_16_bit_files_that_are_not_there(tmp_path):
    root = str(write_flir_v13(tmp_path))
    with pytest.raises(
        AnnotationError, match=r'thermal_16_bit/FLIR_00001\.tiff: image'
    ):
        FLIRDataset(data_root=root, bit_depth=16)


@pytest.mark.parametrize(('bit_depth', 'folder'), [(8, 'PreviewData'), (16, 'Data')])
def test_v10(tmp_path, bit_depth, folder):
    root = str(write_flir_v10(tmp_path))
    infos = infos_of(FLIRDataset(data_root=root, bit_depth=bit_depth))
    assert len(infos) == 2
    for info in infos:
        assert info['img_path'].startswith(f'{root}/training/{folder}/')
        assert [i['bbox_label'] for i in info['instances']] == [0]


def test_unknown_category_id_is_never_shifted(tmp_path):
    path = write_flir_v13(tmp_path) / 'train' / 'thermal_annotations.json'
    coco = json.loads(path.read_text())
    coco['annotations'][4]['category_id'] = 91
    path.write_text(json.dumps(coco))
    with pytest.raises(
        AnnotationError, match=r'FLIR_00002\.jpeg: category id not .*91'
    ):
        FLIRDataset(data_root=str(tmp_path))


def test_missing_data(tmp_path):
    for kwargs in ({}, {'ann_file': 'train/thermal_annotations.json'}):
        with pytest.raises(FileNotFoundError) as error:
            FLIRDataset(data_root=str(tmp_path / 'FLIR'), **kwargs)
        text = str(error.value)
        assert f'{tmp_path}/FLIR/train/thermal_annotations.json' in text
        assert '--demo' in text
        assert 'docs/your_camera.md' in text


@pytest.mark.parametrize('kwargs', [{'modality': 'thermal'}, {'bit_depth': 14}])
def test_unknown_options(kwargs):
    (name,) = kwargs
    with pytest.raises(ValueError, match=f'{name} must be'):
        FLIRDataset(**kwargs)


def test_street_pairs(real_data):
    """Counts as in the description of the folder; subsets of one seed are nested."""
    root = str(real_data / 'street_pairs')
    expected = {'train': (180, 956, (655, 94, 207)), 'val': (60, 265, (166, 47, 52))}
    for split, (images, boxes, by_class) in expected.items():
        dataset = FLIRDataset(data_root=root, split=split, modality='both')
        infos = infos_of(dataset)
        labels = collections.Counter(
            i['bbox_label'] for info in infos for i in info['instances']
        )
        assert (len(infos), labels.total()) == (images, boxes)
        assert tuple(labels[k] for k in range(3)) == by_class
        assert all(info['img_paths']['rgb'] for info in infos)
    chosen = {}
    for num in (18, 36):
        dataset = FLIRDataset(data_root=root, subset={'num': num, 'seed': 0})
        chosen[num] = set(dataset.chosen)
        shown = {
            i['bbox_label'] for info in infos_of(dataset) for i in info['instances']
        }
        assert shown == {0, 1, 2}
    assert chosen[18] < chosen[36]
    rgb = FLIRDataset(data_root=root, modality='rgb')
    assert sum(len(info['instances']) for info in infos_of(rgb)) == 634
