"""Street: ground, buildings, trees, lamps and distractors."""

from dataclasses import dataclass, field

import numpy as np

from .actors import cloth_color
from .parts import Item, Lamp, Part, blob, box, disc, limb, lying, upright
from .weather import Weather

STUFF = ('sky', 'building', 'vegetation', 'road', 'pavement', 'pole', 'clutter')
CODE = {name: k for k, name in enumerate(STUFF)}
FAR = 130.0  # m, end of the street
GROUND = 1000.0  # painting depth of the ground, behind everything that stands
WARM_LIGHT = (0.45, 0.75, 1.0)


@dataclass
class Street:
    """A street and what stands along it.

    Args:
        half: Half of the road's width in m.
        walk: Width of each pavement in m.
        road: BGR reflectance of the asphalt.
        road_heat: Its temperature in degrees Celsius.
        items: Everything but people, cars and bicycles.
        lamps: Street lamps and lit windows.
    """

    half: float
    walk: float
    road: tuple[float, float, float]
    road_heat: float
    items: list[Item] = field(default_factory=list)
    lamps: list[Lamp] = field(default_factory=list)


def build_street(rng: np.random.Generator, weather: Weather) -> Street:
    """Draw a random street for the given weather."""
    gray = rng.uniform(0.16, 0.42)
    road = tuple(gray * rng.uniform(0.93, 1.07, 3))
    street = Street(
        half=rng.uniform(3.2, 6.5),
        walk=rng.uniform(2.0, 4.5),
        road=road,
        road_heat=weather.air + rng.uniform(-2, 2.5) + 5 * weather.sun * rng.random(),
    )
    _ground(rng, weather, street)
    _patches(rng, weather, street)
    for side in (-1, 1):
        _buildings(rng, weather, street, side)
        _trees(rng, weather, street, side)
        _poles(rng, weather, street, side)
        _clutter(rng, weather, street, side)
    _end(rng, weather, street)
    return street


def _strip(x0: float, x1: float) -> np.ndarray:
    return lying(box(x0, 1.0, x1, FAR))


def _ground(rng: np.random.Generator, weather: Weather, street: Street) -> None:
    tone = rng.uniform(0.3, 0.55)
    pave = tuple(tone * rng.uniform(0.9, 1.1, 3))
    warm = street.road_heat + rng.uniform(-2.5, 1.5)
    green = rng.random() < 0.4
    verge = (0.10, 0.26, 0.16) if green else pave
    cool = weather.air + rng.uniform(-3, 0.5) if green else warm
    edge, outer = street.half, street.half + street.walk
    parts = [
        Part(_strip(-90, 90), verge, cool, 0.2 if green else 0.1),
        Part(_strip(-outer, outer), pave, warm, 0.1),
    ]
    road = [Part(_strip(-edge, edge), street.road, street.road_heat, 0.09)]
    for side in (-1, 1):
        curb = _strip(side * edge - 0.12, side * edge + 0.12)
        road.append(Part(curb, (0.6, 0.62, 0.62), warm + 1, 0.1))
    z = np.arange(3.0, FAR - 4, 7.0)[:, None, None]
    dash = box(-0.07, 0, 0.07, 3.0) + z * np.array((0, 1.0))
    paint = (0.75, 0.76, 0.76)
    road.append(Part(lying(dash), paint, street.road_heat - 0.6, 0.15))
    if rng.random() < 0.35:  # zebra crossing
        start = rng.uniform(8, 30)
        x = np.arange(-edge + 0.5, edge - 0.5, 1.0)[:, None, None]
        stripes = box(0, start, 0.5, start + 3.5) + x * np.array((1.0, 0))
        road.append(Part(lying(stripes), paint, street.road_heat - 0.8, 0.15))
    street.items.append(Item(GROUND, CODE['pavement'], parts))
    street.items.append(Item(GROUND - 1, CODE['road'], road))


def _patches(rng: np.random.Generator, weather: Weather, street: Street) -> None:
    """Sunny and shaded areas, repairs, puddles, manholes; heat independent of tone."""
    parts = []
    for _ in range(rng.integers(3, 9)):
        shape = blob(
            rng, rng.uniform(-street.half, street.half) * 1.5,
            np.exp(rng.uniform(2.2, 4.2)), rng.uniform(0.3, 1.8), rng.uniform(0.5, 2.5),
        )  # fmt: skip
        tone = rng.uniform(0.75, 1.2)
        color = tuple(tone * c for c in street.road)
        heat = street.road_heat + rng.normal(0, 1.0 + 2.5 * weather.sun)
        parts.append(Part(lying(shape), color, heat, 0.1))
    for _ in range(rng.integers(0, 4)):  # manholes, warmed by the sewer
        shape = disc(
            rng.uniform(-street.half, street.half), rng.uniform(6, 40), 0.35, 0.35
        )
        heat = street.road_heat + rng.uniform(1, 12)
        parts.append(Part(lying(shape), (0.2, 0.2, 0.2), heat))
    if rng.random() < 0.3:
        shape = blob(rng, rng.uniform(-3, 3), rng.uniform(7, 25), 1.2, 1.8)
        mirror = weather.air + 0.25 * (weather.sky - weather.air)
        parts.append(Part(lying(shape), (0.5, 0.45, 0.42), mirror, 0.05))
    street.items.append(Item(GROUND - 2, CODE['road'], parts))


