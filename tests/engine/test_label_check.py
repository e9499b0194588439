"""Label maps are judged by what the pipeline reads from them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.dataset import BaseDataset
from mmengine.registry import TRANSFORMS
from PIL import Image

from mmir.data.check import BAD_MAP, CLASSES, COLORED, DEEP, MAP_SIZE, UNLEARNABLE
from mmir.engine import check_dataset
from mmir.transforms import LoadThermalImage

pytest.importorskip('mmseg')
from mmseg.datasets.transforms import LoadAnnotations

SIZE = (32, 40)
CLASSES_OF_TWO = ('ground', 'leaf')


class Maps(BaseDataset):
    """One image and a label map for each sample."""

    def __init__(self, folder: Path, maps: list, load: object, **meta: object) -> None:
        self.folder, self.maps = folder, maps
        self.extra = meta.pop('extra', {})
        meta.setdefault('classes', CLASSES_OF_TWO)
        steps = [LoadThermalImage(), *([] if load is None else [load])]
        super().__init__(pipeline=steps, metainfo=meta, serialize_data=False)

    def load_data_list(self) -> list[dict]:
        rows = []
        for k, labels in enumerate(self.maps):
            image, path = self.folder / f'image{k}.png', self.folder / f'map{k}.png'
            cv2.imwrite(str(image), np.random.default_rng(k).integers(0, 255, SIZE))
            if isinstance(labels, Image.Image):
                labels.save(path)
            elif labels is not None:
                cv2.imwrite(str(path), labels)
            info = dict(label_map=None, reduce_zero_label=False, seg_fields=[])
            row = dict(img_path=str(image), seg_map_path=str(path))
            rows.append(row | info | self.extra)
        return rows


def labels_of(*values: int, kind: type = np.uint8) -> np.ndarray:
    """Draw a map with stripes of the given values."""
    stripes = np.array(values, kind)[np.arange(SIZE[0]) * len(values) // SIZE[0]]
    return np.repeat(stripes[:, None], SIZE[1], 1)


@pytest.fixture
def check(tmp_path: Path):
    """Check maps twice, the second time with what the first remembers."""

    def _check(*maps: object, load: object = None, **options: object):
        dataset = Maps(tmp_path, list(maps), load or LoadAnnotations(), **options)
        cache = tmp_path / 'known.json'
        first = check_dataset(dataset, cache=cache, progress=False)
        second = check_dataset(dataset, cache=cache, progress=False)
        assert first.text() == second.text()
        # what training reads is what was judged
        if first.ok and load is None:
            read = [dataset[k]['gt_seg_map'] for k in range(len(maps))]
            assert all(labels.dtype == np.uint8 for labels in read)
            counts = sum(np.bincount(x.ravel(), minlength=256) for x in read)
            known = dataset.metainfo['classes']
            assert [first.labels.get(name, 0) for name in known] == counts[
                : len(known)
            ].tolist()
        return first

    return _check


def found(report) -> list[tuple[str, str]]:
    return [(problem.kind, Path(problem.name).name) for problem in report.problems]


def test_sound_maps_are_counted(check) -> None:
    report = check(labels_of(0, 1), labels_of(0, 1, 0, 255), labels_of(0))
    assert report.ok
    assert report.labels == {'ground': 40 * (16 + 16 + 32), 'leaf': 40 * (16 + 8)}
    assert report.notes == []
    assert '  pixels: ground 72.73%, leaf 27.27%' in report.text().splitlines()


def test_masks_of_0_and_255_teach_nothing(check) -> None:
    report = check(labels_of(0, 255), labels_of(0))
    (problem,) = report.problems
    assert problem.kind == UNLEARNABLE
    assert [Path(part).name for part in problem.name.split(', ')] == [
        'map0.png',
        'map1.png',
    ]
    assert problem.detail.startswith('640 pixels are 255 and all others 0')
    assert 'mmir.LoadSaliencyMask' in problem.detail
    assert report.notes == ['no pixel is labeled leaf']


def test_the_advice_for_such_masks_works(check) -> None:
    from mmir.seg.datasets import LoadSaliencyMask

    report = check(labels_of(0, 255), load=LoadSaliencyMask())
    assert report.ok
    assert report.labels == {'ground': 640, 'leaf': 640}
    # and so does a label map of the dataset
    report = check(labels_of(0, 255), extra=dict(label_map={255: 1}))
    assert report.labels == {'ground': 640, 'leaf': 640}


def test_images_that_the_host_loads(tmp_path: Path) -> None:
    """Their size is not known, but the maps are read all the same."""
    from mmcv.transforms import LoadImageFromFile

    dataset = Maps(tmp_path, [labels_of(0, 255), labels_of(0, 7)], LoadAnnotations())
    dataset.pipeline.transforms[0] = LoadImageFromFile()
    report = check_dataset(dataset, progress=False)
    assert found(report) == [(CLASSES, 'map1.png'), (UNLEARNABLE, 'map0.png')]
    assert '7 in 640 pixels' in report.problems[0].detail


def test_zero_left_out(check) -> None:
    zero = dict(reduce_zero_label=True)
    report = check(labels_of(0, 1, 2, 255), labels_of(0, 255), extra=zero)
    assert report.labels == {'ground': 320, 'leaf': 320}
    report = check(labels_of(0, 255), labels_of(0), extra=zero)
    assert [problem.kind for problem in report.problems] == [UNLEARNABLE]
    assert report.problems[0].detail.startswith('all 2560 pixels are ignored')
    report = check(labels_of(0, 1, 2, 3), extra=zero)
    assert found(report) == [(CLASSES, 'map0.png')]
    assert report.problems[0].detail == '3 in 320 pixels; of 3'


def test_a_class_that_occurs_nowhere_is_noted(check) -> None:
    report = check(labels_of(0), labels_of(0))
    assert report.ok
    assert report.notes == ['no pixel is labeled leaf']


@pytest.mark.parametrize('backend', ['pillow', 'cv2'])
def test_16_bits(check, backend: str) -> None:
    load = LoadAnnotations(imdecode_backend=backend)
    report = check(
        labels_of(0, 1, 255, kind=np.uint16),
        labels_of(0, 7, kind=np.uint16),
        labels_of(0, 256, 257, kind=np.uint16),  # would pass for classes 0 and 1
        load=load,
    )
    assert found(report) == [(CLASSES, 'map1.png'), (DEEP, 'map2.png')]
    assert report.problems[0].detail == '7 in 640 pixels; of 2'
    assert '256 becomes 0, 257 becomes 1' in report.problems[1].detail


def test_colors_and_palettes(check) -> None:
    colors = np.stack([labels_of(0, 255), labels_of(0, 1), labels_of(9)], 2)
    gray = cv2.merge([labels_of(0, 1)] * 3)
    palette = Image.fromarray(labels_of(0, 1), 'P')
    palette.putpalette([k for n in range(256) for k in (n, 255 - n, 7)])
    one_bit = Image.fromarray(labels_of(0, 1).astype(bool))
    maps = (colors, gray, palette, one_bit, labels_of(0, 1))
    report = check(*maps)
    assert found(report) == [(COLORED, 'map0.png'), (COLORED, 'map1.png')]
    assert '2 colors' in report.problems[0].detail
    assert '3 equal planes' in report.problems[1].detail
    assert report.labels == {'ground': 3 * 640, 'leaf': 3 * 640}

    report = check(*maps[2:], load=LoadAnnotations(imdecode_backend='cv2'))
    assert found(report) == [(COLORED, 'map0.png')]
    assert "set imdecode_backend='pillow'" in report.problems[0].detail
    # cv2 reads 1 bit as 0 and 255
    assert report.labels == {'ground': 2 * 640, 'leaf': 640}


def test_sizes_unreadable_files_and_label_maps(check, tmp_path: Path) -> None:
    report = check(labels_of(0, 1)[:16, :20], labels_of(0, 7), None)
    assert found(report) == [
        (MAP_SIZE, 'map0.png'),
        (CLASSES, 'map1.png'),
        (BAD_MAP, 'map2.png'),
    ]
    assert report.problems[0].detail == '20x16, its image 40x32'
    (tmp_path / 'map2.png').unlink(missing_ok=True)
    report = check(labels_of(0, 7), extra=dict(label_map={7: 1}))
    assert report.labels == {'ground': 640, 'leaf': 640}


@TRANSFORMS.register_module()
class LoadInstanceIds(LoadAnnotations):
    """A loader of the user, for which 16 bits are right."""

    def _load_seg_map(self, results: dict) -> None:
        ids = cv2.imread(results['seg_map_path'], cv2.IMREAD_UNCHANGED)
        results['gt_seg_map'] = (ids // 1000).astype(np.uint8)


def test_a_loader_of_the_user_is_judged_by_its_labels(check) -> None:
    ids = labels_of(12, 1003, kind=np.uint16)
    report = check(ids, load=LoadInstanceIds())
    assert report.labels == {'ground': 640, 'leaf': 640}
    report = check(ids + 1000, load=LoadInstanceIds())
    assert report.problems[0].detail == '2003 in 640 pixels; of 2'


def test_maps_that_nothing_reads_only_have_to_be_readable(tmp_path: Path) -> None:
    dataset = Maps(tmp_path, [labels_of(0, 7)], None)
    assert check_dataset(dataset, progress=False).ok
    (tmp_path / 'map0.png').write_bytes(b'no image')
    dataset.maps[0] = None
    report = check_dataset(dataset, progress=False)
    assert found(report) == [(BAD_MAP, 'map0.png')]


@pytest.mark.parametrize(('folder', 'classes', 'count'), [
    ('apple_rgbt/mask', ('ground', 'leaf'), 27),
    ('cwfid/label', ('soil', 'crop', 'weed'), 60),
])  # fmt: skip
def test_real_maps_raise_no_alarm(real_data, folder, classes, count) -> None:
    class Real(BaseDataset):
        def load_data_list(self) -> list[dict]:
            files = sorted((real_data / folder).glob('*.png'))
            same = dict(label_map=None, reduce_zero_label=False, seg_fields=[])
            return [dict(img_path=str(f), seg_map_path=str(f), **same) for f in files]

    steps = [LoadThermalImage(), LoadAnnotations()]
    dataset = Real(pipeline=steps, metainfo=dict(classes=classes))
    report = check_dataset(dataset, progress=False)
    assert report.samples == count
    assert report.ok
    assert all(report.labels[name] > 0 for name in classes)
