"""Every detection dataset on its own layout: boxes against the scenes themselves."""

import collections
import functools
import json
import shutil

import numpy as np
import pytest
import torch
from det_converters import convert
from mmdet.evaluation import CocoMetric

from mmir.det.datasets import (
    DroneVehicleDataset,
    FLIRAlignedDataset,
    HITUAVDataset,
    KAISTDataset,
    LayoutDataset,
    LLVIPDataset,
    M3FDDataset,
)
from mmir.testing.scenes import det_layouts as layouts
from mmir.transforms import LoadPairedImages
from mmir.utils.errors import AnnotationError

SIZE, SEED = (200, 160), 6
COUNTS = {'train': 4, 'val': 2, 'test': 2}
STREET = {'person': 'person', 'bicycle': 'bicycle', 'car': 'car'}
DRONE = {
    'car': ('car', 'bus', 'van'),
    'bicycle': ('freight car',),
    'person': ('truck',),
}


def plain(names, crowd=()):
    """Return the expected labels of a dataset of registered pairs."""

    def expected(scene, classes, modality):
        rows = []
        for thing in scene.objects:
            if thing.box_ir is None or not (thing.visible_ir or thing.visible_rgb):
                continue
            label, box = thing.label, thing.box_ir
            if (
                label == 'person' and 'people' in crowd and thing.identity % 5 == 0
            ) or (label in crowd):
                rows += [(k, box, 1) for k in range(len(classes))]
            elif label in names:
                rows.append((classes.index(names[label]), box, 0))
        return rows

    return expected


def drone(scene, classes, modality):
    """Return DroneVehicle's labels: objects visible in one image, without '*'."""
    box = {'ir': lambda o: o.box_ir, 'rgb': lambda o: o.box_rgb}[modality]
    seen = [o for o in scene.objects if box(o) and getattr(o, f'visible_{modality}')]
    return [
        (classes.index(DRONE[o.label][k % len(DRONE[o.label])]), box(o), 0)
        for k, o in enumerate(seen)
        if o.label in DRONE
    ]


M3FD_NAMES = {'person': 'People', 'car': 'Car', 'bicycle': 'Motorcycle'}
HIT_NAMES = {'person': 'Person', 'car': 'Car', 'bicycle': 'Bicycle'}
SETS = {
    'llvip': (LLVIPDataset, 'train test', plain({'person': 'person'})),
    'm3fd': (M3FDDataset, 'train val', plain(M3FD_NAMES)),
    'kaist': (
        KAISTDataset,
        'train test',
        plain({'person': 'person'}, ('people', 'bicycle', 'dog')),
    ),
    'flir_aligned': (FLIRAlignedDataset, 'train val', plain(STREET)),
    'hituav': (HITUAVDataset, 'train val test', plain(HIT_NAMES, ('dog',))),
    'dronevehicle': (DroneVehicleDataset, 'train val test', drone),
}


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    """Write and convert every dataset; returns folders by name."""
    base = tmp_path_factory.mktemp('sets')
    found = {}
    for name, (_, splits, _) in SETS.items():
        counts = {split: COUNTS[split] for split in splits.split()}
        write = getattr(layouts, f'write_{name}')
        found[name] = write(base / name, **counts, seed=SEED, size=SIZE, progress=False)
        assert convert(name, found[name]) == 0
    return found


def infos_of(dataset):
    return [dataset.get_data_info(k) for k in range(len(dataset))]


pair_scene = functools.cache(layouts.pair_scene)


def scenes_of(name, splits, split):
    night = True if name == 'llvip' else None
    baseline = 0.12 if name == 'dronevehicle' else 0.0
    part = splits.split().index(split)
    for k in range(COUNTS[split]):
        yield pair_scene(SEED, part, k, SIZE, night, baseline)


@pytest.mark.parametrize('name', SETS)
def test_labels_are_those_of_the_scenes(roots, name):
    cls, splits, expected = SETS[name]
    flags = collections.Counter()
    for split in splits.split():
        for modality in cls.LAYOUT.labels:
            dataset = cls(data_root=str(roots[name]), split=split, modality=modality)
            infos = infos_of(dataset)
            scenes = list(scenes_of(name, splits, split))
            assert len(infos) == len(scenes)
            for info, scene in zip(infos, scenes, strict=True):
                assert (info['width'], info['height']) == SIZE
                rows = expected(scene, dataset.metainfo['classes'], modality)
                found = [
                    (i['bbox_label'], i['bbox'], i['ignore_flag'])
                    for i in info['instances']
                ]
                assert found == [
                    (label, [x, y, x + w, y + h], crowd)
                    for label, (x, y, w, h), crowd in rows
                ]
                flags.update(crowd for *_, crowd in found)
    assert flags[0] > 5
    assert (flags[1] > 0) == (name in ('kaist', 'hituav'))