def _wall(x: float, y0: float, y1: float, z0: float, z1: float) -> np.ndarray:
    return np.array([(x, y0, z0), (x, y0, z1), (x, y1, z1), (x, y1, z0)])


def _buildings(
    rng: np.random.Generator, weather: Weather, street: Street, side: int
) -> None:
    if rng.random() < 0.15:
        return
    x = side * (street.half + street.walk + rng.uniform(0.5, 9))
    z = rng.uniform(1.5, 25)
    while z < FAR:
        depth, height = rng.uniform(9, 28), rng.uniform(4, 22)
        end = z + depth
        tone = rng.uniform(0.15, 0.7)
        warm_tint = rng.uniform(0, 0.35) * (rng.random() < 0.5)  # brick to concrete
        color = tuple(tone * np.array((1 - warm_tint, 1 - 0.6 * warm_tint, 1.0)))
        heat = weather.air + rng.uniform(-2, 3) + 7 * weather.sun * rng.random() ** 2
        facade = _wall(x, 0, height, z, end)
        front = np.array(
            [(x, 0, z), (x + 25 * side, 0, z), (x + 25 * side, height, z),
             (x, height, z)]
        )  # fmt: skip
        parts = [
            Part(front, tuple(0.8 * c for c in color), heat - 1, 0.12),
            Part(facade, color, heat, 0.1),
        ]
        parts += _windows(rng, weather, (x, z, end, height), heat)
        if rng.random() < 0.5:  # chimney or vent on the roof
            at = z + 0.3 * depth
            stack = box(0, height - 0.2, 0.9, height + rng.uniform(0.8, 2.0))
            hot = heat + rng.uniform(0, 25)
            parts.append(Part(upright(stack, x, at), (0.2, 0.2, 0.3), hot))
        street.items.append(Item((z + end) / 2 + 5, CODE['building'], parts))
        z = end + (rng.uniform(0, 1) if rng.random() < 0.6 else rng.uniform(3, 20))


def _windows(
    rng: np.random.Generator,
    weather: Weather,
    wall: tuple[float, float, float, float],
    heat: float,
) -> list[Part]:
    """Return a grid of windows in three states: cool mirror, leaking warmth, lit."""
    x, z0, z1, height = wall
    pitch = rng.uniform(2.2, 4.0)
    z = np.arange(z0 + 1, z1 - 1.6, pitch)
    y = np.arange(1.0 if rng.random() < 0.5 else 3.6, height - 1.5, 3.1)
    if not (len(z) and len(y)):
        return []
    tall, wide = rng.uniform(1.1, 2.0), rng.uniform(0.8, 1.5)
    corner = np.stack(np.meshgrid(y, z), -1).reshape(-1, 1, 2)
    shift = np.array([(0, 0), (0, wide), (tall, wide), (tall, 0)])
    points = np.empty((len(corner), 4, 3))
    points[..., 0], points[..., 1:] = x, corner + shift
    mirror = (weather.sky - weather.air) * rng.uniform(0.02, 0.2)
    states = (
        ((0.16, 0.14, 0.12), heat + mirror, False),
        ((0.25, 0.24, 0.22), heat + rng.uniform(1, 9), False),
        (
            WARM_LIGHT if weather.night else (0.3, 0.3, 0.3),
            heat + mirror / 2 + rng.uniform(0, 3),
            weather.night,
        ),
    )
    state = rng.choice(3, len(points), p=[0.6, 0.2, 0.2])
    return [
        Part(points[state == k], color, warm, 0.06, light)
        for k, (color, warm, light) in enumerate(states)
        if (state == k).any()
    ]


def _trees(
    rng: np.random.Generator, weather: Weather, street: Street, side: int
) -> None:
    green = np.array((0.08, 0.22, 0.14)) * rng.uniform(0.6, 1.5)
    for _ in range(rng.integers(0, 7)):
        x = side * (street.half + rng.uniform(0.8, street.walk + 6))
        z = np.exp(rng.uniform(np.log(7), np.log(100)))
        heat = weather.air + rng.uniform(-2.5, 1.0)
        tall = rng.uniform(3.5, 9)
        shrub = rng.random() < 0.3
        parts = []
        if not shrub:
            trunk = limb((0, 0), (rng.normal(0, 0.2), 0.7 * tall), 0.3, 0.16)
            bark = heat + rng.uniform(-1, 3)
            parts.append(Part(upright(trunk, x, z), (0.12, 0.15, 0.18), bark, 0.2))
        wide, base = (1.0, 0.45) if shrub else (0.32 * tall, 0.72 * tall)
        for _ in range(12):
            dx, dy = rng.normal(0, 0.5, 2) * (wide, 0.3 * base)
            shape = blob(rng, dx, base + dy, 0.5 * wide, 0.28 * base)
            color = tuple(np.clip(green * rng.uniform(0.5, 1.5), 0, 1))
            warm = heat + rng.normal(0, 0.6)
            parts.append(Part(upright(shape, x, z), color, warm, 0.3))
        street.items.append(Item(z, CODE['vegetation'], parts))


