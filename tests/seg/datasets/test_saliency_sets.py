"""Salient-object datasets: noisy masks, thresholds, the three layouts."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmir.data.images import ImageReadError
from mmir.data.layouts.seg import MissingFilesError
from mmir.seg.datasets import LoadSaliencyMask, VTSODDataset
from mmir.testing.scenes import render_scene
from mmir.testing.scenes.seg_layouts import saliency_mask, write_vtsod

SIZE = (128, 96)


@pytest.mark.parametrize('name', ['VT821', 'VT1000', 'VT5000'])
@pytest.mark.parametrize('load', ['mmir.LoadSaliencyMask', 'mmseg.LoadAnnotations'])
def test_masks_through_the_pipeline(tmp_path, name, load):
    options = dict(train=1, test=2, seed=4, size=SIZE, progress=False)
    root = str(write_vtsod(tmp_path / name, name, **options))
    crop = dict(type='mmseg.RandomCrop', crop_size=SIZE[::-1])
    dataset = VTSODDataset(
        name=name,
        data_root=root,
        split='test',
        pipeline=[
            dict(type='mmir.LoadPairedImages'),
            dict(type=load),
            dict(type='mmir.PairedTransform', transforms=crop),
            dict(type='mmir.PackPairedInputs', pack=dict(type='mmseg.PackSegInputs')),
        ],
    )
    assert dataset.metainfo['classes'] == ('background', 'salient')
    assert len(dataset) == 2
    for k in range(2):
        sample = dataset[k]
        mask = sample['data_samples'].gt_sem_seg.data.numpy()[0]
        wanted = saliency_mask(render_scene((4, 1, k), SIZE, baseline=0.0))
        assert set(np.unique(mask)) <= {0, 1}
        if name == 'VT5000':
            np.testing.assert_array_equal(mask, wanted)
        else:  # the JPEG file is noisy, yet the threshold gives the shape back
            stored = cv2.imread(sample['data_samples'].seg_map_path, 0)
            assert len(np.unique(stored)) > 10
            np.testing.assert_array_equal(mask, stored >= 128)
            assert (mask & wanted).sum() > 0.95 * (mask | wanted).sum() > 0


def test_splits_and_names(tmp_path):
    options = dict(train=2, test=1, size=(64, 48), progress=False)
    root = str(write_vtsod(tmp_path / 'v', **options))
    assert len(VTSODDataset(data_root=root)) == 2
    assert len(VTSODDataset(data_root=root, split='test')) == 1
    with pytest.raises(ValueError, match=r"name must be one of .*got 'VT723'"):
        VTSODDataset(name='VT723', data_root=root)
    with pytest.raises(ValueError, match=r"VT821: split must be one of .*got 'train'"):
        VTSODDataset(name='VT821', split='train', data_root=root)
    with pytest.raises(ValueError, match='masks have two classes'):
        VTSODDataset(data_root=root, metainfo=dict(classes=('a', 'b', 'c')))


def test_missing_files_are_named(tmp_path):
    options = dict(train=3, test=0, size=(64, 48), progress=False)
    root = write_vtsod(tmp_path / 'v', **options)
    gone = sorted((root / 'Train/T').iterdir())[1]
    gone.unlink()
    said = rf'(?s)VT5000 \(train\).*of 3 samples:\n.*1 with no ir image.*{gone.stem}'
    with pytest.raises(MissingFilesError, match=said):
        VTSODDataset(data_root=str(root))
    dataset = VTSODDataset(data_root=str(root), missing='absent')
    paths = [dataset.get_data_info(k)['img_paths']['ir'] for k in range(3)]
    assert [path is None for path in paths] == [False, True, False]
    sorted((root / 'Train/GT').iterdir())[0].unlink()
    with pytest.raises(MissingFilesError, match='1 with no label map'):
        VTSODDataset(data_root=str(root), missing='absent')
    with pytest.raises(MissingFilesError, match='no VT5000 data'):
        VTSODDataset(data_root=str(tmp_path / 'none'))


def test_saliency_is_the_nearest_and_the_hottest_object():
    scene = render_scene((4, 1, 0), SIZE, baseline=0.0)
    mask = saliency_mask(scene)
    masks = [scene.codes['rgb'] == thing.code for thing in scene.objects]
    heat = [scene.thermal16[m].mean() if m.any() else 0 for m in masks]
    nearest = next(m for m in masks if m.any())
    np.testing.assert_array_equal(mask, nearest | masks[int(np.argmax(heat))])


@given(grey=st.integers(2, 255), threshold=st.integers(2, 255), seed=st.integers(0, 99))
def test_threshold(tmp_path_factory, grey, threshold, seed):
    path = str(tmp_path_factory.getbasetemp() / 'mask.png')
    picture = np.random.default_rng(seed).integers(0, grey + 1, (9, 7), np.uint8)
    picture[0, 0] = grey
    cv2.imwrite(path, picture)
    loaded = LoadSaliencyMask(threshold)({'seg_map_path': path})
    np.testing.assert_array_equal(loaded['gt_seg_map'], picture >= threshold)
    assert loaded['gt_seg_map'].dtype == np.uint8
    assert loaded['seg_fields'] == ['gt_seg_map']


def test_masks_in_colour_and_bad_masks(tmp_path):
    path = str(tmp_path / 'm.png')
    load = LoadSaliencyMask()
    mask = np.zeros((4, 5), np.uint8)
    mask[1:3] = 255
    for picture in (cv2.merge([mask] * 3), cv2.merge([mask] * 3 + [mask * 0 + 255])):
        cv2.imwrite(path, picture)
        gt = load({'seg_map_path': path})['gt_seg_map']
        np.testing.assert_array_equal(gt, mask > 0)
    for bad, said in ((mask // 255, 'holds 0 and 1'), (mask.astype('u2'), 'uint16')):
        cv2.imwrite(path, bad)
        with pytest.raises(ImageReadError, match=rf'm\.png holds .*{said[-3:]}'):
            load({'seg_map_path': path})
    with pytest.raises(ImageReadError, match='missing'):
        load({'seg_map_path': str(tmp_path / 'none.png')})
