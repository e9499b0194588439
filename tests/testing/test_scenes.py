"""Rendered street scenes and flying targets."""

import cv2
import numpy as np
import pytest

from mmir.testing.scenes import (
    CLASSES,
    SEMANTIC,
    TARGETS,
    render_flight,
    render_scene,
)
from mmir.testing.scenes.cars import Car
from mmir.testing.scenes.parts import (
    Air,
    Camera,
    Item,
    Part,
    box,
    lying,
    rasterize,
    upright,
)
from mmir.testing.scenes.sensors import automatic_gain, thermal_camera
from mmir.testing.scenes.weather import Weather

SIZE = (320, 256)


@pytest.fixture(scope='module')
def scenes():
    return [render_scene((3, k), SIZE) for k in range(16)]


def extent(mask):
    rows, cols = np.nonzero(mask)
    left, top = cols.min(), rows.min()
    return left, top, cols.max() - left + 1, rows.max() - top + 1


def test_the_same_seed_gives_the_same_bytes(scenes):
    threads = cv2.getNumThreads()
    cv2.setNumThreads(4)
    again = render_scene((3, 5), SIZE)
    assert cv2.getNumThreads() == 4
    cv2.setNumThreads(threads)
    for name in ('rgb', 'thermal8', 'thermal16'):
        assert getattr(again, name).tobytes() == getattr(scenes[5], name).tobytes()
    assert again.objects == scenes[5].objects
    assert again.rgb.tobytes() != scenes[6].rgb.tobytes()


def test_shapes_and_types(scenes):
    for scene in scenes:
        assert scene.rgb.shape == (256, 320, 3)
        assert scene.rgb.dtype == np.uint8
        assert scene.thermal8.shape == (256, 320)
        assert scene.thermal8.dtype == np.uint8
        assert scene.thermal16.dtype == np.uint16
        assert scene.thermal16.max() < 1 << 14
        assert set(scene.cameras) == {'rgb', 'ir'}


@pytest.mark.parametrize('modality', ['rgb', 'ir'])
def test_boxes_are_the_extents_of_the_masks(scenes, modality):
    checked = 0
    for scene in scenes:
        for thing in scene.objects:
            x_y_w_h = thing.box(modality)
            if x_y_w_h is None:
                assert not thing.visible(modality)
                continue
            assert x_y_w_h == extent(scene.mask(thing, modality))
            x, y, w, h = x_y_w_h
            assert x >= 0
            assert x + w <= 320
            assert y >= 0
            assert y + h <= 256
            assert min(w, h) >= 4
            checked += 1
    assert checked > 50


@pytest.mark.parametrize('modality', ['rgb', 'ir'])
def test_the_semantic_map_holds_the_instances(scenes, modality):
    for scene in scenes[:6]:
        semantic = scene.semantic(modality)
        assert semantic.dtype == np.uint8
        for thing in scene.objects:
            labels = np.unique(semantic[scene.mask(thing, modality)])
            assert set(labels) <= {SEMANTIC.index(thing.label)}
        assert (semantic == SEMANTIC.index('road')).mean() > 0.05


def test_all_classes_at_many_scales_and_hidden_ones(scenes):
    things = [thing for scene in scenes for thing in scene.objects]
    assert {thing.label for thing in things} - {'dog'} == set(CLASSES)
    heights = np.array([t.box_ir[3] for t in things if t.box_ir]) * 2  # at 640 px
    assert ((heights >= 12) & (heights <= 60)).mean() > 0.45
    assert np.percentile(heights, 95) > 5 * np.percentile(heights, 5)
    assert all((t.identity >= 0) == (t.label == 'person') for t in things)
    assert any(t.box_ir and not t.visible_ir for t in things)
    depths = [[t.depth for t in scene.objects] for scene in scenes]
    assert all(d == sorted(d) for d in depths)


