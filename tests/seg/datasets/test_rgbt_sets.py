"""Every set on a fixture in its layout, through the paired pipeline."""

import numpy as np
import pytest
from mmengine.registry import DATASETS

import mmir.seg.datasets as sets
from mmir.data.layouts.seg import MissingFilesError
from mmir.testing.scenes import SEMANTIC, render_scene
from mmir.testing.scenes.seg_layouts import write_mfnet, write_pst900, write_seg_set
from mmir.transforms import LoadPairedImages

SIZE = (96, 64)
STREET = {'person': 2, 'bicycle': 3, 'car': 1, 'pavement': 4, 'clutter': 7}
# Numbers of the sets' own label files, written out here a second time.
STORED = {
    'MSRS': STREET,
    'MFNet': STREET,
    'PST900': {'person': 4, 'bicycle': 3, 'clutter': 2, 'pole': 1},
    'FMB': {
        'road': 1, 'pavement': 2, 'building': 3, 'vegetation': 6, 'sky': 7,
        'person': 8, 'car': 9, 'bicycle': 13, 'pole': 14,
    },
    'MVSeg': {
        'car': 1, 'bicycle': 4, 'person': 5, 'clutter': 11, 'pole': 12, 'sky': 18,
        'road': 19, 'pavement': 20, 'vegetation': 22, 'building': 24,
    },
    'SemanticRT': {
        'bicycle': 2, 'car': 6, 'clutter': 9, 'pole': 10, 'pavement': 11, 'person': 12,
    },
}  # fmt: skip
LOSSLESS = ('MSRS', 'MFNet', 'FMB')
COUNTS = {'MSRS': 9, 'MFNet': 9, 'PST900': 5, 'FMB': 14, 'MVSeg': 26, 'SemanticRT': 13}


def modalities_of(name):
    if name == 'MFNet':
        return dict(rgb=dict(planes=(0, 3)), ir=dict(planes=(3, 4), channels=1))
    return dict(rgb={}, ir=dict(channels=1))


def pipeline(name, *transforms):
    return [
        dict(type='mmir.LoadPairedImages', modalities=modalities_of(name)),
        dict(type='mmseg.LoadAnnotations'),
        *(dict(type='mmir.PairedTransform', transforms=t) for t in transforms),
        dict(type='mmir.PackPairedInputs', pack=dict(type='mmseg.PackSegInputs')),
    ]


def expected_label(name, scene):
    """Labels as the model sees them, from the scene alone."""
    semantic = scene.semantic('rgb')
    label = np.zeros_like(semantic)
    for kind, value in STORED[name].items():
        label[semantic == SEMANTIC.index(kind)] = value
    if name == 'MVSeg':
        dogs = semantic >= SEMANTIC.index('dog')  # and objects too small to be labeled
        label[dogs] = 255
    if name == 'FMB':
        label = np.where(label == 0, 255, label - 1)
    return label


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    """Folder of each set, written when it is asked for."""
    base, done = tmp_path_factory.mktemp('sets'), {}

    def root(name):
        if name not in done:
            options = dict(train=3, test=2, seed=5, size=SIZE, progress=False)
            done[name] = str(write_seg_set(name, base / name, **options))
        return done[name]

    return root


@pytest.mark.parametrize('name', STORED)
def test_labels_and_images_are_those_of_the_scene(roots, name):
    for part, (split, count) in enumerate((('train', 3), ('test', 2))):
        dataset = DATASETS.build(
            dict(
                type=f'mmir.{name}Dataset',
                data_root=roots(name),
                split=split,
                pipeline=pipeline(name),
            )
        )
        assert len(dataset) == count
        assert len(dataset.metainfo['classes']) == COUNTS[name]
        assert len(dataset.metainfo['palette']) == COUNTS[name]
        for k in range(count):
            scene = render_scene((5, part, k), SIZE, baseline=0.0)
            sample = dataset[k]
            inputs = sample['inputs'].numpy()
            assert inputs.shape == (4, 64, 96)
            label = sample['data_samples'].gt_sem_seg.data.numpy()[0]
            np.testing.assert_array_equal(label, expected_label(name, scene))
            assert sample['data_samples'].channels == (3, 1)
            if name in LOSSLESS:
                np.testing.assert_array_equal(inputs[:3], scene.rgb.transpose(2, 0, 1))
                np.testing.assert_array_equal(inputs[3], scene.thermal8)
            else:  # JPEG, or holes in the thermal picture
                off = abs(inputs[3].astype(int) - scene.thermal8)
                assert np.median(off) < 6


@pytest.mark.parametrize('name', STORED)
def test_crops_and_flips_keep_images_and_labels_together(roots, name):
    cls = getattr(sets, f'{name}Dataset')
    geometry = [
        dict(type='mmseg.RandomCrop', crop_size=(32, 48), cat_max_ratio=0.9),
        dict(type='mmseg.RandomFlip', prob=1.0),
    ]
    whole = cls(data_root=roots(name), pipeline=pipeline(name))[1]
    np.random.seed(3)  # noqa: NPY002 - the hosts draw from the global generator
    cut = cls(data_root=roots(name), pipeline=pipeline(name, geometry))[1]
    stacked = [
        np.concatenate([s['inputs'], s['data_samples'].gt_sem_seg.data])
        for s in (whole, cut)
    ]
    full, part = stacked[0], stacked[1][..., ::-1]
    assert part.shape == (5, 32, 48)
    windows = np.lib.stride_tricks.sliding_window_view(full, part.shape)[0]
    hits = (windows[:, :, :3] == part[:3]).all((2, 3, 4))  # where the RGB image fits
    assert hits.any()
    there = windows[tuple(np.argwhere(hits)[0])]
    np.testing.assert_array_equal(there, part)


