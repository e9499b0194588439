"""Street scenes seen by a visible and a thermal camera, rendered from a seed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np

from .actors import Look, bicycle, dog, person
from .cars import Car
from .parts import (
    FIRST_OBJECT,
    Air,
    Camera,
    Item,
    Lamp,
    Modality,
    Part,
    disc,
    lying,
    rasterize,
)
from .sensors import (
    automatic_gain,
    light_map,
    texture,
    thermal_camera,
    tone,
    visible_camera,
    visible_light,
)
from .street import CODE, FAR, STUFF, Street, build_street
from .weather import Weather

CLASSES = ('person', 'bicycle', 'car')
SEMANTIC = (*STUFF, *CLASSES, 'dog')
IDENTITIES = 1000  # number of people
MIN_SIDE, MIN_AREA, MIN_SEEN = 4, 24, 0.3


@dataclass(frozen=True)
class SceneObject:
    """A labeled object.

    Args:
        label: One of `CLASSES`, or 'dog', which real datasets label as well.
        identity: Number of the person, below `IDENTITIES`; -1 for other objects.
        code: Value in `Scene.codes`.
        depth: Distance in m.
        box_rgb: (x, y, w, h) in px of the unoccluded part in the visible image, or None
            if less than 30 % or only a few pixels are unoccluded.
        box_ir: The same in the thermal image.
        visible_rgb: Whether the object stands out in the visible image.
        visible_ir: Whether the object stands out in the thermal image.
    """

    label: str
    identity: int
    code: int
    depth: float
    box_rgb: tuple[int, int, int, int] | None
    box_ir: tuple[int, int, int, int] | None
    visible_rgb: bool
    visible_ir: bool

    def box(self, modality: Modality) -> tuple[int, int, int, int] | None:
        """Return the box in one image."""
        return self.box_rgb if modality == 'rgb' else self.box_ir

    def visible(self, modality: Modality) -> bool:
        """Whether the object stands out in one image."""
        return self.visible_rgb if modality == 'rgb' else self.visible_ir


@dataclass(frozen=True)
class Scene:
    """Visible and thermal image of a scene with full ground truth.

    Args:
        rgb: (H, W, 3) uint8 in BGR order, as cv2 reads and writes it.
        thermal8: (H, W) uint8, after the thermal camera's automatic gain.
        thermal16: (H, W) uint16, raw 14-bit counts.
        objects: Labeled objects, nearest first.
        codes: One (H, W) int32 map per modality: index into `SEMANTIC` for the
            surroundings, `SceneObject.code` for objects.
        night: Whether it is night (no daylight).
        cameras: Camera id per modality.
    """

    rgb: np.ndarray
    thermal8: np.ndarray
    thermal16: np.ndarray
    objects: tuple[SceneObject, ...]
    codes: dict[Modality, np.ndarray]
    night: bool
    cameras: dict[Modality, int]

    def mask(self, thing: SceneObject, modality: Modality) -> np.ndarray:
        """Return the (H, W) bool mask of the unoccluded part of an object."""
        return self.codes[modality] == thing.code

    def semantic(self, modality: Modality) -> np.ndarray:
        """Return the (H, W) uint8 map of indices into `SEMANTIC`."""
        codes = self.codes[modality]
        table = np.arange(max(int(codes.max()) + 1, FIRST_OBJECT))
        for thing in self.objects:
            if thing.code < len(table):
                table[thing.code] = SEMANTIC.index(thing.label)
        return table[codes].astype(np.uint8)


@dataclass
class Cast:
    """Objects of a scene before rendering.

    Args:
        street: Street they stand on.
        weather: Weather of the scene.
        eye: Height of the cameras in m.
        items: Items to draw.
        labels: (class, identity) of each object, indexed by code - `FIRST_OBJECT`.
        lamps: Lights of the scene.
        far: Largest distance of objects in m.
    """

    street: Street
    weather: Weather
    eye: float
    items: list[Item]
    labels: list[tuple[str, int]]
    lamps: list[Lamp]
    far: float

    def distance(self, rng: np.random.Generator, near: float, far: float) -> float:
        """Draw a log-uniform distance in m."""
        return float(np.exp(rng.uniform(np.log(near), np.log(min(far, self.far)))))

    def add(self, label: str, parts: list[Part], z: float, identity: int = -1) -> None:
        """Add an object to the street."""
        self.items.append(Item(z, FIRST_OBJECT + len(self.labels), parts))
        self.labels.append((label, identity))

    def shade(self, x: float, z: float, rx: float) -> None:
        """Add a dark, slightly cool spot on the ground below an object."""
        color = tuple(0.5 * c for c in self.street.road)
        part = Part(lying(disc(x, z, rx, 0.5 * rx)), color, self.street.road_heat - 0.4)
        self.items.append(Item(990.0, CODE['road'], [part]))


def _cars(rng: np.random.Generator, cast: Cast) -> None:
    taken: list[tuple[float, float]] = []
    for _ in range(rng.poisson(3.0)):
        z = cast.distance(rng, 9, 85)
        side = rng.choice([-1, 1])
        parked = rng.random() < 0.5
        if parked:
            x = side * (cast.street.half - 0.7 + rng.uniform(0, 0.5))
            yaw = rng.choice([0, np.pi]) + rng.normal(0, 0.06)
        elif rng.random() < 0.15:  # crossing
            x, yaw = rng.uniform(-8, 8), side * np.pi / 2 + rng.normal(0, 0.3)
        else:
            x = side * cast.street.half * 0.45
            yaw = (0 if side > 0 else np.pi) + rng.normal(0, 0.05)
        if any(abs(x - u) < 2.2 and abs(z - w) < 5.5 for u, w in taken):
            continue
        taken.append((x, z))
        driven = not parked or rng.random() < 0.15
        car = Car(rng, cast.weather, (x, z), yaw, driven, cast.eye)
        shadow = car.shadow(cast.street.road, cast.street.road_heat)
        cast.items.append(Item(989.0, CODE['road'], [shadow]))
        cast.add('car', car.parts(), z)
        cast.lamps += car.lamps()


def _people(rng: np.random.Generator, cast: Cast) -> None:
    half, walk = cast.street.half, cast.street.walk
    for _ in range(rng.poisson(3.2)):
        z = cast.distance(rng, 8, 80)
        crossing = rng.random() < 0.25
        x = rng.choice([-1, 1]) * (half + rng.uniform(0.2, walk))
        if crossing:
            x = rng.uniform(-half, half)
        yaw = rng.choice([0, np.pi, np.pi / 2, -np.pi / 2]) + rng.normal(0, 0.4)
        for _ in range(rng.choice([1, 2, 3, 4], p=[0.6, 0.25, 0.1, 0.05])):
            identity = int(rng.integers(IDENTITIES))
            body = person(rng, cast.weather, Look(identity), (x, z), yaw)
            cast.shade(x, z, 0.35)
            cast.add('person', body, z, identity)
            x, z = x + rng.normal(0, 0.7), max(z + rng.normal(0, 1.0), 7)
            yaw += rng.normal(0, 0.3)


def _bicycles(rng: np.random.Generator, cast: Cast) -> None:
    half, walk = cast.street.half, cast.street.walk
    for _ in range(rng.poisson(0.9)):  # riders
        x, z = rng.uniform(-half, half), cast.distance(rng, 8, 60)
        yaw = rng.choice([0, np.pi, np.pi / 2, -np.pi / 2]) + rng.normal(0, 0.35)
        identity = int(rng.integers(IDENTITIES))
        cast.shade(x, z, 0.6)
        cast.add('bicycle', bicycle(rng, cast.weather, (x, z), yaw, True), z)
        body = person(rng, cast.weather, Look(identity), (x, z - 0.05), yaw, True)
        cast.add('person', body, z - 0.05, identity)
    for _ in range(rng.poisson(0.7)):  # parked, alone or in a row
        x = rng.choice([-1, 1]) * (half + rng.uniform(0.3, walk))
        z, yaw = cast.distance(rng, 7, 50), rng.uniform(-np.pi, np.pi)
        for _ in range(rng.integers(1, 4)):
            turn = yaw + rng.normal(0, 0.15)
            cast.add('bicycle', bicycle(rng, cast.weather, (x, z), turn, False), z)
            x, z = x + rng.uniform(0.3, 0.9), z + rng.uniform(-0.5, 0.8)


def _dogs(rng: np.random.Generator, cast: Cast) -> None:
    for _ in range(rng.poisson(0.4)):
        x = rng.choice([-1, 1]) * (cast.street.half + rng.uniform(0, 2))
        z = cast.distance(rng, 7, 35)
        cast.add('dog', dog(rng, cast.weather, (x, z)), z)


def _sky(
    rng: np.random.Generator, weather: Weather, camera: Camera
) -> dict[Modality, np.ndarray]:
    """Paint the sky: (H, W, 4) and (H, W, 2) float32 backgrounds."""
    height = camera.size[1]
    rise = (camera.horizon - np.arange(height, dtype=np.float32)) / height
    rise = np.clip(rise * 1.8, 0, 1)[:, None]
    coarse = rng.standard_normal((7, 9), dtype=np.float32)
    fine = rng.standard_normal((20, 14), dtype=np.float32)
    clouds = cv2.resize(coarse, camera.size, interpolation=cv2.INTER_CUBIC)
    clouds += 0.5 * cv2.resize(fine, camera.size, interpolation=cv2.INTER_CUBIC)
    clouds = np.clip(clouds * 0.5 + np.float32(2.4 * weather.clouds - 1), 0, 1)
    planes = []
    for low, high, gray in ((0.95, 0.85, 0.8), (0.9, 0.6, 0.79), (0.85, 0.42, 0.77)):
        if weather.night:
            low, high, gray = 0.04, 0.01, 0.03
        clear = np.float32(low) + np.float32(high - low) * rise
        planes.append(clear + (np.float32(gray) - clear) * clouds)
    shine = np.full_like(clouds, -1)
    cold = np.float32(weather.air - 3)
    cold = cold + np.float32(weather.sky - weather.air) * np.sqrt(rise)
    heat = cold + np.float32(0.6) * (np.float32(weather.air - 4) - cold) * clouds
    return {
        'rgb': cv2.merge([*planes, shine]),
        'ir': cv2.merge([heat, np.zeros_like(heat)]),
    }


def _stands_out(
    image: np.ndarray, codes: np.ndarray, code: int, box: tuple, step: float
) -> bool:
    """Whether an object differs from its surroundings by at least `step` on average."""
    x, y, w, h = box
    m = 2 + max(w, h) // 6
    window = np.s_[max(y - m, 0) : y + h + m, max(x - m, 0) : x + w + m]
    inside = codes[window] == code
    part = image[window]
    around = part[~inside]
    if not around.size:
        return True
    return float(np.abs(part[inside] - around.mean()).mean()) >= step


def _look_at(
    image: np.ndarray, codes: np.ndarray, areas: dict[int, int], code: int, step: float
) -> tuple[tuple[int, int, int, int] | None, bool]:
    """Return the box of an object (None if too occluded), and whether it stands out."""
    mask = (codes == code).view(np.uint8)
    box = tuple(cv2.boundingRect(mask))
    seen = cv2.countNonZero(mask)
    if seen < max(MIN_AREA, MIN_SEEN * areas.get(code, 0)) or min(box[2:]) < MIN_SIDE:
        return None, False
    return box, _stands_out(image, codes, code, box, step)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run cv2 on one thread, for the same bytes on every machine."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _cameras(
    rng: np.random.Generator, size: tuple[int, int], baseline: float
) -> dict[Modality, Camera]:
    width, height = size
    focal, horizon = rng.uniform(0.9, 1.15) * width, rng.uniform(0.4, 0.53) * height
    eye = rng.uniform(1.3, 1.9)
    return {
        'rgb': Camera(size, focal, horizon, eye),
        'ir': Camera(size, focal, horizon, eye, baseline),
    }


def render_scene(
    seed: int | Sequence[int],
    size: tuple[int, int] = (640, 512),
    night: bool | None = None,
    baseline: float = 0.12,
    far: float = FAR,
) -> Scene:
    """Render one scene; equal arguments give equal bytes.

    Args:
        seed: Random seed.
        size: Width and height of both images in px.
        night: Night or day; None draws one at random. Temperatures do not depend on it.
        baseline: Distance in m from the visible camera to the thermal one on its right.
        far: Largest distance of labeled objects in m, above 9. Nearer objects are
            larger, so the scenes are easier.

    Returns:
        Both images and all labels.
    """
    world, street_seed, visible, thermal = map(
        np.random.default_rng, np.random.SeedSequence(seed).spawn(4)
    )
    weather = Weather.draw(world, night)
    cameras = _cameras(world, size, baseline)
    street = build_street(street_seed, weather)
    cast = Cast(street, weather, cameras['rgb'].height, [], [], list(street.lamps), far)
    for populate in (_cars, _people, _bicycles, _dogs):
        populate(world, cast)
    items = street.items + cast.items
    haze = (0.8, 0.76, 0.72) if not weather.night else (0.25, 0.25, 0.25)
    air = Air(weather.air, haze, weather.sight)
    with _one_thread():
        sky = _sky(world, weather, cameras['rgb'])
        seen = {m: rasterize(items, cameras[m], air, m, sky[m]) for m in cameras}
        ambient = (
            visible.uniform(0.008, 0.06)
            if weather.night
            else (visible.uniform(0.5, 1.1))
        )
        grain = texture(visible, size[::-1])
        lights = light_map(cameras['rgb'], weather, cast.lamps, ambient)
        radiance = visible_light(sky['rgb'], grain, *lights)
        heat = sky['ir'][..., 0] + sky['ir'][..., 1] * texture(thermal, size[::-1])
        raw = thermal_camera(thermal, heat)
        picture = automatic_gain(
            raw, *thermal.uniform((0, 0.01, 3e-4), (0.6, 0.35, 4e-3))
        )
        rgb = visible_camera(visible, radiance, weather.night)
        gray = tone(cv2.cvtColor(radiance, cv2.COLOR_BGR2GRAY))
        objects = _label(cast, seen, {'rgb': (gray, 0.045), 'ir': (heat, 0.6)})
    return Scene(
        rgb, picture, raw, objects, {m: codes for m, (codes, _) in seen.items()},
        weather.night, {'rgb': 2 * int(weather.night), 'ir': 1},
    )  # fmt: skip


def _label(
    cast: Cast,
    seen: dict[Modality, tuple[np.ndarray, dict[int, int]]],
    clean: dict[Modality, tuple[np.ndarray, float]],
) -> tuple[SceneObject, ...]:
    """Return the labels of all objects visible in at least one image."""
    depth = {item.code: item.depth for item in cast.items}
    objects = []
    for k, (label, identity) in enumerate(cast.labels):
        (box_rgb, rgb), (box_ir, ir) = (
            _look_at(clean[m][0], *seen[m], FIRST_OBJECT + k, clean[m][1])
            for m in ('rgb', 'ir')
        )
        if box_rgb or box_ir:
            objects.append(
                SceneObject(
                    label,
                    identity,
                    FIRST_OBJECT + k,
                    depth[FIRST_OBJECT + k],
                    box_rgb,
                    box_ir,
                    rgb,
                    ir,
                )
            )
    return tuple(sorted(objects, key=lambda thing: thing.depth))
