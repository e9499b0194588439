"""Synthetic people: the same from a seed, alike across cameras, gray in infrared."""

import numpy as np
import pytest

from mmir.testing.scenes.__main__ import main as command
from mmir.testing.scenes.people import PersonLook, Place, render_person
from mmir.testing.scenes.reid_layouts import write_sysu_mm01


@pytest.fixture(scope='module')
def places():
    return {cam: Place.of(cam, cam, 0) for cam in (1, 4, 6)}


def test_equal_arguments_give_equal_bytes(places):
    for modality, shape in (('rgb', (96, 48, 3)), ('ir', (96, 48))):
        one, two, other = (
            render_person((seed, 1), 3, places[1], modality, (48, 96))
            for seed in (0, 0, 1)
        )
        assert one.shape == shape
        assert one.dtype == np.uint8
        assert np.array_equal(one, two)
        assert not np.array_equal(one, other)


def trunk_color(identity, place, seed):
    image = render_person((seed, identity), identity, place, 'rgb')
    return image[36:60, 26:38].reshape(-1, 3).mean(0)


def test_clothes_tell_people_apart_across_cameras(places):
    """The color of the trunk finds the identity in another camera far above chance."""
    people = range(40)
    query = np.array([trunk_color(i, places[1], 0) for i in people])
    gallery = np.array([trunk_color(i, places[4], 1) for i in people])
    query, gallery = (v / v.sum(1, keepdims=True) for v in (query, gallery))
    nearest = ((query[:, None] - gallery) ** 2).sum(-1).argmin(1)
    assert (nearest == np.arange(40)).mean() > 0.25  # chance: 0.025


def test_infrared_does_not_see_colors(monkeypatch, places):
    before = render_person((0, 1), 5, places[6], 'ir')
    visible = render_person((0, 1), 5, places[6], 'rgb')
    original = PersonLook.__init__

    def recolored(self, identity):
        original(self, identity)
        self.top = self.bottom = self.bag = (0.9, 0.1, 0.5)

    monkeypatch.setattr(PersonLook, '__init__', recolored)
    assert np.array_equal(render_person((0, 1), 5, places[6], 'ir'), before)
    assert not np.array_equal(render_person((0, 1), 5, places[6], 'rgb'), visible)


def test_people_are_warmer_than_the_background(places):
    for identity in range(8):
        image = render_person((2, identity), identity, places[6], 'ir').astype(float)
        person, corner = image[30:70, 28:36].mean(), image[:30, :10].mean()
        assert person > corner + 20


def test_identities_differ_in_what_infrared_sees():
    looks = [PersonLook(k) for k in range(60)]
    kinds = {(p.legs, p.hat, p.short_sleeves, p.carries, p.long_hair) for p in looks}
    assert len(kinds) > 20


def test_every_image_has_a_seed_of_its_own(tmp_path):
    root = write_sysu_mm01(tmp_path / 'a', 1, 1, 3, size=(16, 32), progress=False)
    contents = [path.read_bytes() for path in root.rglob('*.jpg')]
    assert len(contents) == 2 * 6 * 3
    assert len(set(contents)) == len(contents)
    again = write_sysu_mm01(tmp_path / 'b', 1, 1, 3, size=(16, 32), progress=False)
    name = 'cam3/0002/0002.jpg'
    assert (root / name).read_bytes() == (again / name).read_bytes()


def test_the_command_writes_people(tmp_path, capsys):
    options = ['--people', 'RegDB', '--train', '2', '--val', '1', '--size', '16', '32']
    command([str(tmp_path / 'out'), *options])
    assert '2 + 1 synthetic identities' in capsys.readouterr().out
    assert len(list((tmp_path / 'out').rglob('*.bmp'))) == 3 * 2 * 4
