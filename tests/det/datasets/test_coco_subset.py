import copy
import json

import numpy as np
import pytest
import torch
from coco_files import coco_dict, write_coco
from mmdet.evaluation import CocoMetric
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmir.det.datasets import CocoSubsetDataset
from mmir.utils.errors import AnnotationError

CLASSES = ('car', 'person')  # not the order of the file


def build(folder, coco, classes=CLASSES, **kwargs):
    return CocoSubsetDataset(
        ann_file=str(write_coco(folder, coco)),
        data_prefix={'img': str(folder)},
        metainfo={'classes': classes},
        **kwargs,
    )


def boxes_of(dataset):
    return [
        [(i['bbox_label'], i['bbox']) for i in dataset.get_data_info(k)['instances']]
        for k in range(len(dataset))
    ]


def test_labels_follow_the_classes(tmp_path):
    coco = coco_dict(
        [[(1, (1, 2, 8, 9)), (3, (1, 1, 9, 9))], [(2, (0, 0, 5, 6))]],
        names=('person', 'car', 'dog'),
    )
    dataset = build(tmp_path, coco)
    assert boxes_of(dataset) == [[(1, [1, 2, 9, 11])], [(0, [0, 0, 5, 6])]]
    info = dataset.get_data_info(1)
    assert (info['file_name'], info['width'], info['height']) == ('1.png', 40, 32)
    assert info['img_path'] == str(tmp_path / '1.png')
    assert dataset.chosen is None


def test_boxes_over_the_edge_are_clipped_crowds_ignored_areas_filled(tmp_path):
    coco = coco_dict([[(1, (-5, -5, 10, 10)), (2, (30, 20, 20, 5))]])
    coco['annotations'][0]['area'] = 0
    coco['annotations'][1]['iscrowd'] = 1
    dataset = build(tmp_path, coco)
    assert boxes_of(dataset) == [[(1, [0, 0, 5, 5]), (0, [30, 20, 40, 25])]]
    flags = [i['ignore_flag'] for i in dataset.get_data_info(0)['instances']]
    assert flags == [0, 1]


def test_bad_boxes_stop_the_load_or_are_dropped(tmp_path):
    coco = coco_dict([[(1, (1, 2, 8, 9)), (1, (50, 2, 8, 9)), (2, (1, 2, -3, 9))]])
    with pytest.raises(AnnotationError, match=r'0\.png: box outside the image'):
        build(tmp_path, coco)
    dataset = build(tmp_path, coco, on_bad_box='drop')
    assert boxes_of(dataset) == [[(1, [1, 2, 9, 11])]]
    with pytest.raises(ValueError, match=r"on_bad_box must be .* got 'clip'"):
        build(tmp_path, coco, on_bad_box='clip')


def test_bad_boxes_of_other_classes_do_not_matter(tmp_path):
    coco = coco_dict([[(1, (1, 2, 8, 9)), (2, (50, 2, 8, 9))]])
    assert boxes_of(build(tmp_path, coco, ('person',))) == [[(0, [1, 2, 9, 11])]]


def test_missing_images_are_named_before_training(tmp_path):
    coco = coco_dict([[] for _ in range(9)])
    path = write_coco(tmp_path, coco)
    for k in range(5):
        (tmp_path / f'{k}.png').unlink()
    with pytest.raises(AnnotationError) as error:
        CocoSubsetDataset(
            ann_file=str(path),
            data_prefix={'img': str(tmp_path)},
            metainfo={'classes': CLASSES},
        )
    assert 'image is missing: 5' in str(error.value)
    assert f'0.png: image is missing (expected in {tmp_path}/)' in str(error.value)


@pytest.mark.parametrize(
    ('classes', 'error', 'message'),
    [
        ('person', ValueError, r"write a tuple: \('person',\)"),
        ((), ValueError, "needs metainfo.* has 'person', 'car'"),
        (('bus', 'car'), AnnotationError, "no category 'bus'; it has 'person', 'car'"),
    ],
)
def test_wrong_classes(tmp_path, classes, error, message):
    with pytest.raises(error, match=message):
        build(tmp_path, coco_dict([[]]), classes)