def _poles(
    rng: np.random.Generator, weather: Weather, street: Street, side: int
) -> None:
    """Street lamps, evenly spaced along the curb."""
    if rng.random() < 0.2:
        return
    x = side * (street.half + 0.5)
    lit = rng.random() < 0.85
    heat = weather.air + rng.normal(0, 1.5) + 3 * weather.sun
    bulb = heat + rng.uniform(0, 18)
    tint = WARM_LIGHT if rng.random() < 0.6 else (1.0, 0.98, 0.92)
    for z in np.arange(rng.uniform(6, 22), 95, rng.uniform(17, 30)):
        tall = 6.0
        head = (-side * 1.2, tall)
        color = tint if lit and weather.night else (0.5, 0.5, 0.5)
        parts = [
            Part(upright(limb((0, 0), (0, tall), 0.16, 0.09), x, z), (0.3,) * 3, heat),
            Part(upright(limb((0, tall), head, 0.08, 0.08), x, z), (0.3,) * 3, heat),
            Part(upright(disc(*head, 0.32, 0.12), x, z), color, bulb, 0.02,
                 lit and weather.night),
        ]  # fmt: skip
        street.items.append(Item(z, CODE['pole'], parts))
        if lit:
            street.lamps.append(Lamp((x + head[0], tall, z), tint, 0.5, 7.0))


def _clutter(
    rng: np.random.Generator, weather: Weather, street: Street, side: int
) -> None:
    """Distractors of the size of people, cars and bicycles."""
    for _ in range(rng.integers(2, 8)):
        x = side * (street.half + rng.uniform(0.3, street.walk + 2))
        z = np.exp(rng.uniform(np.log(7), np.log(75)))
        heat = weather.air + rng.choice([rng.normal(0, 1.2), rng.uniform(2, 14)])
        color = cloth_color(rng)
        kind = rng.integers(5)
        if kind == 0:  # bollard or post, upright like a person
            shape = limb((0, 0), (0, rng.uniform(0.8, 1.9)), 0.28, 0.24)
            parts = [Part(upright(shape, x, z), color, heat, 0.1)]
        elif kind == 1:  # vending machine, cabinet, bin
            shape = box(-0.45, 0, 0.45, rng.uniform(0.9, 1.9))
            parts = [Part(upright(shape, x, z), color, heat, 0.12)]
            vent = box(-0.3, 0.2, 0.3, 0.5)
            parts.append(Part(upright(vent, x, z), (0.1,) * 3, heat + 3))
        elif kind == 2:  # poster of a person: visible in color only
            shapes = [box(-0.7, 0.3, 0.7, 2.1), disc(0, 1.7, 0.13, 0.16),
                      limb((0, 1.5), (0, 0.5), 0.45, 0.35)]  # fmt: skip
            tones = [(0.8, 0.8, 0.78), (0.4, 0.5, 0.7), color]
            parts = [
                Part(upright(s, x, z), c, heat, 0.05)
                for s, c in zip(shapes, tones, strict=True)
            ]
        elif kind == 3:  # warm figure-like spot on a wall: visible in thermal only
            shapes = [limb((0, 0.3), (0, 1.4), 0.4, 0.3), disc(0, 1.6, 0.16, 0.18)]
            wall = cloth_color(rng)
            parts = [Part(upright(box(-0.8, 0, 0.8, 2.3), x, z), wall, heat, 0.08)]
            warm = heat + rng.uniform(1, 6)
            parts += [Part(upright(s, x, z), wall, warm, 0.08) for s in shapes]
        else:  # rack of hoops and rails, thin like bicycles
            rails = [limb((d, 0), (d + 0.1, 0.8), 0.06, 0.06)
                     for d in np.arange(-0.8, 0.9, 0.4)]  # fmt: skip
            rails.append(limb((-0.9, 0.8), (0.9, 0.8), 0.06, 0.06))
            parts = [Part(upright(r, x, z), color, heat, 0.05) for r in rails]
        street.items.append(Item(z, CODE['clutter'], parts))


def _end(rng: np.random.Generator, weather: Weather, street: Street) -> None:
    """Distant houses and trees at the end of the street."""
    for x in np.arange(-110, 110, 9.0):
        leafy = rng.random() < 0.5
        tall = rng.uniform(4, 18)
        heat = weather.air + rng.uniform(-2, 1.5)
        tone = rng.uniform(0.6, 1.3)
        base = (0.10, 0.22, 0.15) if leafy else (0.4, 0.4, 0.42)
        shape = (
            blob(rng, x, tall * 0.4, 7, tall * 0.6)
            if leafy
            else box(x - 6, 0, x + 6, tall)
        )
        part = Part(
            upright(shape, 0, FAR), tuple(np.clip(tone * np.array(base), 0, 1)), heat,
            0.2 if leafy else 0.1,
        )  # fmt: skip
        code = CODE['vegetation' if leafy else 'building']
        street.items.append(Item(FAR + rng.uniform(0, 5), code, [part]))
