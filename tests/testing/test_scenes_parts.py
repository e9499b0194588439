"""Shapes, people, bicycles, cars and streets before rendering."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmir.testing.scenes.actors import Look, bicycle, cloth_color, dog, person
from mmir.testing.scenes.cars import KINDS, Car
from mmir.testing.scenes.parts import (
    NEAR,
    Camera,
    blob,
    box,
    disc,
    limb,
    lying,
    ring,
    upright,
)
from mmir.testing.scenes.street import CODE, FAR, STUFF, build_street
from mmir.testing.scenes.weather import Weather

seeds = st.integers(0, 10_000)
angles = st.floats(-np.pi, np.pi)


def area(polygon):
    """Shoelace formula."""
    x, y = np.asarray(polygon).T
    return 0.5 * abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())


def weather_of(seed, night=False):
    return Weather.draw(np.random.default_rng(seed), night)


def all_points(parts):
    return np.concatenate([part.points.reshape(-1, 3) for part in parts])


@given(st.floats(0.1, 5), st.floats(0.1, 5), st.integers(6, 60))
def test_a_disc_has_the_area_of_its_polygon(rx, ry, corners):
    exact = corners / 2 * np.sin(2 * np.pi / corners) * rx * ry
    assert area(disc(1.0, -2.0, rx, ry, corners)) == pytest.approx(exact)


def test_a_ring_is_an_outline_and_a_smaller_hole():
    outer, inner = ring(0.0, 0.35, 0.35, 0.35, 0.05)
    assert area(inner) / area(outer) == pytest.approx((0.30 / 0.35) ** 2)
    thin, hole = ring(0.0, 0.35, 0.04, 0.35, 0.05)  # seen from behind
    assert np.ptp(hole[:, 0]) > 0
    assert np.ptp(hole[:, 0]) < np.ptp(thin[:, 0])


@given(angles, st.floats(0.5, 3), st.floats(0.05, 0.4))
def test_a_limb_is_as_long_and_wide_as_told(angle, length, width):
    along = np.array((np.cos(angle), np.sin(angle)))
    shape = limb((1.0, 2.0), (1.0, 2.0) + length * along, width, width)
    across = np.array((-along[1], along[0]))
    assert np.ptp(shape @ across) == pytest.approx(width)
    assert np.ptp(shape @ along) == pytest.approx(length + width / 3)


def test_a_limb_without_length_is_finite():
    assert np.isfinite(limb((1.0, 1.0), (1.0, 1.0), 0.1, 0.1)).all()


@given(seeds)
def test_a_blob_stays_about_its_centre(seed):
    shape = blob(np.random.default_rng(seed), 3.0, -1.0, 2.0, 1.0)
    assert shape.shape == (24, 2)
    assert np.abs(shape.mean(0) - (3.0, -1.0)).max() < 1.5
    assert 0.2 < area(shape) / (np.pi * 2.0) < 4


def test_standing_and_lying():
    flat = box(0.0, 0.5, 2.0, 1.5)
    standing = upright(flat, 10.0, 20.0)
    np.testing.assert_array_equal(standing[:, 0], flat[:, 0] + 10)
    np.testing.assert_array_equal(standing[:, 1], flat[:, 1])
    assert (standing[:, 2] == 20).all()
    ground = lying(flat)
    assert (ground[:, 1] == 0).all()
    assert ground[:, 2].min() == NEAR  # what lies behind the camera is cut


@given(st.floats(-20, 20), st.floats(0, 5), st.floats(2, 100), st.floats(0, 0.5))
def test_parallax_is_focal_length_times_offset_over_depth(x, y, z, offset):
    left = Camera((640, 512), 600.0, 250.0, 1.5)
    right = Camera((640, 512), 600.0, 250.0, 1.5, offset)
    point = np.array((x, y, z))
    du, dv = left.project(point) - right.project(point)
    assert du == pytest.approx(600 * offset / z, abs=1e-9)
    assert dv == 0


def test_an_identity_looks_the_same_everywhere():
    first, again, other = Look(17), Look(17), Look(18)
    assert (first.height, first.top, first.hair) == (
        again.height,
        again.top,
        again.hair,
    )
    np.testing.assert_array_equal(first.leak, again.leak)
    assert first.top != other.top


def test_identities_differ_in_height_and_cloth():
    looks = [Look(k) for k in range(300)]
    heights = np.array([look.height for look in looks])
    assert 1.55 < np.median(heights) < 1.8
    assert (heights < 1.4).mean() > 0.01  # children
    assert len({look.top for look in looks}) > 290


def test_cloth_lets_heat_through_whatever_its_colour():
    looks = [Look(k) for k in range(600)]
    bright = [np.mean(look.top) for look in looks]
    leak = [look.leak[0] for look in looks]
    assert abs(np.corrcoef(bright, leak)[0, 1]) < 0.1


@settings(max_examples=25, deadline=None)
@given(seeds, angles, st.booleans())
def test_people_stand_on_the_ground_and_are_warm(seed, yaw, ride):
    weather, look = weather_of(seed), Look(seed % 1000)
    parts = person(np.random.default_rng(seed), weather, look, (3.0, 15.0), yaw, ride)
    points = all_points(parts)
    assert (points[:, 2] == 15).all()
    assert points[:, 1].min() > -0.1
    tall = 1.75 if ride else 1.02 * look.height
    assert 0.9 * tall < points[:, 1].max() < 1.12 * tall
    assert np.abs(points[:, 0] - 3).max() < 1.2
    heat = np.array([part.heat for part in parts])
    assert heat.max() == pytest.approx(weather.skin, abs=3.0)
    assert heat.min() < weather.skin - 0.3 * (weather.skin - weather.air)


def test_the_backpack_is_on_the_back():
    look = next(look for look in map(Look, range(50)) if look.carries == 'back')
    rng = np.random.default_rng

    def order(yaw):
        parts = person(rng(0), weather_of(0), look, (0, 10), yaw)
        colors = [part.color for part in parts]
        grains = [part.grain for part in parts]
        return colors.index(look.bag) - grains.index(0.16)  # the trunk's grain

    assert order(0.0) == 1  # from behind: painted over the trunk
    assert order(np.pi) == -1  # from the front: hidden by it


@settings(max_examples=25, deadline=None)
@given(seeds, angles)
def test_bicycles_touch_the_ground_and_parked_ones_are_cold(seed, yaw):
    weather = weather_of(seed)
    rng = np.random.default_rng
    parked = bicycle(rng(seed), weather, (0, 12), yaw, ridden=False)
    assert all_points(parked)[:, 1].min() == pytest.approx(0, abs=0.03)
    assert 0.9 < all_points(parked)[:, 1].max() < 1.2
    assert max(abs(part.heat - weather.air) for part in parked) < 9
    side = np.ptp(all_points(bicycle(rng(seed), weather, (0, 12), np.pi / 2, False)), 0)
    assert np.ptp(all_points(parked), 0)[0] <= side[0] + 0.7


def test_ridden_tyres_are_warmer():
    weather = weather_of(3)

    def tire(seed, ridden):
        return bicycle(np.random.default_rng(seed), weather, (0, 9), 1.0, ridden)[
            0
        ].heat

    gain = [tire(k, True) - tire(k, False) for k in range(100)]
    assert np.mean(gain) > 2


def test_a_dog_is_small_and_warm():
    weather = weather_of(5)
    parts = dog(np.random.default_rng(1), weather, (1.0, 8.0))
    assert all_points(parts)[:, 1].max() < 0.9
    assert all(weather.air < part.heat < weather.skin for part in parts)


def test_cloth_colours_are_reflectances():
    rng = np.random.default_rng(0)
    colors = np.array([cloth_color(rng) for _ in range(500)])
    assert colors.min() >= 0.03
    assert colors.max() <= 0.95
    assert np.median(colors) < 0.3  # mostly dull


@settings(max_examples=40, deadline=None)
@given(seeds, angles)
def test_a_car_keeps_its_size_at_any_angle(seed, yaw):
    car = Car(
        np.random.default_rng(seed), weather_of(seed), (2.0, 25.0), yaw, True, 1.5
    )
    points = all_points(car.parts())
    assert points[:, 1].min() > -0.02
    assert points[:, 1].max() <= car.height * 1.001
    reach = np.hypot(points[:, 0] - 2, points[:, 2] - 25)
    assert reach.max() <= 1.02 * np.hypot(car.length, car.width) / 2
    along = np.array((np.sin(yaw), np.cos(yaw)))
    s = (points[:, [0, 2]] - (2.0, 25.0)) @ along
    assert np.ptp(s) <= 1.01 * car.length


@settings(max_examples=40, deadline=None)
@given(seeds, angles)
def test_only_faces_that_look_at_the_camera_are_drawn(seed, yaw):
    car = Car(
        np.random.default_rng(seed), weather_of(seed), (0.0, 20.0), yaw, True, 1.5
    )
    sides = [car._side(t) is not None for t in (-1, 1)]
    assert sum(sides) <= 1
    # From the side exactly one side is visible; from behind or in front none.
    if abs(np.sin(yaw)) > 0.2:
        assert sum(sides) == 1
    first, last = car._edge(0), car._edge(len(car.profile) - 2)
    assert not (first and last)  # never rear and front at once


@pytest.mark.parametrize('name', sorted(KINDS))
def test_profiles_are_closed_shapes_with_windows_inside(name):
    kind = KINDS[name]
    profile, window = np.array(kind['profile']), np.array(kind['side'])
    assert profile[:, 0].min() == -0.5
    assert profile[:, 0].max() == 0.5
    assert profile[:, 1].max() == 1.0
    assert area(window) < 0.35 * area(profile)
    assert (window.min(0) > profile.min(0)).all()
    assert (window.max(0) < profile.max(0)).all()
    assert all(0 <= k < len(profile) - 1 for k in kind['glass'])


def test_driven_cars_are_warm_and_parked_ones_are_not():
    def excess(driven):
        out = []
        for seed in range(60):
            weather = weather_of(seed)
            rng = np.random.default_rng(seed)
            car = Car(rng, weather, (0, 20), 0.0, driven, 1.5)
            out.append(car.heat['wheel'] + car.heat['exhaust'])
        return np.array(out)

    assert excess(True).min() > 5
    assert np.abs(excess(False)).mean() < 2


def test_paint_says_nothing_about_heat():
    tone, heat = [], []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        car = Car(rng, weather_of(seed), (0, 20), 0.0, seed % 2 == 0, 1.5)
        tone.append(np.mean(car.paint))
        heat.append(car.heat['body'])
    assert abs(np.corrcoef(tone, heat)[0, 1]) < 0.15


def test_lights_are_on_when_driven_at_night_only():
    def lamps(night, driven):
        rng = np.random.default_rng(0)
        return Car(rng, weather_of(0, night), (0, 20), np.pi, driven, 1.5).lamps()

    assert len(lamps(True, True)) == 2
    assert not (lamps(True, False))
    assert not (lamps(False, True))
    assert not (lamps(False, False))


@pytest.mark.parametrize('seed', range(6))
def test_a_street_is_the_same_by_day_and_by_night_but_for_its_lights(seed):
    day, night = (
        build_street(np.random.default_rng(seed), weather_of(seed, n))
        for n in (False, True)
    )
    assert (day.half, day.road_heat) == (night.half, night.road_heat)
    assert len(day.items) == len(night.items)
    for a, b in zip(day.items, night.items, strict=True):
        assert (a.depth, a.code) == (b.depth, b.code)
        for p, q in zip(a.parts, b.parts, strict=True):
            np.testing.assert_array_equal(p.points, q.points)
            assert p.heat == q.heat
            assert not p.light


def test_streets_hold_everything_that_has_a_name():
    codes = set()
    for seed in range(8):
        street = build_street(np.random.default_rng(seed), weather_of(seed))
        codes |= {item.code for item in street.items}
        assert all_points(p for i in street.items for p in i.parts)[:, 2].max() <= 260
        assert max(i.depth for i in street.items if i.depth < 900) < FAR + 40
    assert codes == set(CODE.values()) - {CODE['sky']}
    assert len(STUFF) == len(CODE)


def test_weather_covers_day_night_cold_and_heat():
    rng = np.random.default_rng(0)
    states = [Weather.draw(rng, None) for _ in range(400)]
    assert 0.3 < np.mean([w.night for w in states]) < 0.6
    contrast = np.array([w.skin - w.air for w in states])
    assert contrast.min() < 6  # hot: people hardly stand out
    assert contrast.max() > 20
    assert all(w.sky < w.air - 15 for w in states)
    assert Weather.draw(rng, True).night
    assert not Weather.draw(rng, False).night