def test_subset_is_chosen_among_filtered_images(tmp_path):
    rows = [[(1 + k % 2, (1, 2, 8, 9))] if k % 3 else [] for k in range(12)]
    cfg = {'filter_cfg': {'filter_empty_gt': True}}
    whole = build(tmp_path, coco_dict(rows), **cfg)
    assert len(whole) == 8
    part = build(tmp_path, coco_dict(rows), subset={'num': 4, 'seed': 1}, **cfg)
    names = [part.get_data_info(k)['file_name'] for k in range(4)]
    assert part.chosen == names
    assert {label for row in boxes_of(part) for label, _ in row} == {0, 1}
    again = build(tmp_path, coco_dict(rows), subset={'files': names}, **cfg)
    assert again.chosen == names
    with pytest.raises(ValueError, match=r'num=9, but .* has 8 images'):
        build(tmp_path, coco_dict(rows), subset={'num': 9}, **cfg)


def noisy_detections(dataset, rng):
    """Draw a detection near most boxes and some elsewhere, with ground truth."""
    for k in range(len(dataset)):
        info = dataset.get_data_info(k)
        true = np.array([i['bbox'] for i in info['instances']]).reshape(-1, 4)
        labels = np.array([i['bbox_label'] for i in info['instances']], int)
        near = true + rng.normal(0, 0.7, true.shape)
        false = rng.uniform(0, 16, (2, 4)) + np.array([0, 0, 14, 14])
        boxes = np.concatenate([near, false])
        labels = np.concatenate([labels, rng.integers(0, 2, 2)])
        keep = rng.random(len(boxes)) < 0.9
        sample = DetDataSample(
            metainfo={
                'img_id': info['img_id'],
                'ori_shape': (info['height'], info['width']),
                'instances': info['instances'],
            }
        )
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor(boxes[keep]),
            labels=torch.tensor(labels[keep]),
            scores=torch.tensor(rng.random(keep.sum())),
        )
        yield sample


def evaluate(dataset, samples, ann_file):
    metric = CocoMetric(ann_file=ann_file)
    metric.dataset_meta = dataset.metainfo
    for sample in samples:
        metric.process({}, [copy.deepcopy(sample).to_dict()])
    return metric.evaluate(len(dataset))


def reference_ap(ann_file, samples, classes, image_ids):
    """Evaluate with pycocotools only, matching categories by name."""
    truth = COCO(str(ann_file))
    by_name = {cat['name']: cat['id'] for cat in truth.cats.values()}
    rows = []
    for sample in samples:
        pred = sample.pred_instances
        for box, label, score in zip(
            pred.bboxes, pred.labels, pred.scores, strict=True
        ):
            x1, y1, x2, y2 = box.tolist()
            rows.append(
                {
                    'image_id': sample.img_id,
                    'category_id': by_name[classes[int(label)]],
                    'bbox': [x1, y1, x2 - x1, y2 - y1],
                    'score': float(score),
                }
            )
    run = COCOeval(truth, truth.loadRes(rows), 'bbox')
    run.params.catIds = [by_name[name] for name in classes]
    run.params.imgIds = image_ids
    run.evaluate()
    run.accumulate()
    run.summarize()
    return run.stats


def many_boxes(seed=0, images=12):
    """Category ids 7, 3 and 50; the file's order is not the classes' order."""
    rng = np.random.default_rng(seed)
    rows = [
        [
            (
                int(rng.choice([7, 3, 50])),
                [*rng.integers(0, 20, 2), *rng.integers(4, 12, 2)],
            )
            for _ in range(rng.integers(1, 5))
        ]
        for _ in range(images)
    ]
    rows = [[(c, [int(v) for v in box]) for c, box in row] for row in rows]
    coco = coco_dict(rows)
    names = {7: 'person', 3: 'car', 50: 'dog'}
    coco['categories'] = [{'id': k, 'name': n} for k, n in names.items()]
    for ann in coco['annotations']:
        ann['area'] = ann['bbox'][2] * ann['bbox'][3]
    return coco