@pytest.mark.parametrize('name', [name for name in SETS if name != 'hituav'])
def test_both_cameras_show_the_scene(roots, name):
    """The pair is found in the right order, and the image matches the labels."""
    cls, splits, _ = SETS[name]
    infos = infos_of(cls(data_root=str(roots[name]), modality='both'))
    load = LoadPairedImages({'rgb': {}, 'ir': {'channels': 1}})
    for info, scene in zip(infos, scenes_of(name, splits, 'train'), strict=True):
        assert info['img_path'] == info['img_paths'][info['reference']]
        assert info['reference'] == 'ir'
        sample = load(info)
        for camera, image in (('rgb', scene.rgb), ('ir', scene.thermal8[..., None])):
            loaded = sample['imgs'][camera]
            assert loaded.shape == image.shape
            assert np.abs(loaded.astype(int) - image).mean() < 8  # JPEG, twice
            shifted = np.roll(image.astype(int), 100, 1)
            assert np.abs(loaded - shifted).mean() > 8


def test_one_camera_only(roots):
    for modality, folder in (('rgb', 'visible'), ('ir', 'infrared')):
        dataset = LLVIPDataset(data_root=str(roots['llvip']), modality=modality)
        for info in infos_of(dataset):
            assert info['img_path'].startswith(f'{roots["llvip"]}/{folder}/train/01')
            assert 'img_paths' not in info


def test_labels_of_the_other_camera(roots):
    """The reference of 'both' is the camera whose labels are used."""
    root = str(roots['dronevehicle'])
    for labels, folder in (('ir', 'trainimgr'), ('rgb', 'trainimg')):
        both = DroneVehicleDataset(data_root=root, modality='both', labels=labels)
        alone = DroneVehicleDataset(data_root=root, modality=labels)
        for info, single in zip(infos_of(both), infos_of(alone), strict=True):
            assert f'/cropped/train/{folder}/' in info['img_path']
            assert info['img_path'] == info['img_paths'][labels] == single['img_path']
            assert info['reference'] == labels
            assert 'reference' not in single
            assert info['instances'] == single['instances']


def test_subset_and_filter(roots):
    root = str(roots['m3fd'])
    one, two = (
        M3FDDataset(data_root=root, subset={'num': n, 'seed': 0}) for n in (1, 2)
    )
    assert set(one.chosen) < set(two.chosen)
    cars = M3FDDataset(
        data_root=root,
        metainfo={'classes': ('Car',)},
        filter_cfg={'filter_empty_gt': True},
    )
    labels = [{i['bbox_label'] for i in info['instances']} for info in infos_of(cars)]
    assert labels
    assert all(found == {0} for found in labels)


def test_metainfo_is_complete():
    for cls, *_ in SETS.values():
        assert len(cls.METAINFO['classes']) == len(cls.METAINFO['palette'])
        assert len(set(cls.METAINFO['palette'])) == len(cls.METAINFO['palette'])
    assert LLVIPDataset.METAINFO['classes'] == ('person',)
    assert M3FDDataset.METAINFO['classes'] == (
        'People', 'Car', 'Bus', 'Motorcycle', 'Lamp', 'Truck',
    )  # fmt: skip
    assert DroneVehicleDataset.METAINFO['classes'] == (
        'car', 'truck', 'bus', 'van', 'freight car',
    )  # fmt: skip


def coco_ap(dataset, extra):
    """Return mAP of perfect detections; `extra` adds higher-scoring ones on crowds."""
    metric = CocoMetric(metric='bbox')
    metric.dataset_meta = dataset.metainfo
    for info in infos_of(dataset):
        kept = [i for i in info['instances'] if extra or not i['ignore_flag']]
        boxes = np.array([i['bbox'] for i in kept], np.float32).reshape(-1, 4)
        scores = [0.95 if i['ignore_flag'] else 0.9 for i in kept]
        labels = [i['bbox_label'] for i in kept]
        found = {
            'bboxes': torch.from_numpy(boxes),
            'scores': torch.tensor(scores),
            'labels': torch.tensor(labels, dtype=torch.long),
        }
        sample = {
            'img_id': info['img_id'],
            'ori_shape': SIZE[::-1],
            'pred_instances': found,
            'instances': info['instances'],
        }
        metric.process({}, [sample])
    return metric.evaluate(len(dataset))['coco/bbox_mAP']


def test_coco_metric_ignores_crowds(roots):
    dataset = KAISTDataset(data_root=str(roots['kaist']), test_mode=True)
    assert coco_ap(dataset, extra=False) == coco_ap(dataset, extra=True) == 1


def test_not_converted(tmp_path):
    root = layouts.write_llvip(tmp_path / 'l', 1, 1, size=(64, 48), progress=False)
    with pytest.raises(FileNotFoundError) as error:
        LLVIPDataset(data_root=str(root), split='test')
    text = str(error.value)
    assert f'{root}/coco/test.json not found' in text
    assert f'python tools/dataset_converters/llvip.py {root} --check' in text


