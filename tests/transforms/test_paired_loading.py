"""Loading of pairs: rules, depths, file types, sizes, missing and broken files."""

import copy
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_files import image, write_image
from mmengine.dataset import BaseDataset
from mmengine.registry import TRANSFORMS

from mmir.data.images import ImageReadError
from mmir.structures import PairError
from mmir.transforms import LoadPairedImages, LoadThermalImage

BY_FOLDER = dict(rgb={}, ir=dict(folder=('vis', 'ir')))


def write_pair(folder: Path, size=(32, 40), ir_size=None) -> dict:
    """Write `vis/1.png` and `ir/1.png`; the images by modality."""
    imgs = dict(
        rgb=image(*size, channels=3), ir=image(*(ir_size or size), channels=3, seed=1)
    )
    write_image(folder / 'vis/1.png', imgs['rgb'])
    write_image(folder / 'ir/1.png', imgs['ir'])
    return imgs


def test_a_folder_rule(tmp_path):
    imgs = write_pair(tmp_path)
    info = dict(img_path=f'{tmp_path}/vis/1.png', height=32, width=40, img='stale')
    out = LoadPairedImages(BY_FOLDER)(info)
    assert out['modalities'] == ('rgb', 'ir')
    assert out['img_paths'] == {m: f'{tmp_path}/{f}/1.png' for m, f in (
        ('rgb', 'vis'), ('ir', 'ir'))}  # fmt: skip
    assert out['absent'] == ()
    assert out['img_shape'] == out['ori_shape'] == (32, 40)
    assert out['img_path'] == f'{tmp_path}/vis/1.png'
    assert 'img' not in out
    for name, img in imgs.items():
        np.testing.assert_array_equal(out['imgs'][name], img)


def test_three_modalities_each_its_own_depth_channels_and_file_type(tmp_path):
    files = dict(
        rgb=(image(channels=3), 'rgb.png'),
        ir=(image(dtype=np.uint16, seed=1), 'ir.tiff'),
        depth=(image(dtype=np.uint16, seed=2), 'depth.png'),
        grey=(image(seed=3), 'grey.bmp'),
    )
    paths = {n: str(write_image(tmp_path / f, a)) for n, (a, f) in files.items()}
    load = LoadPairedImages(
        dict(
            rgb={},
            ir=dict(channels=1, bit_depth=16),
            depth=dict(channels=1, to_float32=True),
            grey=dict(channels=3),
        )
    )
    out = load(dict(img_paths=paths))
    kinds = {n: (i.dtype.name, i.shape) for n, i in out['imgs'].items()}
    assert kinds == dict(
        rgb=('uint8', (32, 40, 3)),
        ir=('uint16', (32, 40, 1)),
        depth=('float32', (32, 40, 1)),
        grey=('uint8', (32, 40, 3)),
    )
    for name, (array, _) in files.items():
        img = array if array.ndim == 3 else np.repeat(array[..., None], 3, 2)
        np.testing.assert_array_equal(
            out['imgs'][name], img[..., : out['imgs'][name].shape[2]]
        )


def test_two_cameras_in_one_file(tmp_path):
    planes = image(channels=4)
    path = str(write_image(tmp_path / '1.png', planes))
    rows = dict(rgb=dict(planes=(0, 3)), ir=dict(planes=(3, 4), channels=1))
    out = LoadPairedImages(rows)(dict(img_path=path))
    np.testing.assert_array_equal(out['imgs']['rgb'], planes[..., :3])
    np.testing.assert_array_equal(out['imgs']['ir'], planes[..., 3:])
    assert set(out['img_paths'].values()) == {path}


def test_planes_that_the_file_lacks_are_refused(tmp_path):
    path = str(write_image(tmp_path / '1.png', image(channels=3)))
    rows = dict(rgb={}, ir=dict(planes=(3, 4), channels=1))
    with pytest.raises(ImageReadError, match=r'1\.png holds 3 planes.*\(3, 4\)'):
        LoadPairedImages(rows)(dict(img_path=path))


