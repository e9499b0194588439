"""The general dataset: folders, rules, lists, and what is missing."""

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS

from mmir.data.layouts.seg import MissingFilesError
from mmir.seg.datasets import MSRSDataset, PairedSegDataset
from mmir.testing.scenes.seg_layouts import write_msrs
from mmir.utils.errors import AnnotationError

CLASSES = dict(classes=('background', 'leaf'), palette=[[0, 0, 0], [0, 255, 0]])
FOLDERS = dict(rgb='vis', ir='heat', seg_map_path='mask')


def write(root, names, folder, ending='.png'):
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(root / folder / f'{name}{ending}'), np.ones((4, 6), np.uint8))


@pytest.fixture
def root(tmp_path):
    write(tmp_path, 'cab', 'vis', '.jpg')
    write(tmp_path, 'abc', 'heat', '.png')
    write(tmp_path, 'abc', 'mask', '.png')
    return tmp_path


def build(root, **kwargs):
    options = dict(data_prefix=FOLDERS, metainfo=CLASSES) | kwargs
    return PairedSegDataset(data_root=str(root), **options)


def test_files_of_a_stem_belong_together(root):
    infos = list(build(root))
    assert len(infos) == 3
    for info, name in zip(infos, 'abc', strict=True):
        assert info['img_paths'] == {
            'rgb': f'{root}/vis/{name}.jpg',
            'ir': f'{root}/heat/{name}.png',
        }
        assert info['img_path'] == f'{root}/vis/{name}.jpg'
        assert info['seg_map_path'] == f'{root}/mask/{name}.png'
        assert (info['label_map'], info['reduce_zero_label']) == (None, False)
        assert info['seg_fields'] == []


def test_registered_with_the_scope():
    assert DATASETS.get('mmir.PairedSegDataset') is PairedSegDataset


def test_order_of_the_modalities_and_reference(root):
    info = build(root, modality=('ir', 'rgb'))[0]
    assert list(info['img_paths']) == ['ir', 'rgb']
    assert info['img_path'] == f'{root}/heat/a.png'
    assert info['reference'] == 'ir'
    assert 'reference' not in build(root, modality='ir')[0]


def test_list_gives_order_and_choice(root):
    (root / 'part.txt').write_text('c\n\na.jpg\n')
    infos = list(build(root, ann_file='part.txt'))
    assert [info['img_path'][-5:] for info in infos] == ['c.jpg', 'a.jpg']


@pytest.mark.parametrize(
    ('text', 'kind', 'message'),
    [
        ('a\nb\na\n', ValueError, 'part.txt lists names twice: a'),
        ('\n \n', ValueError, 'list of the split is empty: .*part.txt'),
        (None, MissingFilesError, 'PairedSegDataset: not found: .*part.txt'),
    ],
)
def test_bad_lists(root, text, kind, message):
    if text is not None:
        (root / 'part.txt').write_text(text)
    with pytest.raises(kind, match=message):
        build(root, ann_file='part.txt')


def test_rules(tmp_path):
    write(tmp_path, ['x_VIS', 'y_VIS'], 'all', '.jpg')
    write(tmp_path, ['x_IR', 'y_IR'], 'all', '.png')
    write(tmp_path, ['x_IR'], 'all', '.tiff')
    write(tmp_path, ['x_VIS', 'y_VIS'], 'mask')
    rules = dict(ir=dict(stem=('_VIS', '_IR'), suffix='.png'))
    folders = dict(rgb='all', ir='all', seg_map_path='mask')
    (tmp_path / 'l.txt').write_text('x_VIS\ny_VIS')
    options = dict(rules=rules, data_prefix=folders, ann_file='l.txt')
    infos = list(build(tmp_path, **options))
    assert [i['img_paths']['ir'][-8:] for i in infos] == ['x_IR.png', 'y_IR.png']
    options['rules'] = dict(ir=dict(stem=('_VIS', '_IR')))
    with pytest.raises(MissingFilesError, match=r'1 with more than one ir image.*: x'):
        build(tmp_path, **options)


@pytest.mark.parametrize(
    ('folder', 'said'),
    [('vis', 'no rgb image'), ('heat', 'no ir image'), ('mask', 'no label map')],
)
def test_whatever_is_missing_is_named(root, folder, said):
    for name in 'ac':
        next((root / folder).glob(f'{name}.*')).unlink()
    with pytest.raises(MissingFilesError) as error:
        build(root)
    text = str(error.value)
    assert 'PairedSegDataset is incomplete; of 3 samples' in text
    assert f'2 with {said} in {root}/{folder}: a, c' in text
    assert 'Copy the missing files again' in text


