"""The check names every fault by its file."""

import importlib.util
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmir.data.check import DAMAGED, UNLEARNABLE
from mmir.data.layouts.seg import MissingFilesError
from mmir.data.layouts.seg_check import check_seg
from mmir.data.layouts.seg_sets import SEG_SETS
from mmir.testing.scenes.seg_layouts import write_seg_set
from mmir.utils.errors import AnnotationError

TOOLS = Path(__file__).parents[3] / 'tools' / 'dataset_converters'
SIZE = (48, 32)


def write(folder, name, **kwargs):
    options = dict(train=3, test=1, size=SIZE, progress=False) | kwargs
    return write_seg_set(name, folder / name, **options)


def problems(layout, root, split='train', **kwargs):
    report = check_seg(SEG_SETS[layout], root, split, **kwargs)
    return sorted((p.kind, p.name, p.detail) for p in report.problems)


@pytest.mark.parametrize('name', SEG_SETS)
def test_fixtures_are_sound(tmp_path, name):
    layout = SEG_SETS[name]
    root = write(tmp_path, name)
    for split in ('train', 'test'):
        if split not in layout.splits:
            continue
        report = check_seg(layout, root, split)
        assert report.ok, report.text()
        assert report.samples == (3 if split == 'train' else 1)
        pixels = report.samples * SIZE[0] * SIZE[1]
        assert 0 < sum(report.labels.values()) <= pixels
        planes = 4 if name == 'MFNet' else 3
        assert any(
            line.startswith('rgb: ') and f'{planes} planes' in line
            for line in report.details
        )
        official = layout.splits[split].count
        said = [n for n in report.notes if f'officially {official}' in n]
        assert len(said) == (official is not None)


def test_pixels_by_class_are_counted(tmp_path):
    root = write(tmp_path, 'FMB')
    maps = [cv2.imread(str(p), -1) for p in (root / 'train' / 'Label').iterdir()]
    counts = np.bincount(np.stack(maps).ravel(), minlength=15)[1:]
    report = check_seg(SEG_SETS['FMB'], root, 'train')
    assert list(report.labels.values()) == counts.tolist()
    share = counts[0] / counts.sum()
    assert f'road {share:.2%}' in report.text()


def test_damaged_jpegs_are_named(tmp_path):
    root = write(tmp_path, 'MSRS', size=(128, 96))
    png = sorted((root / 'train/ir').iterdir())[1]
    jpeg = png.with_suffix('.jpg')
    noise = np.random.default_rng(0).integers(0, 256, (96, 128), np.uint8)
    cv2.imwrite(str(jpeg), cv2.GaussianBlur(noise, (0, 0), 2))
    png.unlink()
    assert problems('MSRS', root) == []
    data = bytearray(jpeg.read_bytes())
    place = data.index(b'\xff\xda') + 200
    del data[place : place + 40]
    jpeg.write_bytes(data)
    ((kind, name, detail),) = problems('MSRS', root)
    assert (kind, name) == (DAMAGED, f'train/ir/{jpeg.name}')
    assert 'Corrupt JPEG data' in detail


def test_every_fault_of_files_is_named(tmp_path):
    root = write(tmp_path, 'MSRS', train=8)
    vi, ir, seg = (
        sorted((root / 'train' / f).iterdir())
        for f in ('vi', 'ir', 'Segmentation_labels')
    )
    vi[0].unlink()
    ir[1].unlink()
    seg[2].unlink()
    ir[3].write_bytes(ir[3].read_bytes()[:60])
    cv2.imwrite(str(ir[4]), np.zeros((30, 40), np.uint8))
    cv2.imwrite(str(seg[5]), np.zeros((31, 48), np.uint8))
    seg[6].write_bytes(b'no image')
    cv2.imwrite(str(vi[7].with_suffix('.jpg')), np.zeros((32, 48, 3), np.uint8))
    found = problems('MSRS', root)
    assert [(kind, name) for kind, name, _ in found] == [
        ('image cannot be read', f'train/ir/{ir[3].name}'),
        ('ir image is missing', ir[1].stem),
        ('label map cannot be read', f'train/Segmentation_labels/{seg[6].name}'),
        ('label map is missing', seg[2].stem),
        ('rgb image exists more than once', vi[7].stem),
        ('rgb image is missing', vi[0].stem),
        ('sizes differ', ir[4].stem),
        ('sizes differ', seg[5].stem),
    ]
    assert found[6][2] == 'rgb 48x32, ir 40x30, label map 48x32'
    assert found[7][2] == 'rgb 48x32, ir 48x32, label map 48x31'
    with pytest.raises(AnnotationError, match='sizes differ: 2'):
        check_seg(SEG_SETS['MSRS'], root, 'train').raise_on_problems()


