"""Datasets of people read their layouts unmodified and feed mmpretrain's pipeline."""

import pytest
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, init_default_scope
from mmpretrain.structures import DataSample

from mmir.data.layouts.reid import REID_SETS
from mmir.data.layouts.seg import MissingFilesError
from mmir.reid import LLCM, SYSUMM01, PersonListDataset, RegDB
from mmir.testing.scenes.reid_layouts import write_reid_set

CLASSES = {'SYSUMM01': SYSUMM01, 'RegDB': RegDB, 'LLCM': LLCM}
META = ('sample_idx', 'img_path', 'pid', 'cam_id', 'modality')
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(16, 32), backend='pillow', interpolation='lanczos'),
    dict(type='PackInputs', meta_keys=META),
]


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp('people')
    for name in REID_SETS:
        write_reid_set(name, root / name, 4, 3, 2, size=(16, 32), progress=False)
    return root


@pytest.mark.parametrize('name', REID_SETS)
@pytest.mark.parametrize('split', ['train', 'test'])
def test_samples(made, name, split):
    root = str(made / name)
    data = CLASSES[name](root, split)
    images = REID_SETS[name].images(root, split)
    assert len(data) == len(images)
    assert len(data.metainfo['classes']) == {'train': 4, 'test': 3}[split]
    for k in (0, len(data) - 1):
        info = data.get_data_info(k)
        assert info['img_path'] == f'{root}/{images[k].path}'
        assert (info['pid'], info['cam_id'], info['modality']) == images[k][1:]
        assert data.metainfo['classes'][info['gt_label']] == str(info['pid'])
    assert set(data.get_gt_labels()) == set(range(len(data.metainfo['classes'])))


def test_a_sample_keeps_what_models_and_metrics_need(made):
    init_default_scope('mmpretrain')
    cfg = dict(type='mmir.SYSUMM01', data_root=str(made / 'SYSUMM01'), split='test')
    data = DATASETS.build(dict(cfg, pipeline=PIPELINE))
    packed = pseudo_collate([data[0], data[len(data) - 1]])
    assert [tuple(image.shape) for image in packed['inputs']] == [(3, 32, 16)] * 2
    first, last = packed['data_samples']
    assert isinstance(first, DataSample)
    assert (first.modality, last.modality) == ('rgb', 'ir')
    assert (first.cam_id, last.cam_id) == (1, 6)
    assert last.sample_idx == len(data) - 1
    assert last.to_dict()['pid'] == last.pid == 7


def test_trials_of_regdb(made):
    root = str(made / 'RegDB')
    first, second = (
        [RegDB(root, 'test', trial).get_data_info(k)['img_path'] for k in range(6)]
        for trial in (1, 2)
    )
    assert first != second


def test_trials_of_regdb_name_their_training_images(made):
    root = str(made / 'RegDB')
    names = [
        [RegDB(root, split, trial).metainfo['training_split'] for trial in (1, 2)]
        for split in ('train', 'test')
    ]
    assert names[0] == names[1]
    assert [name.split(' (')[0] for name in names[0]] == [
        'RegDB trial 1',
        'RegDB trial 2',
    ]
    digests = {name.split(' (')[1] for name in names[0]}
    assert len(digests) == 2
    assert 'training_split' not in SYSUMM01(str(made / 'SYSUMM01')).metainfo


def test_a_list_of_your_own(made):
    root = made / 'RegDB'
    (root / 'list.txt').write_text(
        'Visible/2/v_0.bmp 9 1 rgb\n'
        'Thermal/2/t_1.bmp 9 2 ir\n'
        'Visible/3/v_0.bmp 4 1 rgb\n'
    )
    data = PersonListDataset('list.txt', str(root))
    infos = [data.get_data_info(k) for k in range(3)]
    assert [info['gt_label'] for info in infos] == [1, 1, 0]
    assert [info['pid'] for info in infos] == [9, 9, 4]
    assert infos[1]['img_path'] == str(root / 'Thermal/2/t_1.bmp')
    assert data.metainfo['classes'] == ('4', '9')


def test_missing_data_is_explained(tmp_path):
    with pytest.raises(MissingFilesError, match='no LLCM data'):
        LLCM(str(tmp_path))