@pytest.mark.parametrize('planes', [(0, 2), (3, 3), (-1, 0), (2,)])
def test_planes_are_one_or_three(planes):
    with pytest.raises(ValueError, match='planes must be a half-open range'):
        LoadThermalImage(planes=planes)


def test_paths_of_a_sample_win_over_rules(tmp_path):
    write_pair(tmp_path)
    other = str(write_image(tmp_path / 'odd.png', image(channels=3, seed=9)))
    info = dict(img_path=f'{tmp_path}/vis/1.png', img_paths=dict(ir=other))
    assert LoadPairedImages(BY_FOLDER).paths(info) == dict(
        rgb=f'{tmp_path}/vis/1.png', ir=other
    )


def test_no_rule_never_means_the_same_file_twice(tmp_path):
    write_pair(tmp_path)
    with pytest.raises(KeyError, match=r"no img_paths for \['ir'\].*rule"):
        LoadPairedImages()(dict(img_path=f'{tmp_path}/vis/1.png'))
    with pytest.raises(KeyError, match=r"no img_paths for \['rgb', 'ir'\]"):
        LoadPairedImages()(dict(seg_map_path='x'))


def test_the_dataset_says_the_reference(tmp_path):
    write_pair(tmp_path, size=(16, 20), ir_size=(32, 40))
    info = dict(
        img_paths=dict(rgb=f'{tmp_path}/vis/1.png', ir=f'{tmp_path}/ir/1.png'),
        reference='ir', height=32, width=40,
    )  # fmt: skip
    for given in (None, 'ir'):
        out = LoadPairedImages(reference=given, sizes='resize')(dict(info))
        assert out['img_shape'] == (32, 40)
        assert out['img_path'] == info['img_paths']['ir']
    wrong = LoadPairedImages(reference='rgb', sizes='resize', on_error='skip')
    with pytest.raises(
        ValueError, match=r"='rgb', but the dataset says .* labels .* belong to 'ir'"
    ):
        wrong(dict(info))
    # that camera is not loaded: the geometry is that of what is
    del info['height'], info['width']
    assert LoadPairedImages(dict(rgb={}))(dict(info))['img_shape'] == (16, 20)


def test_the_reference_owns_the_size_and_the_path(tmp_path):
    write_pair(tmp_path, (32, 40), (16, 20))
    info = dict(img_path=f'{tmp_path}/ir/1.png', height=16, width=20)
    rows = dict(rgb=dict(folder=('ir', 'vis')), ir={})
    out = LoadPairedImages(rows, reference='ir', sizes='resize')(info)
    assert {img.shape for img in out['imgs'].values()} == {(16, 20, 3)}
    assert out['img_shape'] == out['ori_shape'] == (16, 20)
    rgb = cv2.imread(f'{tmp_path}/vis/1.png')
    blocks = rgb.reshape(16, 2, 20, 2, 3).mean((1, 3))  # halving takes area means
    assert np.abs(out['imgs']['rgb'] - blocks).max() <= 0.51
    wrong = info | dict(height=32)
    with pytest.raises(ImageReadError, match=r'ir/1\.png is 20x16 .* says 20x32'):
        LoadPairedImages(rows, reference='ir', sizes='any')(wrong)


def test_sizes_resize_keeps_depth_and_channels(tmp_path):
    write_image(tmp_path / 'vis/1.png', image(32, 40, channels=3))
    write_image(tmp_path / 'ir/1.png', np.full((16, 20), 9000, np.uint16))
    rows = dict(rgb={}, ir=dict(folder=('vis', 'ir'), channels=1, bit_depth=16))
    out = LoadPairedImages(rows, sizes='resize')(dict(img_path=f'{tmp_path}/vis/1.png'))
    np.testing.assert_array_equal(
        out['imgs']['ir'], np.full((32, 40, 1), 9000, np.uint16)
    )