def test_labels_that_mmseg_would_misread(tmp_path):
    root = write(tmp_path, 'MSRS', train=5)
    files = sorted((root / 'train' / 'Segmentation_labels').iterdir())
    label = cv2.imread(str(files[0]), -1)
    label[:2, :3], label[3] = 9, 255
    cv2.imwrite(str(files[0]), label)
    cv2.imwrite(str(files[1]), cv2.merge([label * 0, label * 0, label]))
    cv2.imwrite(str(files[4]), cv2.merge([label * 0] * 3))
    deep = label.astype(np.uint16)
    deep[label == 9] = 300
    cv2.imwrite(str(files[2]), deep)
    picture = Image.fromarray(label * 0 + 3, 'P')
    picture.putpalette(list(range(256)) * 3)
    picture.save(files[3])
    assert [(k, n.rsplit('/', 1)[1], d) for k, n, d in problems('MSRS', root)] == [
        ('label map in color', files[1].name,
         f'3 planes, {len(np.unique(label))} colors: store the index of the class in '
         'place of its color'),
        ('label map in color', files[4].name,
         '3 equal planes: store one of them'),
        ('label map of more than 8 bits', files[2].name,
         'uint16: mmseg would keep only the lowest 8 bits, 300 becomes 44; store class '
         'indices of 0 to 255'),
        ('label outside the classes', files[0].name, '9 in 6 pixels; of 9'),
    ]  # fmt: skip
    report = check_seg(SEG_SETS['MSRS'], root, 'train')
    assert any(n.startswith('1 label maps have a palette') for n in report.notes)
    assert report.labels['bike'] >= label.size  # the indices, not the colors


def test_16_bits_that_hold_classes_are_sound(tmp_path):
    root = write(tmp_path, 'MSRS', train=2)
    before = check_seg(SEG_SETS['MSRS'], root, 'train')
    for path in (root / 'train' / 'Segmentation_labels').iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path), -1).astype(np.uint16))
    after = check_seg(SEG_SETS['MSRS'], root, 'train')
    assert after.ok
    assert after.labels == before.labels


@pytest.mark.parametrize(('name', 'high', 'said'), [
    ('MSRS', 255, 'pixels are 255 and all others 0'),
    ('MSRS', 0, ''),  # all of the first class
    ('FMB', 255, 'pixels are ignored'),
    ('FMB', 0, 'pixels are ignored'),
])  # fmt: skip
def test_maps_that_hold_nothing_to_learn(tmp_path, name, high, said):
    root = write(tmp_path, name, train=3)
    folder = {'MSRS': 'Segmentation_labels', 'FMB': 'Label'}[name]
    files = sorted((root / 'train' / folder).iterdir())
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[:9] = high
    for path in files:
        cv2.imwrite(str(path), mask)
    found = problems(name, root)
    assert [kind for kind, *_ in found] == [UNLEARNABLE] * bool(said)
    assert all(said in detail for *_, detail in found)
    mask[20] = 1  # of one map
    cv2.imwrite(str(files[0]), mask)
    assert problems(name, root) == []