def test_night_takes_the_light_and_leaves_the_heat():
    for seed in range(6):
        day, night = (render_scene(seed, SIZE, night=n) for n in (False, True))
        assert night.night
        assert not day.night
        assert night.rgb.mean() < 0.6 * day.rgb.mean()
        np.testing.assert_array_equal(day.thermal16, night.thermal16)
        np.testing.assert_array_equal(day.codes['ir'], night.codes['ir'])


def test_people_disappear_from_the_visible_picture_at_night():
    def share(night):
        things = [
            t
            for seed in range(10)
            for t in render_scene((8, seed), SIZE, night=night).objects
            if t.label == 'person' and t.box_rgb and t.visible_ir
        ]
        return np.mean([t.visible_rgb for t in things])

    assert share(True) < share(False) - 0.05


def test_heat_does_not_follow_colour(scenes):
    pairs = []
    for scene in (s for s in scenes if not s.night):
        gray = cv2.cvtColor(scene.rgb, cv2.COLOR_BGR2GRAY).astype(float)
        raw = scene.thermal16.astype(float)
        for thing in scene.objects:
            if thing.box_rgb and thing.box_ir:
                pairs.append(
                    (
                        gray[scene.mask(thing, 'rgb')].mean() - gray.mean(),
                        raw[scene.mask(thing, 'ir')].mean() - np.median(raw),
                    )
                )
    assert len(pairs) > 30
    assert abs(np.corrcoef(np.array(pairs).T)[0, 1]) < 0.35


def test_people_are_warmer_than_the_street_on_average(scenes):
    excess = [
        scene.thermal16[scene.mask(thing, 'ir')].mean()
        - np.median(scene.thermal16[scene.semantic('ir') == SEMANTIC.index('road')])
        for scene in scenes
        for thing in scene.objects
        if thing.label == 'person' and thing.box_ir
    ]
    assert np.mean(excess) > 50
    assert min(excess) < 30  # some hardly differ


def test_parallax_shifts_near_things_to_the_left():
    shifts = []
    for seed in range(12):
        scene = render_scene((4, seed), SIZE, baseline=0.3)
        for thing in scene.objects:
            a, b = thing.box_rgb, thing.box_ir
            whole = a and b and a[2:] == b[2:] and a[0] > 12 and a[0] + a[2] < 318
            if whole:
                shifts.append((1 / thing.depth, a[0] - b[0], a[1] - b[1]))
    inverse, right, down = np.array(shifts).T
    assert len(shifts) > 10
    assert abs(down).max() == 0
    # focal * baseline, the focal length being 0.9 to 1.15 widths
    slope = (inverse * right).sum() / (inverse**2).sum()
    assert 0.8 * 320 * 0.3 < slope < 1.3 * 320 * 0.3
    together = render_scene((4, 0), SIZE, baseline=0.0)
    np.testing.assert_array_equal(together.codes['rgb'], together.codes['ir'])


def test_projection_of_a_known_point():
    camera = Camera((640, 480), focal=500, horizon=200, height=1.5, offset=0.2)
    u, v = camera.project(np.array((1.2, 0.5, 10.0)))
    assert (u, v) == pytest.approx((320 + 500 * 1.0 / 10, 200 + 500 * 1.0 / 10))


def test_nearer_items_hide_farther_ones_and_areas_are_kept():
    camera = Camera((64, 64), focal=64, horizon=32, height=1.0)
    square = box(-0.5, 0.5, 0.5, 1.5)
    items = [
        Item(4.0, 101, [Part(upright(square * (0.5, 1), 0, 4.0), (0, 0, 1), 30.0, 0)]),
        Item(8.0, 100, [Part(upright(square * (2, 1), 0, 8.0), (1, 0, 0), 5.0, 0)]),
    ]
    heat = np.zeros((64, 64, 2), np.float32)
    air = Air(10.0, (0, 0, 0), sight=1e9)
    codes, areas = rasterize(items, camera, air, 'ir', heat)
    assert areas[101] == (codes == 101).sum()
    assert 0 < (codes == 100).sum() < areas[100]
    np.testing.assert_allclose(heat[codes == 101][:, 0], 30.0)
    np.testing.assert_allclose(heat[codes == 100][:, 0], 5.0)


