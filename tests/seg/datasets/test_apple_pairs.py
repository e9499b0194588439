"""Real registered crops: RGB, near infrared of 16 bits, radiometric thermal, masks."""

import json

import numpy as np
import pytest

from mmir.seg.datasets import PairedSegDataset
from mmir.transforms import LoadPairedImages

LOAD = dict(
    rgb={},
    nir=dict(bit_depth=16, channels=1),
    ir=dict(channels=1, to_float32=True),
)
FOLDERS = dict(rgb='rgb', nir='nir16', ir='thermal16', seg_map_path='mask')
META = dict(classes=('background', 'leaf'), palette=[[0, 0, 0], [0, 255, 0]])


@pytest.fixture
def apple(real_data):
    root = real_data / 'apple_rgbt'
    if not root.is_dir():
        pytest.skip('apple_rgbt is not among the real images')
    return root


def build(root, **kwargs):
    options = dict(
        data_prefix=FOLDERS,
        metainfo=META,
        modality=('rgb', 'nir', 'ir'),
        missing='absent',
    )
    return PairedSegDataset(data_root=str(root), **(options | kwargs))


def test_all_crops_with_three_cameras(apple):
    rows = {row['name']: row for row in json.loads((apple / 'index.json').read_text())}
    pipeline = [
        dict(type='mmir.LoadPairedImages', modalities=LOAD),
        dict(type='mmseg.LoadAnnotations'),
        dict(type='mmir.PackPairedInputs', pack=dict(type='mmseg.PackSegInputs')),
    ]
    dataset = build(apple, pipeline=pipeline)
    assert len(dataset) == len(rows) == 27
    absent = 0
    for k in range(27):
        sample = dataset[k]
        data = sample['data_samples']
        row = rows[data.img_path.rsplit('/', 1)[1].removesuffix('.png')]
        inputs = sample['inputs'].numpy()
        assert inputs.dtype == np.float32
        assert inputs.shape == (5, row['height'], row['width'])
        label = data.gt_sem_seg.data.numpy()[0]
        assert label.shape == inputs.shape[1:]
        assert set(np.unique(label)) == {0, 1}
        assert label.mean() == pytest.approx(row['leaf_fraction'], abs=1e-4)
        if not row['radiometric']:
            absent += 1
            assert set(data.absent) == {'nir', 'ir'}
            assert not inputs[3:].any()
            continue
        assert data.absent == ()
        assert data.modalities == ('rgb', 'ir', 'nir')
        celsius = inputs[3] / 100 - 273.15
        span = [celsius.min(), celsius.max()]
        np.testing.assert_allclose(span, row['celsius'], atol=0.01)
        assert inputs[4].max() > 255  # counts of 16 bits, as they are
    assert absent == 2


def test_the_split_without_leaks(apple, tmp_path):
    rows = json.loads((apple / 'index.json').read_text())
    for split, count in (('train', 20), ('test', 7)):
        names = [row['name'] for row in rows if row['split'] == split]
        path = tmp_path / f'{split}.txt'
        path.write_text('\n'.join(names))
        dataset = build(apple, ann_file=str(path))
        found = [
            dataset.get_data_info(k)['img_path'].rsplit('/', 1)[1]
            for k in range(len(dataset))
        ]
        assert found == [f'{name}.png' for name in names]
        assert len(found) == count


def test_16_bit_near_infrared_alone_and_8_bit_thermal(apple):
    folders = dict(FOLDERS, ir='thermal8')
    dataset = build(apple, modality='both', data_prefix=folders, missing='raise')
    load = LoadPairedImages(modalities=dict(rgb={}, ir=dict(channels=1)))
    imgs = load(dataset.get_data_info(0))['imgs']
    assert (imgs['rgb'].dtype, imgs['ir'].dtype) == (np.uint8, np.uint8)
    with pytest.raises(
        FileNotFoundError, match=r'2 with no nir image in .*/nir16: 1_3'
    ):
        build(apple, missing='raise')
