"""Sensor models against closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmir.testing.scenes.drones import TARGETS, silhouette
from mmir.testing.scenes.parts import Camera, Lamp
from mmir.testing.scenes.sensors import (
    COUNTS,
    automatic_gain,
    light_map,
    noise,
    texture,
    thermal_camera,
    tone,
    vignette,
    visible_camera,
    visible_light,
)
from mmir.testing.scenes.weather import Weather

CAMERA = Camera((160, 128), 160.0, 60.0, 1.5)


def weather(night):
    return Weather.draw(np.random.default_rng(0), night)


def test_noise_is_standard_normal():
    values = noise(np.random.default_rng(0), (300, 300))
    assert values.dtype == np.float32
    assert values.mean() == pytest.approx(0, abs=0.02)
    assert values.std() == pytest.approx(1, abs=0.02)


def test_texture_has_about_unit_variance_and_is_smooth_in_part():
    values = texture(np.random.default_rng(0), (256, 320))
    assert values.shape == (256, 320)
    assert 0.7 < values.std() < 1.3
    neighbours = np.corrcoef(values[:, :-1].ravel(), values[:, 1:].ravel())[0, 1]
    assert 0.2 < neighbours < 0.8


def test_vignette_is_the_squared_distance():
    field = vignette((65, 97))
    assert field[32, 48] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(field[[0, 0, -1, -1], [0, -1, 0, -1]], 1, rtol=1e-6)
    assert field[32, 0] == pytest.approx(0.5)


@given(st.floats(0, 4))
def test_tone_is_a_power(value):
    out = tone(np.array([value], np.float64))
    assert out[0] == pytest.approx(value**0.75)


def test_by_day_lamps_do_nothing():
    lamp = Lamp((0.0, 2.0, 10.0), (1.0, 1.0, 1.0), 1.0, 5.0)
    light, glare = light_map(CAMERA, weather(False), [lamp], 0.7)
    np.testing.assert_allclose(light, 0.7, rtol=1e-6)
    assert (glare == 0).all()


def test_at_night_a_lamp_glares_where_it_is_and_lights_what_is_near():
    lamp = Lamp((1.0, 2.0, 10.0), (0.5, 0.75, 1.0), 0.8, 4.0)
    light, glare = light_map(CAMERA, weather(True), [lamp], 0.02)
    assert light.shape == (128, 160)
    assert glare.shape == (128, 160, 3)
    u, v = CAMERA.project(np.array(lamp.point))
    row, col = np.unravel_index(glare[..., 2].argmax(), light.shape)
    assert abs(row - v) <= 4
    assert abs(col - u) <= 4
    np.testing.assert_allclose(glare[..., 0], 0.5 * glare[..., 2], rtol=1e-4)
    assert light.max() == pytest.approx(0.02 + 0.5 * 0.8, rel=0.05)
    assert light[0, 0] < 0.5 * light.max()


def test_lamps_add_up():
    lamps = [Lamp((x, 2.0, 12.0), (1.0, 1.0, 1.0), 0.5, 3.0) for x in (-2.0, 2.0)]
    both = light_map(CAMERA, weather(True), lamps, 0.0)
    each = [light_map(CAMERA, weather(True), [lamp], 0.0) for lamp in lamps]
    for k in (0, 1):
        np.testing.assert_allclose(both[k], each[0][k] + each[1][k], atol=1e-5)


def test_light_falls_on_things_but_not_on_light():
    canvas = np.zeros((2, 2, 4), np.float32)
    canvas[..., :3] = 0.5
    canvas[0, 0, 3] = -1  # emits light
    canvas[1, :, 3] = 0.2
    grain = np.array([(3, 3), (1, -9)], np.float32)
    light = np.full((2, 2), 0.1, np.float32)
    glare = np.full((2, 2, 3), 0.25, np.float32)
    out = visible_light(canvas, grain, light, glare)[..., 0] - 0.25
    np.testing.assert_allclose(out, [(0.5, 0.05), (0.06, 0.0)], atol=1e-6)


@pytest.mark.parametrize('night', [False, True])
def test_the_visible_camera_keeps_order_and_adds_noise(night):
    steps = np.repeat(np.linspace(0.05, 0.9, 4, dtype=np.float32), 40)
    radiance = np.repeat(np.repeat(steps[None], 120, 0)[..., None], 3, 2)
    picture = visible_camera(np.random.default_rng(0), radiance, night)
    assert picture.shape == (120, 160, 3)
    assert picture.dtype == np.uint8
    means = picture[40:80].mean((0, 2)).reshape(4, 40)[:, 8:-8].mean(1)
    assert (np.diff(means) > 20).all()
    assert picture[50:70, 10:30].std() > 0.5


def test_night_pictures_are_noisier():
    flat = np.full((96, 96, 3), 0.2, np.float32)

    def roughness(night):
        pictures = [
            visible_camera(np.random.default_rng(k), flat, night) for k in range(12)
        ]
        return np.mean([np.diff(p[..., 1].astype(float)).std() for p in pictures])

    assert roughness(True) > 1.3 * roughness(False)


def test_black_stays_black_and_white_is_clipped():
    radiance = np.zeros((64, 64, 3), np.float32)
    radiance[:, 32:] = 5.0
    picture = visible_camera(np.random.default_rng(1), radiance, night=False)
    assert picture[:, :24].mean() < 4
    assert picture[:, 40:].min() == 255


def test_thermal_columns_carry_a_fixed_pattern():
    flat = np.full((200, 120), 20.0, np.float32)
    raw = thermal_camera(np.random.default_rng(0), flat).astype(float)
    columns, rows = np.median(raw, 0).std(), np.median(raw, 1).std()
    noise_level = np.diff(raw, axis=0).std() / np.sqrt(2)
    assert columns > 2 * noise_level / np.sqrt(200)  # more than noise averages to
    assert rows > 0


def test_raw_counts_stay_in_fourteen_bits():
    extreme = np.full((40, 40), 900.0, np.float32)
    extreme[:20] = -900.0
    raw = thermal_camera(np.random.default_rng(0), extreme)
    assert raw.min() == 0
    assert raw.max() == COUNTS - 1


def test_gain_control_of_a_constant_picture_is_constant():
    raw = np.full((8, 8), 7000, np.uint16)
    for blend in (0.0, 0.5, 1.0):
        assert np.ptp(automatic_gain(raw, blend)) == 0


@given(st.integers(0, 1000), st.floats(0, 1))
def test_gain_control_never_reverses_warm_and_cold(seed, blend):
    raw = np.random.default_rng(seed).integers(6500, 7500, (16, 16)).astype(np.uint16)
    order = np.argsort(raw.ravel(), kind='stable')
    shown = automatic_gain(raw, blend, 0.05, 0.01).ravel()[order]
    assert (np.diff(shown.astype(int)) >= 0).all()


def test_equalisation_spreads_a_crowded_range():
    rng = np.random.default_rng(0)
    crowded = rng.normal(7000, 10, 9000)
    raw = np.concatenate([crowded, rng.uniform(6000, 9000, 1000)]).reshape(100, 100)
    raw = raw.astype(np.uint16)
    plain, equal = (automatic_gain(raw, blend).std() for blend in (0.0, 1.0))
    assert equal > 1.5 * plain


@pytest.mark.parametrize('label', TARGETS)
def test_silhouettes_are_about_one_unit_wide(label):
    for seed in range(20):
        shapes = silhouette(np.random.default_rng(seed), label)
        points = np.concatenate([np.asarray(shape) for shape in shapes])
        assert np.isfinite(points).all()
        assert 0.6 < np.ptp(points[:, 0]) < 1.4
        assert np.ptp(points[:, 1]) < np.ptp(points[:, 0])
