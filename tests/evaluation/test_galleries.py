"""Galleries of the trials, against published draws."""

import hashlib
import random

import numpy as np
import pytest
from sysu_counts import COUNTS, columns

from mmir.evaluation.galleries import draw_galleries, load_permutations
from mmir.utils.errors import UserError

AGW = ('46b3dc1a97', 'a4bbcc70ac', '09bbddbdb1', '5610ccd4da', '0d683ccada')


def pool():
    return columns((1, 2, 4, 5), COUNTS['test_ids'])


def test_galleries_of_agw_are_the_published_ones():
    ids, cams, names = pool()
    assert len(ids) == 6775
    order = np.random.default_rng(0).permutation(len(ids))  # files come in any order
    ids, cams, names = ([column[k] for k in order] for column in (ids, cams, names))
    galleries = draw_galleries('sysu_all_agw', ids, cams, names)
    assert [len(index) for index in galleries] == [301] * 10
    assert np.bincount([cams[k] for k in galleries[0]])[[1, 2, 4, 5]].tolist() == [
        56,
        56,
        94,
        95,
    ]
    for index, wanted in zip(galleries, AGW, strict=False):
        entries = sorted((ids[k], cams[k], int(names[k][:4])) for k in index)
        text = ';'.join(','.join(map(str, entry)) for entry in entries)
        assert hashlib.sha1(text.encode()).hexdigest()[:10] == wanted
    start = [(cams[k], ids[k], names[k]) for k in galleries[0][:5]]
    assert start == [
        (1, 6, '0025.jpg'), (2, 6, '0025.jpg'), (4, 6, '0014.jpg'),
        (5, 6, '0002.jpg'), (1, 10, '0017.jpg'),
    ]  # fmt: skip


def test_indoor_draws_are_their_own():
    ids, cams, names = pool()
    galleries = draw_galleries('sysu_indoor_agw', ids, cams, names)
    assert [len(index) for index in galleries] == [112] * 10
    assert {cams[k] for index in galleries for k in index} == {1, 2}
    everywhere = draw_galleries('sysu_all_agw', ids, cams, names)[0]
    same = set(galleries[0]) & set(everywhere)
    assert len(same) < 56


def test_the_global_random_state_is_left_alone():
    state = random.getstate()
    draw_galleries('sysu_all_agw', [1] * 9, [1] * 9, [f'{k}' for k in range(9)])
    assert random.getstate() == state


def test_python_draws_as_ever():
    generator = random.Random(0)
    sizes = (20, 21, 25, 29, 40, 20, 20, 20, 13, 42)
    drawn = [generator.choice(range(n)) for n in sizes]
    assert drawn == [12, 13, 1, 8, 32, 15, 12, 9, 7, 22]


def test_llcm_draws_one_image_per_identity_and_camera():
    ids, cams = np.repeat([7, 3], 12), np.tile(np.repeat([9, 1, 4], 4), 2)
    names = [f'{k % 4}.jpg' for k in range(24)]
    galleries = draw_galleries('llcm_rgb2ir', ids, cams, names)
    assert len(galleries) == 10
    for trial, index in enumerate(galleries):
        drawn = [(ids[k], cams[k]) for k in index]
        assert drawn == [(i, c) for i in (3, 7) for c in (1, 4, 9)]
        generator = random.Random(trial)
        wanted = [generator.choice('0123') for _ in range(6)]
        assert [names[k][0] for k in index] == wanted


def test_all_images_of_a_protocol_without_draws():
    [index] = draw_galleries('regdb_rgb2ir', [2, 1, 1], [2, 2, 2], ['b', 'a', 'c'])
    assert index.tolist() == [0, 1, 2]


@pytest.fixture
def official(tmp_path):
    """Write permutations of four identities, the third without images."""
    io = pytest.importorskip('scipy.io')
    rng = np.random.default_rng(0)
    wanted, cell = {}, np.empty((6, 1), object)
    for cam in range(1, 7):
        inner = np.empty((4, 1), object)
        for identity in range(1, 5):
            number = 0 if identity == 3 else 12
            orders = [rng.permutation(number) + 1 for _ in range(10)]
            inner[identity - 1, 0] = np.array(orders, np.uint8)
            if number:
                wanted[cam, identity] = np.array(orders)
        cell[cam - 1, 0] = inner
    path = tmp_path / 'rand_perm_cam.mat'
    io.savemat(path, {'rand_perm_cam': cell})
    return path, wanted


def test_official_galleries(official):
    path, wanted = official
    found = load_permutations(path)
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[key], wanted[key]) for key in wanted)
    entries = [(i, c, k) for i in (4, 1) for c in (5, 1, 2, 4) for k in range(1, 13)]
    ids, cams, numbers = zip(*entries, strict=True)
    names = [f'{k:04d}.jpg' for k in numbers]
    for shots, name in ((1, 'sysu_all_official'), (10, 'sysu_all_official_10shot')):
        galleries = draw_galleries(name, ids, cams, names, found)
        for trial, index in enumerate(galleries):
            assert [entries[k] for k in index] == [
                (i, c, number)
                for i in (1, 4)
                for c in (1, 2, 4, 5)
                for number in wanted[c, i][trial, :shots]
            ]


def test_what_is_wrong_is_said(official, tmp_path):
    found = load_permutations(official[0])
    files = ([1] * 11, [1] * 11, [f'{k:04d}' for k in range(11)])
    with pytest.raises(UserError, match=r'identity 1, camera 1 has 11 .* list 12'):
        draw_galleries('sysu_all_official', *files, found)
    with pytest.raises(UserError, match='load_permutations'):
        draw_galleries('sysu_all_official', *files)
    with pytest.raises(UserError, match='no image of the cameras'):
        draw_galleries('sysu_all_agw', [1], [3], ['a'])
    with pytest.raises(UserError, match='1 ids, 2 cams and 1 names'):
        draw_galleries('plain', [1], [1, 2], ['a'])
    with pytest.raises(UserError, match='not found'):
        load_permutations(tmp_path / 'none.mat')
    wrong = tmp_path / 'wrong.mat'
    wrong.write_text('x' * 200)
    with pytest.raises(UserError, match='not a MATLAB file'):
        load_permutations(wrong)