@pytest.mark.parametrize('name', SETS)
def test_no_data(tmp_path, name):
    cls = SETS[name][0]
    (tmp_path / 'notes').mkdir()
    with pytest.raises(FileNotFoundError) as error:
        cls(data_root=str(tmp_path))
    text = str(error.value)
    assert f'no {cls.LAYOUT.name} data in {tmp_path}\nIt holds: notes.' in text
    assert f'{cls.LAYOUT.tool}.py {tmp_path} --check' in text
    with pytest.raises(FileNotFoundError, match='It does not exist'):
        cls(data_root=str(tmp_path / 'nowhere'))


def test_missing_images_are_counted(tmp_path):
    root = layouts.write_llvip(tmp_path / 'l', 3, 1, size=(64, 48), progress=False)
    assert convert('llvip', root) == 0
    (root / 'visible/train/010002.jpg').unlink()
    assert len(LLVIPDataset(data_root=str(root), modality='ir')) == 3
    for modality, total in (('rgb', 3), ('both', 6)):
        with pytest.raises(FileNotFoundError) as error:
            LLVIPDataset(data_root=str(root), modality=modality)
        text = str(error.value)
        assert f'lacks 1 of {total} images: visible/train/010002.jpg.' in text
        assert f'llvip.py {root} --drop' in text


def test_a_file_of_another_origin(roots, tmp_path):
    path = roots['llvip'] / 'coco' / 'train.json'
    coco = json.loads(path.read_text())
    del coco['images'][1]['rgb']
    (tmp_path / 'other.json').write_text(json.dumps(coco))
    with pytest.raises(AnnotationError, match=r'does not name its files for .*rgb'):
        LLVIPDataset(
            data_root=str(roots['llvip']), ann_file=str(tmp_path / 'other.json')
        )


@pytest.mark.parametrize(
    ('cls', 'kwargs', 'message'),
    [
        (LLVIPDataset, {'split': 'val'}, r"split must be one of \('train', 'test'\)"),
        (LLVIPDataset, {'modality': 'thermal'}, 'modality must be one of'),
        (HITUAVDataset, {'modality': 'both'}, r"modality must be one of \('ir',\)"),
        (LLVIPDataset, {'labels': 'rgb'}, r"labels must be one of \('ir',\)"),
    ],
)
def test_unknown_options(cls, kwargs, message):
    with pytest.raises(ValueError, match=message):
        cls(**kwargs)


def test_a_subclass_is_a_row():
    class Mine(LayoutDataset):
        LAYOUT = LLVIPDataset.LAYOUT

    assert Mine.METAINFO == LLVIPDataset.METAINFO


def test_real_hituav(real_data, tmp_path):
    """A subset in the plain layout, lower-case names, crowds marked by its maker."""
    root = real_data / 'hituav'
    assert convert('hituav', root, '--out', tmp_path) == 0
    expected = {'train': (400, (1882, 948, 728, 24), 26)}
    expected['test'] = (200, (727, 560, 321, 20), 2)
    for split, (number, by_class, crowds) in expected.items():
        dataset = HITUAVDataset(
            data_root=str(root), split=split, ann_file=str(tmp_path / f'{split}.json')
        )
        infos = infos_of(dataset)
        assert len(infos) == number
        counts = collections.Counter(
            (i['bbox_label'], i['ignore_flag'])
            for info in infos
            for i in info['instances']
        )
        assert tuple(counts[k, 0] for k in range(4)) == by_class
        assert counts[0, 1] == crowds
    source = json.loads((root / 'test.json').read_text())
    boxes = collections.defaultdict(list)
    for ann in source['annotations']:
        x, y, w, h = ann['bbox']
        boxes[ann['image_id']].append([x, y, x + w, y + h])
    names = {image['file_name']: image['id'] for image in source['images']}
    for info in infos:
        assert info['img_path'] == f'{root}/{info["file_name"]}'
        own = boxes[names[info['file_name'].rpartition('/')[2]]]
        assert sorted(i['bbox'] for i in info['instances']) == sorted(own)


def test_partners_outside_the_data_need_a_word_in_the_config(roots, tmp_path):
    root = tmp_path / 'llvip'
    shutil.copytree(roots['llvip'], root)
    path = root / 'coco/train.json'
    coco = json.loads(path.read_text())
    name = coco['images'][0]['rgb']
    shutil.move(root / name, tmp_path / 'rgb.jpg')
    coco['images'][0]['rgb'] = '../rgb.jpg'
    path.write_text(json.dumps(coco))
    options = dict(data_root=str(root), modality='both')
    with pytest.raises(AnnotationError, match=r'\.\./rgb\.jpg; allow_outside=True'):
        len(LLVIPDataset(**options))
    dataset = LLVIPDataset(**options, allow_outside=True)
    assert dataset.get_data_info(0)['img_paths']['rgb'] == str(root / '../rgb.jpg')