def test_other_sizes(tmp_path):
    write_pair(tmp_path, (32, 40), (16, 20))
    info = dict(img_path=f'{tmp_path}/vis/1.png')
    before = copy.deepcopy(info)
    message = r"rgb 40x32 \(.*vis/1\.png\), ir 20x16 \(.*ir/1\.png\).*sizes='resize'"
    with pytest.raises(PairError, match=message):
        LoadPairedImages(BY_FOLDER)(info)
    assert info == before
    out = LoadPairedImages(BY_FOLDER, sizes='any')(info)
    assert [i.shape[:2] for i in out['imgs'].values()] == [(32, 40), (16, 20)]
    assert out['img_shape'] == (32, 40)


def test_a_missing_partner(tmp_path):
    write_pair(tmp_path)
    (tmp_path / 'ir/1.png').unlink()
    info = dict(img_path=f'{tmp_path}/vis/1.png')
    with pytest.raises(ImageReadError, match=r'missing: .*ir/1\.png'):
        LoadPairedImages(BY_FOLDER)(dict(info))
    out = LoadPairedImages(BY_FOLDER, missing='absent')(dict(info))
    assert out['absent'] == ('ir',)
    assert out['imgs']['ir'].shape == (32, 40, 3)
    assert out['imgs']['ir'].max() == 0
    assert out['img_paths']['ir'] == f'{tmp_path}/ir/1.png'


def test_no_path_is_always_absent(tmp_path):
    write_pair(tmp_path)
    paths = dict(rgb=f'{tmp_path}/vis/1.png', ir=None)
    rows = dict(rgb={}, ir=dict(channels=1, bit_depth=16))
    out = LoadPairedImages(rows)(dict(img_paths=paths))
    assert out['absent'] == ('ir',)
    assert out['imgs']['ir'].dtype == np.uint16
    assert out['imgs']['ir'].shape == (32, 40, 1)


@pytest.mark.parametrize('sizes', ['equal', 'resize'])
def test_without_the_reference_the_labels_keep_their_size(tmp_path, sizes):
    write_pair(tmp_path, (32, 40), (16, 20))
    paths = dict(rgb=None, ir=f'{tmp_path}/ir/1.png')
    info = dict(img_paths=paths, height=32, width=40)
    load = LoadPairedImages(BY_FOLDER, sizes=sizes)
    if sizes == 'equal':
        with pytest.raises(PairError, match=r'rgb 40x32 .*, ir 20x16'):
            load(info)
        return
    out = load(info)
    assert {img.shape for img in out['imgs'].values()} == {(32, 40, 3)}
    assert out['ori_shape'] == (32, 40)
    assert out['absent'] == ('rgb',)
    assert out['img_path'] == paths['ir']


def test_nothing_left(tmp_path):
    load = LoadPairedImages(BY_FOLDER, missing='absent')
    with pytest.raises(ImageReadError, match=r'all images .* missing: .*vis/1\.png'):
        load(dict(img_path=f'{tmp_path}/vis/1.png'))


def broken_pairs(folder: Path) -> list[tuple[dict, str]]:
    """Return one sample per defect, and a word of the message."""
    write_pair(folder / 'small', (32, 40), (16, 20))
    write_pair(folder / 'lone')
    (folder / 'lone/ir/1.png').unlink()
    for name in ('cut', 'empty', 'text', 'deep'):
        write_pair(folder / name)
    cut = folder / 'cut/ir/1.png'
    cut.write_bytes(cut.read_bytes()[:-200])
    (folder / 'empty/ir/1.png').write_bytes(b'')
    (folder / 'text/ir/1.png').write_text('no image')
    write_image(folder / 'deep/ir/1.png', image(dtype=np.uint16))
    words = dict(
        small='differ in size', lone='missing', cut='truncated', empty='empty',
        text='not an image', deep='holds uint16, not uint8',
    )  # fmt: skip
    return [
        (dict(img_path=f'{folder}/{k}/vis/1.png'), word) for k, word in words.items()
    ]


def test_broken_pairs_are_named(tmp_path):
    load = LoadPairedImages(BY_FOLDER)
    for info, word in broken_pairs(tmp_path):
        name = info['img_path'].replace('vis', 'ir')
        with pytest.raises((ImageReadError, PairError)) as caught:
            load(info)
        assert word in str(caught.value)
        assert name in str(caught.value)


