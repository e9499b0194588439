"""Small flying targets against sky and tree line, one modality per image."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .parts import SUBPIXEL_BITS, Modality, blob, box, disc, limb
from .sensors import automatic_gain, noise, texture, thermal_camera, visible_camera

TARGETS = ('airplane', 'bird', 'drone', 'helicopter')
DRONE_SIZES: dict[Modality, tuple[int, int]] = {'rgb': (640, 512), 'ir': (320, 256)}
MIN_SIDE = 3  # px; smaller targets are not labeled


@dataclass(frozen=True)
class Flight:
    """An image of flying targets.

    Args:
        image: (H, W, 3) uint8 BGR for `rgb`, (H, W) uint8 for `ir`.
        labels: Class of each target, one of `TARGETS`.
        boxes: (N, 4) int (x, y, w, h) in px.
    """

    image: np.ndarray
    labels: tuple[str, ...]
    boxes: np.ndarray


def silhouette(rng: np.random.Generator, label: str) -> list[np.ndarray]:
    """Return the polygons (k, 2) of a target, about one unit wide, y up."""
    if label == 'airplane':
        near, far = rng.uniform(0.15, 0.42), rng.uniform(0.05, 0.35)
        wing = np.array([(0.14, 0), (-0.16, -near), (-0.25, -near), (-0.08, 0)])
        tail = np.array([(-0.38, 0), (-0.5, 0.17), (-0.56, 0.17), (-0.5, 0)])
        shapes = [limb((-0.5, 0.01), (0.44, 0), 0.07, 0.1), wing, tail]
        return [*shapes, wing * (0.9, -far / near)]
    if label == 'bird':
        beat = rng.uniform(-0.5, 0.9)
        shapes = [disc(0, 0, 0.16, 0.07), limb((0.1, 0.02), (0.24, 0.05), 0.07, 0.04)]
        for sign, reach in ((-1, 0.5), (1, rng.uniform(0.3, 0.5))):
            elbow, tip = (sign * 0.22, 0.25 * beat), (sign * reach, 0.2 * beat - 0.06)
            shapes += [limb((0, 0.02), elbow, 0.14, 0.1), limb(elbow, tip, 0.1, 0.02)]
        return shapes
    if label == 'drone':
        depth = rng.uniform(0.05, 0.2)
        ends = [(x, y) for x in (-0.38, 0.38) for y in (-depth, depth)]
        shapes = [box(-0.17, -0.08, 0.17, 0.08)]
        shapes += [limb((0, 0), end, 0.06, 0.04) for end in ends]
        shapes += [disc(x, y + 0.06, 0.15, 0.025 + depth / 8) for x, y in ends]
        return [*shapes, limb((-0.1, 0), (-0.16, -0.2), 0.03, 0.03),
                limb((0.1, 0), (0.16, -0.2), 0.03, 0.03)]  # fmt: skip
    rotor = rng.uniform(0.25, 0.5)
    return [
        disc(0.2, 0, 0.2, 0.12),
        limb((0.1, 0.02), (-0.45, 0.06), 0.1, 0.04),
        disc(-0.47, 0.08, 0.05, 0.09),
        limb((0.18, 0.1), (0.18, 0.17), 0.04, 0.04),
        limb((0.18 - rotor, 0.17), (0.18 + rotor, 0.18), 0.025, 0.025),
        limb((0.02, -0.16), (0.36, -0.16), 0.025, 0.025),
    ]


def _target(
    rng: np.random.Generator, label: str, size: tuple[int, int], skyline: float
) -> list[np.ndarray]:
    """Return the polygons of a target in px."""
    width, height = size
    low, high = (0.03, 0.26) if label in ('helicopter', 'airplane') else (0.028, 0.09)
    length = width * np.exp(rng.uniform(np.log(low), np.log(high)))
    roll = rng.normal(0, 0.35 if label in ('airplane', 'bird') else 0.12)
    turn = np.array([(np.cos(roll), -np.sin(roll)), (np.sin(roll), np.cos(roll))])
    squeeze = np.array((rng.choice([-1, 1]) * rng.uniform(0.6, 1), 1))
    floor = min(skyline * rng.choice([0.97, 1.25], p=[0.85, 0.15]), height * 0.95)
    middle = rng.uniform((0.05 * width, 0.06 * height), (0.95 * width, floor))
    return [(s * squeeze @ turn) * (length, -length) + middle
            for s in silhouette(rng, label)]  # fmt: skip


def _fill(canvas: np.ndarray, polygon: np.ndarray, value: Sequence[float]) -> None:
    fixed = np.rint(polygon * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], tuple(map(float, value)), cv2.LINE_8, SUBPIXEL_BITS)


class _Look:
    """Tones of the image: three reflectances or one temperature."""

    def __init__(self, rng: np.random.Generator, modality: Modality) -> None:
        self.rng, self.rgb = rng, modality == 'rgb'
        if self.rgb:
            blue = rng.random()
            self.zenith = np.array((0.8, 0.5 + 0.2 * blue, 0.3 + 0.4 * blue))
            self.low = np.array((0.9, 0.82, 0.75)) * rng.uniform(0.6, 1.0)
            self.cloud = np.full(3, rng.uniform(0.45, 0.95))
            self.ground = np.array((0.12, 0.28, 0.2)) * rng.uniform(0.4, 1.4)
        else:
            self.zenith = np.array([rng.uniform(-35, -5)])
            self.low = self.zenith + rng.uniform(4, 18)
            self.cloud = self.low + rng.uniform(-2, 5)
            self.ground = self.low + rng.uniform(2, 14)

    def woods(self) -> np.ndarray:
        """Draw the tone of a tree line."""
        if self.rgb:
            return np.array((0.1, 0.14, 0.13)) * self.rng.uniform(0.4, 1.6)
        return self.ground + self.rng.uniform(-3, 3)

    def target(self, sky: np.ndarray) -> np.ndarray:
        """Draw a tone darker (RGB) or warmer (infrared) than the sky."""
        if self.rgb:
            dark = sky * self.rng.uniform(0.2, 0.75)
            return dark + self.rng.uniform(0, 0.05, 3)
        return sky + np.exp(self.rng.uniform(np.log(5), np.log(40)))

    def speck(self, sky: np.ndarray) -> np.ndarray:
        """Draw the tone of a distractor."""
        if self.rgb:
            return sky * self.rng.uniform(0.4, 1.1)
        return sky + self.rng.uniform(-2, 12)


def _surroundings(look: _Look, size: tuple[int, int], skyline: float) -> np.ndarray:
    """Paint sky, clouds, tree line, ground and poles: (H, W, C) float32."""
    rng, (width, height) = look.rng, size
    rise = np.clip(1 - np.arange(height, dtype=np.float32) / max(skyline, 1), 0, 1)
    clouds = np.zeros((height, width), np.float32)
    for cells, weight in ((5, 0.6), (13, 0.35)):
        coarse = noise(rng, (cells, cells))
        clouds += weight * cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    clouds = np.clip(clouds + rng.uniform(-1.2, 0.9), 0, 1)[..., None]
    sky = look.low + (look.zenith - look.low) * np.sqrt(rise)[:, None, None]
    canvas = np.ascontiguousarray(
        sky + (look.cloud - sky) * clouds * rng.uniform(0.3, 1), dtype=np.float32
    )
    unit = width / 640
    for x in np.arange(-20, 660, rng.uniform(12, 40)) * unit:
        tall = rng.uniform(4, 14) * rng.choice([1, 3], p=[0.85, 0.15]) * unit
        wide = rng.uniform(8, 26) * unit
        _fill(canvas, blob(rng, x, skyline - tall / 2, wide, tall), look.woods())
    _fill(canvas, box(-9, skyline, width + 9, height + 9), look.ground)
    for _ in range(rng.integers(0, 3)):  # poles and masts
        x, tall = rng.uniform(0, width), rng.uniform(20, 140) * unit
        _fill(canvas, limb((x, skyline + 9), (x, skyline - tall), 3, 2), look.woods())
    for _ in range(rng.integers(0, 5)):  # insects, leaves, bits of cloud
        x, y = rng.uniform((0, 0), (width, max(skyline, 9)))
        shape = blob(rng, x, y, *(rng.uniform(1, 7, 2) * unit))
        near = canvas[min(int(y), height - 1), int(x)]
        _fill(canvas, shape, look.speck(near))
    return canvas


def render_flight(
    seed: int | Sequence[int], modality: Modality, size: tuple[int, int] | None = None
) -> Flight:
    """Render one image of flying targets; equal arguments give equal bytes.

    Args:
        seed: Random seed.
        modality: 'rgb' or 'ir'.
        size: Width and height in px. Default: (640, 512) for RGB, (320, 256) for
            infrared.

    Returns:
        Image and labels. Most images show one target.
    """
    size = size or DRONE_SIZES[modality]
    scenery, flyers, camera = map(
        np.random.default_rng, np.random.SeedSequence(seed).spawn(3)
    )
    look = _Look(scenery, modality)
    skyline = scenery.uniform(0.62, 1.15) * size[1]
    canvas = _surroundings(look, size, skyline)
    boxes, labels = [], []
    for _ in range(flyers.choice([1, 2], p=[0.92, 0.08])):
        label = str(flyers.choice(TARGETS))
        polygons = _target(flyers, label, size, skyline)
        x, y = np.clip(polygons[0].mean(0), 0, np.array(size) - 1).astype(int)
        tone = look.target(canvas[y, x].astype(float))
        mask = np.zeros(size[::-1], np.uint8)
        for polygon in polygons:
            part = (
                tone * flyers.uniform(0.75, 1.2)
                if look.rgb
                else (tone + flyers.normal(0, 1.2))
            )
            _fill(canvas, polygon, part)
            _fill(mask, polygon, (1,))
        extent = cv2.boundingRect(mask)
        if min(extent[2:]) >= MIN_SIDE:
            boxes.append(extent)
            labels.append(label)
    grain = texture(camera, size[::-1])
    if look.rgb:
        below = np.arange(size[1])[:, None] > skyline
        canvas *= (
            1
            + np.where(below, np.float32(0.15), np.float32(0.01))[..., None]
            * (grain[..., None])
        )
        image = visible_camera(camera, canvas, night=False)
    else:
        raw = thermal_camera(camera, canvas[..., 0] + np.float32(0.3) * grain)
        image = automatic_gain(
            raw, *camera.uniform((0, 0.001, 1e-4), (0.3, 0.03, 6e-3))
        )
    return Flight(image, tuple(labels), np.array(boxes, int).reshape(-1, 4))