@pytest.mark.parametrize('subset', [None, {'num': 7, 'seed': 2}])
def test_ap_from_the_dataset_equals_pycocotools(tmp_path, subset):
    dataset = build(tmp_path, many_boxes(), subset=subset, test_mode=True)
    samples = list(noisy_detections(dataset, np.random.default_rng(1)))
    found = evaluate(dataset, samples, ann_file=None)
    ids = [sample.img_id for sample in samples]
    expected = reference_ap(tmp_path / 'ann.json', samples, CLASSES, ids)
    assert 0.05 < expected[0] < 0.95
    assert found['coco/bbox_mAP'] == pytest.approx(expected[0], abs=6e-4)  # rounded
    assert found['coco/bbox_mAP_50'] == pytest.approx(expected[1], abs=6e-4)


def test_ap_from_the_file_needs_its_order(tmp_path, monkeypatch):
    """Reason for the warning: another category order confuses the metric's classes."""
    lines = []
    monkeypatch.setattr(
        'mmir.det.datasets.coco_subset.print_log', lambda text, **kw: lines.append(text)
    )
    ann_file = str(tmp_path / 'ann.json')
    scores = {}
    for classes in (('person', 'car'), CLASSES):
        dataset = build(tmp_path, many_boxes(), classes, test_mode=True)
        samples = list(noisy_detections(dataset, np.random.default_rng(1)))
        found = evaluate(dataset, samples, ann_file)['coco/bbox_mAP_50']
        ids = [sample.img_id for sample in samples]
        scores[classes] = found, reference_ap(ann_file, samples, classes, ids)[1]
    assert scores['person', 'car'][0] == pytest.approx(
        scores['person', 'car'][1], abs=6e-4
    )
    assert scores[CLASSES][0] < scores[CLASSES][1] / 2
    assert ['another order than' in line for line in lines].count(True) == 1


def test_real_coco_files(real_data):
    classes = ('car', 'person')
    dataset = CocoSubsetDataset(
        ann_file='train.json',
        data_root=str(real_data / 'hituav'),
        data_prefix={'img': 'train'},
        metainfo={'classes': classes},
        subset={'num': 50, 'seed': 0},
    )
    raw = json.loads((real_data / 'hituav' / 'train.json').read_text())
    names = {cat['id']: cat['name'] for cat in raw['categories']}
    files = {img['file_name']: img['id'] for img in raw['images']}
    assert len(dataset) == len(dataset.chosen) == 50
    for k, row in enumerate(boxes_of(dataset)):
        image_id = files[dataset.chosen[k]]
        anns = [a for a in raw['annotations'] if a['image_id'] == image_id]
        expected = [names[a['category_id']] for a in anns]
        expected = [name for name in expected if name in classes]
        assert [classes[label] for label, _ in row] == expected


def quirky(folder, **values):
    """A person and a car, whose file writes its values as some tool does."""
    coco = coco_dict([[(1, (1, 2, 8, 9)), (2, (20, 10, 9, 9))]])
    for ann in coco['annotations']:
        ann['area'] = 72
    coco['annotations'][0].update(values)
    return build(folder, coco, ('person', 'car'), test_mode=True)


@pytest.mark.parametrize(
    ('values', 'flags'),
    [
        (dict(area=-72), [0, 0]),
        (dict(area='72'), [0, 0]),
        (dict(area=None), [0, 0]),
        (dict(iscrowd='0'), [0, 0]),
        (dict(ignore=1), [1, 0]),
        (dict(ignore='1'), [1, 0]),
        (dict(bbox=['1', '2', '8', '9']), [0, 0]),
    ],
)
def test_no_box_is_lost_or_mistyped(tmp_path, values, flags):
    dataset = quirky(tmp_path, **values)
    assert boxes_of(dataset) == [[(0, [1, 2, 9, 11]), (1, [20, 10, 29, 19])]]
    instances = dataset.get_data_info(0)['instances']
    assert [i['ignore_flag'] for i in instances] == flags


