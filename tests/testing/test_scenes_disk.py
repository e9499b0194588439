"""Scenes on disk: layouts of real datasets, written all or nothing."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmir.testing.scenes import (
    disk,
    render_flight,
    render_scene,
    write_drones,
    write_flir,
)
from mmir.testing.scenes.__main__ import main

SIZE = (160, 128)


@pytest.fixture(scope='module')
def flir(tmp_path_factory):
    root = tmp_path_factory.mktemp('sets') / 'flir'
    return write_flir(root, train=4, val=2, seed=1, size=SIZE, progress=False)


def load(path):
    return json.loads(path.read_text())


def bytes_of(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob('*'))
        if path.is_file() and path.name != disk.MARKER
    }


def test_the_layout_is_that_of_flir(flir):
    assert sorted(path.name for path in flir.iterdir()) == [
        disk.MARKER, 'train', 'val',
    ]  # fmt: skip
    train = {str(p.relative_to(flir / 'train')) for p in (flir / 'train').rglob('*.*')}
    numbers = range(1, 5)
    assert train == {
        'thermal_annotations.json',
        'rgb_annotations.json',
        *(f'thermal_8_bit/FLIR_{k:05d}.jpeg' for k in numbers),
        *(f'thermal_16_bit/FLIR_{k:05d}.tiff' for k in numbers),
        *(f'RGB/FLIR_{k:05d}.jpg' for k in numbers),
    }


@pytest.mark.parametrize(('stem', 'folder'), [('thermal', 'thermal_8_bit'),
                                              ('rgb', 'RGB')])  # fmt: skip
def test_the_quirks_of_the_annotations(flir, stem, folder):
    numbers = []
    for split, count in (('train', 4), ('val', 2)):
        table = load(flir / split / f'{stem}_annotations.json')
        assert [row['id'] for row in table['images']] == list(range(count))
        for row in table['images']:
            assert row['file_name'].startswith(f'{folder}/FLIR_')
            image = cv2.imread(str(flir / split / row['file_name']))
            assert image.shape == (row['height'], row['width'], 3)
            assert isinstance(row['extra_info']['night'], bool)
            numbers.append(int(row['file_name'][-10:].split('.')[0].strip('_')))
        ids = [row['id'] for row in table['annotations']]
        assert ids == list(range(1, len(ids) + 1))
        names = {row['id']: row['name'] for row in table['categories']}
        assert sorted(names) == list(range(1, 81))
        assert [names[k] for k in (1, 2, 3, 17)] == ['person', 'bicycle', 'car', 'dog']
        for row in table['annotations']:
            x, y, w, h = row['bbox']
            assert row['area'] == w * h > 0
            assert 0 <= x <= x + w <= SIZE[0]
            assert 0 <= y <= y + h <= SIZE[1]
            assert names[row['category_id']] in ('person', 'bicycle', 'car', 'dog')
            assert row['image_id'] in range(count)
    assert numbers == list(range(1, 7))  # val runs on from train


def test_files_hold_what_was_rendered(flir):
    scene = render_scene((1, 0, 2), SIZE)
    raw = cv2.imread(
        str(flir / 'train/thermal_16_bit/FLIR_00003.tiff'), cv2.IMREAD_UNCHANGED
    )
    assert raw.dtype == np.uint16
    np.testing.assert_array_equal(raw, scene.thermal16)
    gray = cv2.imread(
        str(flir / 'train/thermal_8_bit/FLIR_00003.jpeg'), cv2.IMREAD_UNCHANGED
    )
    assert gray.ndim == 2
    assert np.abs(gray.astype(int) - scene.thermal8).mean() < 4
    color = cv2.imread(str(flir / 'train/RGB/FLIR_00003.jpg'))
    assert np.abs(color.astype(int) - scene.rgb).mean() < 8
    rows = load(flir / 'train/thermal_annotations.json')['annotations']
    boxes = [tuple(row['bbox']) for row in rows if row['image_id'] == 2]
    assert boxes == [t.box_ir for t in scene.objects if t.visible_ir]


def test_scenes_do_not_depend_on_their_number(flir, tmp_path):
    fewer = write_flir(tmp_path / 'few', 2, 1, seed=1, size=SIZE, progress=False)
    known, found = bytes_of(flir), bytes_of(fewer)
    for name in found:
        if name.startswith('train/') and not name.endswith('json'):
            assert found[name] == known[name]
    name = 'val/thermal_8_bit/FLIR_{:05d}.jpeg'
    assert found[name.format(3)] == known[name.format(5)]
    other = write_flir(tmp_path / 'other', 1, 0, seed=2, size=SIZE, progress=False)
    name = 'train/RGB/FLIR_00001.jpg'
    assert bytes_of(other)[name] != found[name]


def test_the_same_call_keeps_the_folder(flir):
    before = (flir / 'train/RGB/FLIR_00001.jpg').stat().st_mtime_ns
    write_flir(flir, train=4, val=2, seed=1, size=SIZE, progress=False)
    assert (flir / 'train/RGB/FLIR_00001.jpg').stat().st_mtime_ns == before


def test_a_folder_of_other_scenes_is_refused(flir):
    with pytest.raises(FileExistsError, match=r'other parameters \(train\)'):
        write_flir(flir, train=5, val=2, seed=1, size=SIZE, progress=False)


def test_a_folder_of_somebody_else_is_refused_untouched(tmp_path):
    (tmp_path / 'mine.txt').write_text('precious')
    with pytest.raises(FileExistsError, match='not written by mmir'):
        write_flir(tmp_path, 1, 1, size=SIZE, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']


def test_missing_files_are_noticed(tmp_path):
    root = write_flir(tmp_path / 'set', 1, 1, size=SIZE, progress=False)
    (root / 'val/RGB/FLIR_00002.jpg').unlink()
    with pytest.raises(FileExistsError, match='missing'):
        write_flir(root, 1, 1, size=SIZE, progress=False)


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def render(seed, size, night, **options):
        if seed[2] == 1:
            raise KeyboardInterrupt
        return render_scene(seed, size, night, **options)

    monkeypatch.setattr(disk, 'render_scene', render)
    with pytest.raises(KeyboardInterrupt):
        write_flir(tmp_path / 'set', 3, 1, size=SIZE, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_set_written_by_another_process_meanwhile_is_kept(tmp_path, monkeypatch):
    root = tmp_path / 'set'

    def render(seed, size, night, **options):
        if not root.exists():
            monkeypatch.setattr(disk, 'render_scene', render_scene)
            write_flir(root, 1, 0, size=SIZE, progress=False)
        return render_scene(seed, size, night, **options)

    monkeypatch.setattr(disk, 'render_scene', render)
    assert write_flir(root, 1, 0, size=SIZE, progress=False) == root
    assert [path.name for path in tmp_path.iterdir()] == ['set']


def test_an_image_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(disk.cv2, 'imwrite', lambda *_: False)
    with pytest.raises(OSError, match='FLIR_00001'):
        write_flir(tmp_path / 'set', 1, 0, size=SIZE, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_without_sixteen_bits(tmp_path):
    root = write_flir(
        tmp_path / 'set', 1, 0, size=SIZE, sixteen_bit=False, progress=False
    )
    assert not (root / 'train/thermal_16_bit').exists()


@pytest.mark.parametrize('modality', ['rgb', 'ir'])
def test_flying_targets_as_coco(tmp_path, modality):
    root = write_drones(tmp_path / 'set', modality, 5, 3, seed=4, progress=False)
    names, ids = [], []
    for split, count in (('train', 5), ('test', 3)):
        table = load(root / f'{split}.json')
        assert [row['name'] for row in table['categories']] == [
            'airplane', 'bird', 'drone', 'helicopter',
        ]  # fmt: skip
        assert len(table['images']) == count
        images = {row['id']: row for row in table['images']}
        for row in table['annotations']:
            x, y, w, h = row['bbox']
            image = images[row['image_id']]
            assert 0 <= x < x + w <= image['width']
            assert 0 <= y < y + h <= image['height']
            assert row['area'] == w * h
        names += [row['file_name'] for row in images.values()]
        ids += list(images)
    assert len(set(ids)) == 8
    assert {path.name for path in (root / 'images').iterdir()} == set(names)
    assert all(name.startswith('V_' if modality == 'rgb' else 'IR_') for name in names)
    first = render_flight((4, 2 if modality == 'rgb' else 4, 0), modality)
    table = load(root / 'train.json')
    boxes = [row['bbox'] for row in table['annotations'] if row['image_id'] == 1]
    assert boxes == first.boxes.tolist()


def test_an_unknown_modality_is_named(tmp_path):
    with pytest.raises(ValueError, match="not 'thermal'"):
        write_drones(tmp_path / 'set', 'thermal', 1, 1)
    assert list(tmp_path.iterdir()) == []


def test_the_command_line(tmp_path, capsys):
    out = tmp_path / 'set'
    size = ['--size', '160', '128']
    main([str(out), '--train', '1', '--val', '1', *size])
    assert '1 + 1 synthetic scenes' in capsys.readouterr().out
    assert (out / 'val/thermal_annotations.json').is_file()
    with pytest.raises(SystemExit) as stop:
        main([str(out), '--train', '2', '--val', '1', *size])
    assert stop.value.code == 1
    assert 'other parameters' in capsys.readouterr().err
    main([str(tmp_path / 'ir'), '--train', '1', '--val', '0', '--drones', 'ir'])
    assert (tmp_path / 'ir/train.json').is_file()


def test_the_layout_of_the_real_pairs(real_data, flir):
    """Same keys as a real copy, so that one dataset class reads both."""
    for stem in ('thermal', 'rgb'):
        real = load(real_data / f'street_pairs/train/{stem}_annotations.json')
        ours = load(flir / f'train/{stem}_annotations.json')
        assert set(ours) == set(real)
        for key in ('images', 'annotations', 'categories'):
            assert set(ours[key][0]) >= set(real[key][0])
        ids = {row['name']: row['id'] for row in ours['categories']}
        for row in real['categories']:
            assert ids[row['name']] == row['id']


def test_another_process_renders_the_same_bytes():
    """Nothing depends on hashing of strings, threads or the order of sets."""
    code = (
        'import hashlib; from mmir.testing.scenes import render_scene;'
        's = render_scene((9, 1), (96, 80));'
        'b = s.rgb.tobytes() + s.thermal8.tobytes() + s.thermal16.tobytes();'
        'print(hashlib.sha256(b).hexdigest())'
    )
    there = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, 'PYTHONHASHSEED': '7'},
        cwd=Path(__file__).parents[2],
    ).stdout.split()[-1]
    scene = render_scene((9, 1), (96, 80))
    here = hashlib.sha256()
    for image in (scene.rgb, scene.thermal8, scene.thermal16):
        here.update(image.tobytes())
    assert there == here.hexdigest()