def test_broken_pairs_are_skipped_counted_and_named(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mmir.transforms.paired_loading.print_log',
        lambda text, **kwargs: lines.append((text, kwargs['level'])),
    )
    load = LoadPairedImages(BY_FOLDER, on_error='skip')
    pairs = broken_pairs(tmp_path)
    assert [load(info) for info, _ in pairs] == [None] * len(pairs)
    assert load.skipped == len(pairs)
    for k, (line, level) in enumerate(lines):
        assert level == logging.WARNING
        assert f'skipped sample {k + 1} of this worker' in line
        assert pairs[k][1] in line


class Pairs(BaseDataset):
    """Pairs by their folders."""

    def load_data_list(self):
        return [dict(img_path=f'{f}/vis/1.png') for f in self.data_root.split(';')]


def test_a_dataset_fetches_another_pair_for_a_skipped_one(tmp_path):
    write_pair(tmp_path / 'good')
    load = dict(type='LoadPairedImages', modalities=BY_FOLDER, on_error='skip')
    data = Pairs(data_root=f'{tmp_path}/none;{tmp_path}/good', pipeline=[load])
    np.random.seed(0)  # noqa: NPY002  mmengine draws the other sample from it
    assert data[0]['img_path'] == f'{tmp_path}/good/vis/1.png'


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(sizes='crop'), r"sizes must be one of \('equal', 'resize', 'any'\)"),
        (dict(missing='ignore'), 'missing must be one of'),
        (dict(on_error='warn'), 'on_error must be one of'),
        (dict(reference='nir'), "reference 'nir' is not one of the modalities"),
        (dict(modalities=dict(rgb=dict(channels=4))), 'channels must be one of'),
        (dict(modalities=dict(rgb=dict(bit_depth=14))), 'bit_depth must be one of'),
        (dict(modalities=dict(rgb=dict(suffix='png'))), 'must start with a dot'),
        (dict(modalities={}), 'at least one modality'),
    ],
)
def test_options_are_checked(kwargs, message):
    with pytest.raises(ValueError, match=message):
        LoadPairedImages(**kwargs)


def test_it_is_registered_and_shows_its_options():
    load = TRANSFORMS.build(dict(type='mmir.LoadPairedImages', modalities=BY_FOLDER))
    assert "folder=('vis', 'ir')" in repr(load)
    assert "sizes='equal'" in repr(load)


def test_real_pairs(real_data):
    root = real_data / 'street_pairs/val/thermal_8_bit'
    path = str(sorted(root.iterdir())[0])
    rows = dict(rgb={}, ir=dict(channels=1))
    partners = sorted((real_data / 'street_pairs/val/RGB').iterdir())
    paths = dict(rgb=str(partners[0]), ir=path)
    out = LoadPairedImages(rows, reference='ir')(dict(img_paths=paths))
    assert out['imgs']['rgb'].shape == (480, 640, 3)
    assert out['imgs']['ir'].shape == (480, 640, 1)
    np.testing.assert_array_equal(
        out['imgs']['ir'][..., 0], cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    )


def test_a_prefix_rule(tmp_path):
    for name, value in (('rgb_0001', 10), ('ir_0001', 200), ('rgb_0002', 20)):
        assert cv2.imwrite(
            str(tmp_path / f'{name}.png'), np.full((8, 9), value, np.uint8)
        )
    rule = dict(channels=1, prefix=('rgb_', 'ir_'))
    load = LoadPairedImages(modalities=dict(rgb={}, ir=rule))
    found = load({'img_path': str(tmp_path / 'rgb_0001.png')})
    assert {k: int(v.max()) for k, v in found['imgs'].items()} == {'rgb': 10, 'ir': 200}
    with pytest.raises(ImageReadError, match=r'ir_0002\.png'):
        load({'img_path': str(tmp_path / 'rgb_0002.png')})