def test_an_ignored_region_is_no_error_of_the_detector(tmp_path):
    """A person found in an ignored region is no false positive; elsewhere it is one."""
    dataset = quirky(tmp_path, ignore=1)
    info = dataset.get_data_info(0)
    for instance in info['instances']:
        instance['bbox_label'] = 1  # one class, so that the region concerns it
    meta = {'img_id': 0, 'ori_shape': (32, 40), 'instances': info['instances']}
    scores = {}
    for x in (1.0, 30.0):
        found = DetDataSample(metainfo=meta)
        found.pred_instances = InstanceData(
            bboxes=torch.tensor([[x, 2, x + 8, 11], [20, 10, 29, 19]]),
            labels=torch.tensor([1, 1]),
            scores=torch.tensor([0.9, 0.8]),
        )
        scores[x] = evaluate(dataset, [found], None)['coco/bbox_mAP_50']
    assert scores == {1.0: pytest.approx(1), 30.0: pytest.approx(0.5)}


def test_a_metric_that_reads_the_file_is_warned_of(tmp_path, monkeypatch):
    """Reason: the metric takes iscrowd='0' for a crowd, and ignore=1 for a box."""
    lines = []
    monkeypatch.setattr(
        'mmir.det.datasets.coco_subset.print_log', lambda text, **kw: lines.append(text)
    )
    quirky(tmp_path)
    assert not any('ann_file set' in line for line in lines)
    for values, reason in (
        (dict(iscrowd='0'), '1 boxes with iscrowd as text'),
        (dict(ignore=1), '1 boxes with ignore=1'),
        (dict(area=-1), '1 areas that are not positive'),
    ):
        lines.clear()
        quirky(tmp_path, **values)
        report, warning = lines
        assert f'note: {reason}' in report
        assert reason in warning
        assert 'Leave ann_file of CocoMetric unset' in warning


def test_files_outside_the_data_need_a_word_in_the_config(tmp_path):
    folder = tmp_path / 'data' / 'images'
    coco = coco_dict([[(1, (1, 2, 8, 9))], [(2, (1, 2, 8, 9))]])
    coco['images'][1]['file_name'] = '../1.png'
    with pytest.raises(AnnotationError, match=r'\.\./1\.png.*not below') as caught:
        build(folder, coco)
    assert 'set allow_outside=True in the dataset' in str(caught.value)
    options = [dict(allow_outside=True), dict(data_root=str(tmp_path / 'data'))]
    options.append(dict(allow_outside=True, backend_args=dict(backend='local')))
    for kwargs in options:
        dataset = build(folder, coco, **kwargs)
        assert dataset.get_data_info(1)['img_path'] == str(folder / '../1.png')
    with pytest.raises(AnnotationError, match='not below'):
        build(folder, coco, backend_args=dict(backend='local'))


def test_image_folder_may_be_a_link(tmp_path):
    coco = coco_dict([[(1, (1, 2, 8, 9))], [(2, (1, 2, 8, 9))]])
    write_coco(tmp_path / 'disk', coco)
    (tmp_path / 'images').symlink_to(tmp_path / 'disk')
    dataset = CocoSubsetDataset(
        data_root=str(tmp_path),
        ann_file='disk/ann.json',
        data_prefix={'img': 'images/'},
        metainfo={'classes': CLASSES},
        pipeline=[dict(type='LoadThermalImage')],
    )
    assert dataset[1]['img'].shape == (32, 40, 3)


def test_broken_image_is_named_through_worker_processes(tmp_path):
    coco = coco_dict([[(1, (1, 2, 8, 9))], [(2, (1, 2, 8, 9))]])
    dataset = build(tmp_path, coco, pipeline=[dict(type='LoadThermalImage')])
    path = tmp_path / '1.png'
    path.write_bytes(path.read_bytes()[:-30])
    loader = torch.utils.data.DataLoader(dataset, None, num_workers=1)
    with pytest.raises(OSError, match=rf'image file is truncated: {path}'):
        list(loader)