def test_far_heat_fades_into_the_air():
    air = Air(10.0, (0.5, 0.5, 0.5), sight=50.0)
    part = Part(lying(box(0, 0, 1, 1)), (1.0, 0.0, 0.5), 40.0, 0.1)
    heat = air.seen([part, part], np.array((1.0, 150.0)), 'ir')[:, 0]
    np.testing.assert_allclose(heat, 10 + 30 * np.exp([-1 / 150, -1.0]))
    color = air.seen([part], np.array([50.0]), 'rgb')[0]
    expected = 0.5 + np.array((0.5, -0.5, 0.0)) / np.e
    np.testing.assert_allclose(color, (*expected, 0.1))


def test_a_car_from_behind_shows_its_rear_only():
    weather = Weather.draw(np.random.default_rng(0), night=True)
    cars = [
        Car(np.random.default_rng(1), weather, (0, 20), yaw, True, 1.5)
        for yaw in (0.0, np.pi)
    ]
    rear, front = ([c for p in car.parts() for c in [p.color]] for car in cars)
    assert (1.0, 1.0, 1.0) in front  # headlights
    assert (1.0, 1.0, 1.0) not in rear
    assert (0.1, 0.08, 0.9) in rear
    assert cars[0].lamps()[0].power < cars[1].lamps()[0].power


def test_raw_counts_are_linear_in_temperature():
    ramp = np.repeat(np.linspace(0, 40, 128, dtype=np.float32)[None], 96, 0)
    raw = thermal_camera(np.random.default_rng(0), ramp)
    assert raw.dtype == np.uint16
    slope, _ = np.polyfit(ramp[0, 8:-8], np.median(raw, 0)[8:-8], 1)
    assert 22 < slope < 34


def test_automatic_gain_is_monotonous_and_clips_its_tails():
    raw = np.arange(8000, 8400, dtype=np.uint16).reshape(20, 20)
    plain = automatic_gain(raw, blend=0.0, low=0.0, high=0.0).ravel()
    assert (np.diff(plain.astype(int)) >= 0).all()
    assert (plain[0], plain[-1]) == (0, 255)
    clipped = automatic_gain(raw, blend=0.0, low=0.25, high=0.25).ravel()
    assert (clipped == 0).mean() == pytest.approx(0.25, abs=0.02)
    assert (clipped == 255).mean() == pytest.approx(0.25, abs=0.02)
    # The histogram of a ramp is flat: equalizing changes nothing but the offset.
    equal = automatic_gain(raw, blend=1.0).ravel()
    assert abs(equal.astype(int) - plain).max() <= 1


@pytest.mark.parametrize('modality', ['rgb', 'ir'])
def test_flying_targets(modality):
    flights = [render_flight((2, k), modality) for k in range(24)]
    again = render_flight((2, 7), modality)
    assert again.image.tobytes() == flights[7].image.tobytes()
    size = (512, 640, 3) if modality == 'rgb' else (256, 320)
    assert all(f.image.shape == size for f in flights)
    assert {label for f in flights for label in f.labels} == set(TARGETS)
    boxes = np.concatenate([f.boxes for f in flights])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= size[1::-1]).all()
    assert np.median(boxes[:, 2]) < 0.12 * size[1]


def test_targets_are_dark_in_rgb_and_bright_in_infrared():
    contrast = {'rgb': [], 'ir': []}
    for modality, values in contrast.items():
        for k in range(30):
            flight = render_flight((6, k), modality, (320, 256))
            image = flight.image.astype(float)
            gray = image if image.ndim == 2 else image.mean(2)
            for x, y, w, h in flight.boxes:
                around = gray[max(y - 6, 0) : y + h + 6, max(x - 6, 0) : x + w + 6]
                inside = gray[y : y + h, x : x + w]
                values.append(inside.mean() - np.median(around))
    assert np.mean(contrast['rgb']) < -5
    assert np.mean(contrast['ir']) > 5