@pytest.mark.parametrize('modality', ['rgb', 'ir'])
def test_one_modality_is_an_ordinary_sample(roots, modality):
    info = sets.MSRSDataset(data_root=roots('MSRS'), modality=modality)[0]
    assert 'img_paths' not in info
    assert info['img_path'].startswith(f'{roots("MSRS")}/train/')
    assert f'/{dict(rgb="vi", ir="ir")[modality]}/' in info['img_path']
    stock = [
        dict(type='LoadImageFromFile'),
        dict(type='mmseg.LoadAnnotations'),
        dict(type='mmseg.RandomCrop', crop_size=(32, 32)),
        dict(type='mmseg.PackSegInputs'),
    ]
    dataset = sets.MSRSDataset(
        data_root=roots('MSRS'), modality=modality, pipeline=stock
    )
    assert dataset[0]['inputs'].shape == (3, 32, 32)


def test_fewer_classes_by_the_label_map_of_the_host(roots):
    dataset = sets.MSRSDataset(
        data_root=roots('MSRS'),
        metainfo=dict(classes=('person', 'car')),
        pipeline=pipeline('MSRS'),
    )
    label = dataset[0]['data_samples'].gt_sem_seg.data.numpy()[0]
    full = expected_label('MSRS', render_scene((5, 0, 0), SIZE, baseline=0.0))
    wanted = np.full_like(full, 255)
    wanted[full == 2], wanted[full == 1] = 0, 1
    np.testing.assert_array_equal(label, wanted)
    assert dataset.metainfo['palette'] == [[64, 64, 0], [64, 0, 128]]


def test_mirrored_copies_of_mfnet(roots):
    root = roots('MFNet')
    plain = sets.MFNetDataset(data_root=root, pipeline=pipeline('MFNet'))
    both = sets.MFNetDataset(
        data_root=root, flip_copies=True, pipeline=pipeline('MFNet')
    )
    assert (len(plain), len(both)) == (3, 6)
    by_name = {both.get_data_info(k)['img_path']: both[k] for k in range(6)}
    for k in range(3):
        path = plain.get_data_info(k)['img_path']
        flipped = by_name[path.replace('.png', '_flip.png')]
        assert (flipped['inputs'] == plain[k]['inputs'].flip(-1)).all()


def test_day_and_night_lists(tmp_path):
    root = str(write_mfnet(tmp_path / 'm', train=0, test=6, size=SIZE, progress=False))
    parts = {}
    for split in ('test', 'test_day', 'test_night'):
        infos = sets.MFNetDataset(data_root=root, split=split)
        parts[split] = {info['img_path'] for info in infos}
    nights = [render_scene((0, 1, k), SIZE, baseline=0.0).night for k in range(6)]
    assert len(parts['test_night']) == sum(nights) > 0
    assert parts['test_day'] | parts['test_night'] == parts['test']
    assert not parts['test_day'] & parts['test_night']


def test_pst900_in_16_bits_and_with_depth(tmp_path):
    root = str(write_pst900(tmp_path / 'p', train=1, test=0, size=SIZE, progress=False))
    dataset = sets.PST900Dataset(
        data_root=root, bit_depth=16, modality=('rgb', 'ir', 'depth')
    )
    load = LoadPairedImages(
        modalities=dict(
            rgb={},
            ir=dict(bit_depth=16, channels=1),
            depth=dict(channels=1, to_float32=True),
        )
    )
    imgs = load(dataset.get_data_info(0))['imgs']
    scene = render_scene((0, 0, 0), SIZE, baseline=0.0)
    heat = imgs['ir'][..., 0]
    np.testing.assert_array_equal(heat[heat > 0], scene.thermal16[heat > 0])
    assert 0.02 < (heat == 0).mean() < 0.1
    thing = scene.objects[0]
    metres = np.unique(imgs['depth'][scene.mask(thing, 'rgb')])
    assert metres == pytest.approx([1000 * thing.depth], abs=1)
    with pytest.raises(ValueError, match='bit_depth must be 8 or 16'):
        sets.PST900Dataset(data_root=root, bit_depth=14)


def test_only_labelled_frames_of_a_video_are_used(roots):
    dataset = sets.MVSegDataset(data_root=roots('MVSeg'), split='test')
    assert [i['seg_map_path'].rsplit('/', 1)[1] for i in dataset] == [
        'frame0001l.png'
    ] * 2
    info = dataset.get_data_info(0)
    assert info['img_paths']['ir'].endswith('/infrared/frame0001i.jpg')
    assert info['img_path'].endswith('/visible/frame0001v.jpg')


@pytest.mark.parametrize('name', STORED)
def test_no_data(tmp_path, name):
    cls = getattr(sets, f'{name}Dataset')
    with pytest.raises(MissingFilesError) as error:
        cls(data_root=str(tmp_path / 'nowhere'), split='test')
    text = str(error.value)
    assert f'no {name} data (test) in {tmp_path}/nowhere' in text
    assert 'It does not exist. Expected:' in text
    assert 'github.com' in text or 'u-tokyo' in text
    with pytest.raises(ValueError, match=rf"{name}: split must be one of .*'val2'"):
        cls(data_root=str(tmp_path), split='val2')