def test_values_of_a_set_that_leaves_zero_out(tmp_path):
    root = write(tmp_path, 'FMB')
    path = next((root / 'train' / 'Label').iterdir())
    label = cv2.imread(str(path), -1)
    label[0, :2] = 14, 15
    cv2.imwrite(str(path), label)
    ((kind, _, detail),) = problems('FMB', root)
    assert (kind, detail) == ('label outside the classes', '15 in 1 pixels; of 15')


def test_planes_of_mfnet_and_what_its_list_names(tmp_path):
    root = write(tmp_path, 'MFNet')
    names = (root / 'train.txt').read_text().split()
    assert len(names) == 6
    path = root / 'images' / f'{names[0]}.png'
    cv2.imwrite(str(path), cv2.imread(str(path)))
    (root / 'labels' / f'{names[2]}.png').unlink()
    assert problems('MFNet', root) == [
        ('image lacks planes', f'images/{names[0]}.png', '3 planes, expected 4'),
        ('label map is missing', names[2], 'labels'),
    ]
    report = check_seg(SEG_SETS['MFNet'], root, 'train')
    assert '3 mirrored copies (*_flip) in the list are left out' in report.notes


def test_videos_and_masks(tmp_path):
    root = write(tmp_path, 'MVSeg')
    video = (root / 'train.txt').read_text().split()[1]
    (root / 'data' / video / 'infrared' / 'frame0001i.jpg').unlink()
    (root / 'data' / video / 'infrared' / 'frame0002i.jpg').unlink()  # not labeled
    assert problems('MVSeg', root) == [
        ('ir image is missing', f'{video}/label/frame0001l', 'data')
    ]
    (root / 'data' / video / 'label' / 'frame0001l.png').unlink()
    kinds = [kind for kind, *_ in problems('MVSeg', root)]
    assert 'label map is missing' in kinds

    root = write(tmp_path, 'VT5000')
    path = next((root / 'Train' / 'GT').iterdir())
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[:4] = 1
    cv2.imwrite(str(path), mask)
    ((kind, _, detail),) = problems('VT5000', root)
    assert (kind, detail[:14]) == ('mask is not 0 to 255', 'values 0 and 1')
    # read as LoadSaliencyMask does: 1 bit and palettes have the values shown
    shown = Image.fromarray(mask * 200, 'P')
    shown.putpalette([k for gray in range(256) for k in (255 - gray,) * 3])
    for picture in (Image.fromarray(mask > 0), shown):
        picture.save(path)
        report = check_seg(SEG_SETS['VT5000'], root, 'train')
        assert report.ok
        assert any(n.startswith('1 masks are not 8-bit gray') for n in report.notes)
    mask[:4] = 100
    cv2.imwrite(str(path), mask)
    report = check_seg(SEG_SETS['VT5000'], root, 'train')
    assert any('gray (16 to 239)' in note for note in report.notes)


def test_nothing_there(tmp_path):
    with pytest.raises(
        MissingFilesError, match=r'(?s)no PST900 data \(test\).*not exist'
    ):
        check_seg(SEG_SETS['PST900'], tmp_path / 'x', 'test')
    (tmp_path / 'test' / 'rgb').mkdir(parents=True)
    with pytest.raises(MissingFilesError, match='It holds: test'):
        check_seg(SEG_SETS['PST900'], tmp_path, 'test')


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    spec = importlib.util.spec_from_file_location(
        'check_pairs_seg', TOOLS / 'check_pairs_seg.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop('_common', None)


def test_the_tool(tmp_path, tool, capsys):
    root = write(tmp_path, 'MSRS')
    assert tool.main(['MSRS', str(root), '--check']) == 0
    out = capsys.readouterr().out
    assert out.count('no problems') == 2
    assert 'note: 3 pairs, officially 1083: results are not comparable' in out
    gone = next((root / 'test' / 'ir').iterdir())
    gone.unlink()
    assert tool.main(['MSRS', str(root), '--split', 'test']) == 1
    assert f'{gone.stem}: ir image is missing (test/ir)' in capsys.readouterr().out
    assert tool.main(['PST900', str(tmp_path / 'x'), '--check']) == 1
    assert 'error: no PST900 data (train)' in capsys.readouterr().err
