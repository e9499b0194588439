"""Images of single people, as cut out by a detector: several cameras, two modalities.

An identity looks alike in every camera: same clothes, build, bag and bare skin. Pose,
heading, light and background change from image to image. Visible cameras show colors;
infrared ones show heat, so that only shape, bare skin and what is carried remain.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .actors import Look, _Body
from .parts import (
    FIRST_OBJECT,
    Air,
    Camera,
    Item,
    Modality,
    Part,
    box,
    disc,
    limb,
    lying,
    rasterize,
    upright,
)
from .scene import _one_thread
from .sensors import (
    automatic_gain,
    texture,
    thermal_camera,
    visible_camera,
    visible_light,
)
from .street import CODE
from .weather import Weather

DISTANCE = 8.0
"""Distance in m from camera to person; people are scaled to the image anyway."""

OVERSAMPLING = 2
"""Size of the sensor relative to the image, which is averaged."""


class PersonLook(Look):
    """Appearance of an identity, with what both modalities show of it.

    Args:
        identity: Number of the person.
    """

    def __init__(self, identity: int) -> None:
        super().__init__(identity)
        rng = np.random.default_rng(np.random.SeedSequence((72, identity)))
        self.height = rng.normal(1.72, 0.08)
        self.build = rng.uniform(0.75, 1.45)
        self.short_sleeves = rng.random() < 0.4
        self.legs = rng.choice(['long', 'shorts', 'skirt'], p=[0.5, 0.25, 0.25])
        self.hat = rng.random() < 0.25
        self.long_hair = rng.random() < 0.35
        self.coat = self.coat and self.legs == 'long'
        self.carries = rng.choice(['', 'back', 'hand'], p=[0.35, 0.35, 0.3])
        self.top, self.bottom, self.bag = (_garment(rng) for _ in range(3))


def _garment(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw a BGR color; vivid ones are more frequent than in the street."""
    hue, vivid = rng.uniform(0, 180), rng.random() < 0.6
    saturation = rng.uniform(120, 230) if vivid else rng.uniform(0, 50)
    pixel = np.uint8([[[hue, saturation, rng.uniform(40, 235)]]])
    return tuple(float(v) / 255 for v in cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0])


class _Walker(_Body):
    """Parts of a walking person with bare arms or legs, skirt, hat and long hair."""

    def leg(self, k: int) -> None:
        """Add a leg; below shorts or a skirt it is bare."""
        if self.look.legs == 'long':
            super().leg(k)
            return
        j, size, look = self.joints, self.size, self.look
        foot, knee, hip = j[f'foot{k}'], j[f'knee{k}'], j['hip']
        warm = self.skin - 1
        self.add(limb(knee, foot, 0.07 * size, 0.05 * size), look.skin, warm)
        self.add(limb(hip, knee, 0.09 * size, 0.075 * size), look.skin, warm)
        if look.legs == 'shorts':
            end = hip + 0.75 * (knee - hip)
            cloth = limb(hip, end, 0.11 * size, 0.10 * size)
            self.add(cloth, look.bottom, self.bottom)
        toe = np.add(foot, (0.04 * np.sin(self.yaw) * size, 0.0))
        self.add(limb(foot, toe, 0.05 * size, 0.04 * size), look.shoe, self.cold + 2)

    def skirt(self) -> None:
        """Add the skirt in front of both legs."""
        j, size, look = self.joints, self.size, self.look
        knees = (j['knee0'] + j['knee1']) / 2
        wide = size * look.build
        shape = limb(j['hip'], knees, 0.16 * wide, 0.24 * wide)
        self.add(shape, look.bottom, self.bottom)

    def arm(self, k: int) -> None:
        """Add an arm; the forearm is bare below short sleeves."""
        super().arm(k)
        if self.look.short_sleeves:
            elbow, hand = self.joints[f'elbow{k}'], self.joints[f'hand{k}']
            shape = limb(elbow, hand, 0.05 * self.size, 0.04 * self.size)
            self.add(shape, self.look.skin, self.skin - 1)

    def head(self) -> None:
        """Add the head with long hair and a hat."""
        super().head()
        look, size = self.look, self.size
        x, y = self.joints['head']
        cool = (self.hair + self.cold) / 2
        if look.long_hair:
            back = 0.045 * np.sin(self.yaw) * size
            width = 0.035 if np.cos(self.yaw) < 0.3 else 0.055
            wide = 2 * width * size
            shape = limb((x - back, y), (x - back, y - 0.13 * size), wide, wide)
            if np.cos(self.yaw) >= 0.3 or abs(np.sin(self.yaw)) > 0.5:
                self.add(shape, look.hair, cool)
        if look.hat:
            top = disc(x, y + 0.045 * size, 0.06 * size, 0.045 * size)
            half, low, high = 0.085 * size, y + 0.02 * size, y + 0.04 * size
            brim = box(x - half, low, x + half, high)
            self.add(top, look.bag, self.cold + 1)
            self.add(brim, look.bag, self.cold + 1)


