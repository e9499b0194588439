"""JPEG files that decode, but to wrong pixels."""

import sys

import cv2
import numpy as np
import pytest
from coco_files import image

from mmir.data import jpeg_damage
from mmir.data.images import read_image
from mmir.data.jpeg_damage import damaged_jpegs


def write_jpegs(folder, number=6):
    """Write sound JPEG files, and one file that is none."""
    paths = []
    for k in range(number):
        pixels = cv2.GaussianBlur(image(96, 128, seed=k), (0, 0), 2)
        path = folder / f'{k} ä.jpg'
        path.write_bytes(cv2.imencode('.jpg', pixels)[1].tobytes())
        paths.append(str(path))
    other = folder / 'other.png'
    other.write_bytes(cv2.imencode('.png', image())[1].tobytes())
    return [*paths, str(other)]


def damage(path, how='hole', rng=None):
    """Damage the pixel data of a file; return the share of pixels that changed."""
    rng = rng or np.random.default_rng(0)
    before = read_image(path)
    data = bytearray(open(path, 'rb').read())  # noqa: SIM115
    first, last = data.index(b'\xff\xda') + 14, len(data) - 80
    place = int(rng.integers(first, (first + last) // 2))
    if how == 'hole':
        del data[place : place + 40]
    elif how == 'zeros':
        data[place : place + 40] = bytes(40)
    else:
        for one in rng.integers(place, last, 12):
            data[one] ^= 1 << int(rng.integers(8))
    with open(path, 'wb') as file:
        file.write(data)
    after = read_image(path)  # decodes all the same
    return (np.abs(after.astype(int) - before) > 8).mean()


def test_damaged_files_are_named_and_sound_ones_are_not(tmp_path):
    paths = write_jpegs(tmp_path)
    assert damaged_jpegs(paths) == {}
    hurt = {paths[1], paths[4]}
    assert all(damage(path) > 0.1 for path in hurt)
    found = damaged_jpegs(paths, workers=2)
    assert found.keys() == hurt
    assert all('Corrupt JPEG data' in text for text in found.values())


def test_absent_files_and_no_files(tmp_path):
    assert damaged_jpegs([]) == {}
    assert damaged_jpegs([str(tmp_path / 'absent.jpg'), str(tmp_path)]) == {}


def test_zeros_before_the_end_are_no_damage(tmp_path):
    """Some cameras fill the last block with zeros; the pixels are the same."""
    path = write_jpegs(tmp_path, 1)[0]
    before, data = read_image(path), open(path, 'rb').read()  # noqa: SIM115
    for padding, hurt in ((bytes(5), False), (b'\x12\x34\x56\x78\x9a', True)):
        with open(path, 'wb') as file:
            file.write(data[:-2] + padding + data[-2:])
        np.testing.assert_array_equal(read_image(path), before)
        assert (path in damaged_jpegs([path])) == hurt


def test_file_that_crashes_the_decoder_is_named_and_the_rest_checked(
    tmp_path, monkeypatch
):
    paths = write_jpegs(tmp_path)
    damage(paths[5])
    child = jpeg_damage._CHILD.replace(
        '    try:', "    if b'2 ' in path: os._exit(9)\n    try:", 1
    )
    monkeypatch.setattr(jpeg_damage, '_CHILD', child)
    found = damaged_jpegs(paths, workers=1)
    assert found.keys() == {paths[2], paths[5]}
    assert found[paths[2]] == 'the decoder crashed'


def test_a_child_that_does_not_start_is_said(tmp_path, monkeypatch):
    paths = write_jpegs(tmp_path)
    monkeypatch.setattr(jpeg_damage, '_CHILD', 'import no_such_module')
    with pytest.raises(RuntimeError, match='no_such_module'):
        damaged_jpegs(paths)


def test_real_files(real_data, tmp_path, capfd):
    """No false alarm; most damage that changes more than 1 % of the pixels is found."""
    sound = sorted(map(str, real_data.rglob('*.jp*g')))[::20]
    assert len(sound) > 100
    assert damaged_jpegs(sound) == {}
    rng, hurt = np.random.default_rng(0), []
    for k, source in enumerate(sound[:100]):
        path = tmp_path / f'{k}.jpg'
        path.write_bytes(open(source, 'rb').read())  # noqa: SIM115
        if damage(str(path), ('hole', 'zeros', 'flips')[k % 3], rng) > 0.01:
            hurt.append(str(path))
    assert len(hurt) > 80
    assert len(damaged_jpegs(hurt)) >= 0.9 * len(hurt)
    sys.stderr.flush()
    capfd.readouterr()  # libjpeg's own lines, of damage()