def test_missing_partners_may_be_absent(root, monkeypatch):
    (root / 'heat' / 'b.png').unlink()
    said = []
    monkeypatch.setattr(
        'mmir.seg.datasets.paired_seg.print_log', lambda text, **kw: said.append(text)
    )
    infos = list(build(root, missing='absent'))
    assert [info['img_paths']['ir'] is None for info in infos] == [False, True, False]
    assert said == ['PairedSegDataset: 1 samples without ir image']
    (root / 'mask' / 'b.png').unlink()
    with pytest.raises(MissingFilesError, match='1 with no label map'):
        build(root, missing='absent')


def test_one_modality_does_not_need_the_other(root):
    (root / 'heat' / 'b.png').unlink()
    assert len(build(root, modality='rgb')) == 3
    with pytest.raises(MissingFilesError, match='1 with no ir image'):
        build(root, modality='ir')


def test_two_files_of_one_stem(root):
    write(root, 'b', 'vis', '.png')
    with pytest.raises(MissingFilesError, match=r'1 with more than one rgb image.*: b'):
        build(root)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(missing='drop'), "missing must be 'raise' or 'absent', got 'drop'"),
        (dict(modality=()), "modality must be 'both', a name or distinct names"),
        (dict(modality=('rgb', 'rgb')), 'modality must be'),
        (dict(modality=('rgb', 'nir')), r"names no folder for \['nir'\], only for"),
    ],
)
def test_unknown_options(root, options, message):
    with pytest.raises(ValueError, match=message):
        build(root, **options)


def test_folders_that_are_not_there(tmp_path):
    with pytest.raises(
        MissingFilesError, match=r'not found: .*/vis, .*Check data_root'
    ):
        build(tmp_path)


def test_a_known_set_says_how_many_it_should_have(tmp_path, monkeypatch):
    root = write_msrs(tmp_path / 'm', train=2, test=0, size=(48, 32), progress=False)
    said = []
    monkeypatch.setattr(
        'mmir.seg.datasets.paired_seg.print_log', lambda text, **kw: said.append(text)
    )
    MSRSDataset(data_root=str(root))
    assert said == ['MSRS (train): 2 samples, officially 1083']
    next((root / 'train' / 'ir').iterdir()).unlink()
    with pytest.raises(MissingFilesError, match=r'MSRS \(train\) is incomplete; of 2'):
        MSRSDataset(data_root=str(root))
    with pytest.raises(MissingFilesError, match=r'It holds: synthetic_.*, train\. Exp'):
        MSRSDataset(data_root=str(root), split='test')


def test_a_prefix_rule_and_names_with_dots(tmp_path):
    write(tmp_path, ['rgb_0.1', 'rgb_2 b'], 'vis', '.jpg')
    write(tmp_path, ['ir_0.1', 'ir_2 b'], 'heat', '.PNG')
    write(tmp_path, ['rgb_0.1', 'rgb_2 b'], 'mask')
    (tmp_path / 'l.txt').write_bytes(b'\xef\xbb\xbfrgb_0.1\r\nrgb_2 b.jpg\r\n')
    rules = dict(ir=dict(prefix=('rgb_', 'ir_'), suffix='.png'))
    for ann_file in ('l.txt', ''):
        infos = list(build(tmp_path, rules=rules, ann_file=ann_file))
        names = [i['img_paths']['ir'].rpartition('/')[2] for i in infos]
        assert names == ['ir_0.1.PNG', 'ir_2 b.PNG']


def test_a_list_in_another_encoding_is_named(root):
    (root / 'part.txt').write_bytes('a\nb\n'.encode('utf-16'))
    with pytest.raises(ValueError, match=r'part\.txt:1: not UTF-8'):
        build(root, ann_file='part.txt')


def test_lists_name_files_below_the_data_only(root, tmp_path_factory):
    other = tmp_path_factory.mktemp('other')
    for folder, ending in (('vis', '.jpg'), ('heat', '.png'), ('mask', '.png')):
        write(other, 'z', folder, ending)
        (root / folder / 'link').symlink_to(other / folder)
    for name in (f'../../{other.name}/vis/z', f'{other}/mask/z'):
        (root / 'list.txt').write_text(f'a\n{name}\n')
        with pytest.raises(AnnotationError, match=rf'lead out of .*{name}'):
            len(build(root, ann_file='list.txt'))
    allowed = build(root, ann_file='list.txt', allow_outside=True, modality='ir')
    assert allowed[1]['seg_map_path'] == f'{other}/mask/z.png'
    (root / 'list.txt').write_text('a\nlink/z\n')
    linked = build(root, ann_file='list.txt')[1]
    assert linked['img_paths']['ir'] == f'{root}/heat/link/z.png'