def _walker(
    rng: np.random.Generator, weather: Weather, look: PersonLook, yaw: float
) -> list[Part]:
    """Draw a person in painting order."""
    body = _Walker(rng, weather, look, (0.0, DISTANCE), yaw, False)
    body.leg(0)
    body.leg(1)
    if look.legs == 'skirt':
        body.skirt()
    body.arm(0)
    body.torso()
    body.arm(1)
    body.head()
    if look.carries == 'hand':
        x, y = body.joints['hand1']
        body.add(box(x - 0.15, y - 0.38, x + 0.15, y), look.bag, body.cold)
    return body.parts


@dataclass(frozen=True)
class Place:
    """What a camera sees behind the people, and its light.

    Args:
        weather: Weather or room climate.
        items: Background.
        balance: White balance (3,) of the camera, BGR.
        light: Brightness.
        turn: Preferred heading of the people in rad.
        gain: Arguments of `automatic_gain` after the image.
    """

    weather: Weather
    items: Sequence[Item]
    balance: np.ndarray
    light: float
    turn: float
    gain: tuple[float, float, float]

    @classmethod
    def of(cls, room: int, camera: int, seed: int) -> 'Place':
        """Draw the place of a camera; cameras of a room share its background."""
        rng = np.random.default_rng(np.random.SeedSequence((73, seed, room)))
        own = np.random.default_rng(np.random.SeedSequence((74, seed, camera)))
        air = rng.uniform(14, 24)
        weather = Weather(False, air, 25.5 + 0.28 * air, 0.3, air - 10, 0.5, 500.0)
        return cls(
            weather,
            _background(rng, weather),
            own.uniform(0.85, 1.15, 3),
            own.uniform(0.6, 1.05),
            own.uniform(-np.pi, np.pi),
            tuple(own.uniform((0.0, 0.01, 3e-4), (0.5, 0.1, 4e-3))),
        )


def _background(rng: np.random.Generator, weather: Weather) -> list[Item]:
    """Draw a floor, a wall and things in front of it."""
    gray = rng.uniform(0.25, 0.75)
    wall = tuple(np.clip(gray * rng.uniform(0.85, 1.15, 3), 0, 1))
    floor = tuple(np.clip(rng.uniform(0.2, 0.5) * rng.uniform(0.9, 1.1, 3), 0, 1))
    parts = [
        Part(upright(box(-9, -1, 9, 8), 0, 14.0), wall, weather.air + rng.normal(0, 1)),
        Part(lying(box(-9, 1.5, 9, 14.0)), floor, weather.air + rng.normal(-1, 1)),
    ]
    for _ in range(6):
        x, width = rng.uniform(-3.5, 3.5), rng.uniform(0.15, 1.2)
        tint = rng.uniform(0.4, 1.5) * rng.uniform(0.8, 1.2, 3)
        color = tuple(np.clip(gray * tint, 0, 1))
        shape = box(x - width / 2, 0, x + width / 2, rng.uniform(0.5, 3.5))
        heat = weather.air + rng.normal(0, 1.5)
        parts.append(Part(upright(shape, 0, 13.0), color, heat))
    return [Item(100.0 - k, CODE['building'], [part]) for k, part in enumerate(parts)]


def render_person(
    seed: int | Sequence[int],
    identity: int,
    place: Place,
    modality: Modality,
    size: tuple[int, int] = (64, 128),
) -> np.ndarray:
    """Render one image of a person; equal arguments give equal bytes.

    Args:
        seed: Random seed of pose, heading, light and noise.
        identity: Number of the person.
        place: Place of the camera.
        modality: `rgb` or `ir`.
        size: Width and height of the image in px.

    Returns:
        (H, W, 3) uint8 in BGR order for `rgb`, (H, W) uint8 for `ir`.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    look = PersonLook(identity)
    yaw = place.turn + rng.choice([0, np.pi, np.pi / 2]) + rng.normal(0, 0.5)
    parts = _walker(rng, place.weather, look, yaw)
    width, height = (OVERSAMPLING * side for side in size)
    scale = height * rng.uniform(0.86, 0.95) / look.height  # px per m
    foot = height * rng.uniform(0.96, 0.99)
    eye = 2.2
    camera = Camera(
        (width, height),
        focal=scale * DISTANCE,
        horizon=foot - eye * scale,
        height=eye,
        offset=rng.normal(0, 0.04),
    )
    items = [*place.items, Item(DISTANCE, FIRST_OBJECT, parts)]
    air = Air(place.weather.air, (0.8, 0.8, 0.8), place.weather.sight)
    with _one_thread():
        canvas = np.zeros((height, width, 4 if modality == 'rgb' else 2), np.float32)
        rasterize(items, camera, air, modality, canvas)
        grain = texture(rng, (height, width))
        if modality == 'rgb':
            light = np.full((height, width), place.light * rng.uniform(0.8, 1.2))
            canvas[..., :3] *= place.balance
            dark = np.zeros((height, width, 3), np.float32)
            radiance = visible_light(canvas, grain, light.astype(np.float32), dark)
            image = visible_camera(rng, radiance.astype(np.float32), night=False)
        else:
            heat = canvas[..., 0] + canvas[..., 1] * grain
            image = automatic_gain(thermal_camera(rng, heat), *place.gain)
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
