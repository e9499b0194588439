"""Cars: an extruded side profile at any angle, cold when parked, warm when driven."""

import numpy as np

from .actors import cloth_color
from .parts import Lamp, Part, disc, lying
from .weather import Weather

# Profiles from the rear bottom over the roof to the front bottom: s in car lengths
# (front at +0.5), y in car heights. `glass`: the edges of the rear and front windows.
KINDS = {
    'sedan': {
        'size': (4.5, 1.45, 1.8),
        'profile': [(-.50, .18), (-.50, .58), (-.47, .67), (-.36, .70), (-.22, .98),
                 (.08, 1.0), (.24, .68), (.44, .58), (.50, .45), (.50, .18)],
        'glass': (3, 5),
        'side': [(-.31, .71), (-.20, .93), (.06, .94), (.20, .71)],
    },
    'hatch': {
        'size': (3.9, 1.52, 1.72),
        'profile': [(-.50, .18), (-.50, .62), (-.43, .95), (-.30, 1.0), (.08, .99),
                 (.26, .66), (.45, .56), (.50, .42), (.50, .18)],
        'glass': (1, 4),
        'side': [(-.42, .67), (-.38, .91), (.05, .93), (.22, .69)],
    },
    'van': {
        'size': (4.9, 2.0, 1.9),
        'profile': [(-.50, .15), (-.50, .60), (-.49, .95), (-.45, 1.0), (.26, .98),
                 (.42, .60), (.49, .48), (.50, .15)],
        'glass': (1, 4),
        'side': [(-.08, .60), (-.08, .90), (.24, .90), (.37, .62)],
    },
}  # fmt: skip
PAINTS = (
    (0.85, 0.85, 0.85), (0.55, 0.56, 0.58), (0.30, 0.30, 0.31), (0.06, 0.06, 0.07),
    (0.45, 0.16, 0.08), (0.10, 0.10, 0.50), (0.15, 0.30, 0.12), (0.35, 0.55, 0.65),
)  # fmt: skip
GLASS = (0.14, 0.13, 0.11)
BLACK = (0.04, 0.04, 0.04)


class Car:
    """One car in world coordinates.

    Args:
        rng: Generator for kind, paint and temperatures.
        weather: Temperatures of air and sky, strength of the sun.
        where: Ground position (X, Z) of the center in m.
        yaw: Heading in rad, 0 away from the camera, pi towards it.
        driven: Warm engine, tires and exhaust; lights on at night.
        eye: Height of the cameras in m, which determines the visible faces.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        weather: Weather,
        where: tuple[float, float],
        yaw: float,
        driven: bool,
        eye: float,
    ) -> None:
        kind = KINDS[rng.choice(list(KINDS), p=[0.4, 0.4, 0.2])]
        self.length, self.height, self.width = kind['size'] * rng.uniform(0.93, 1.07, 3)
        self.profile = np.array(kind['profile']) * (self.length, self.height)
        self.window = np.array(kind['side']) * (self.length, self.height)
        self.glass = kind['glass']
        self.paint = PAINTS[rng.integers(len(PAINTS))]
        self.where, self.yaw, self.driven = where, yaw, driven
        self.night, self.eye = weather.night, eye
        self.air = weather.air
        sky = weather.sky - weather.air
        self.heat = {
            'body': rng.uniform(-1.5, 2.0) + 9 * weather.sun * rng.random() ** 2,
            'hood': rng.uniform(2, 13) if driven else rng.exponential(1.2),
            'grill': rng.uniform(5, 20) if driven else rng.exponential(1.0),
            'wheel': rng.uniform(3, 14) if driven else rng.normal(0, 1.0),
            'exhaust': rng.uniform(6, 30) if driven else 0.0,
            'up': sky * rng.uniform(0.06, 0.22),  # slanted glass reflects the cold sky
            'side': rng.uniform(-2.5, 1.5),
            'shade': rng.uniform(1, 5) if driven else rng.uniform(-2.0, 0.3),
        }
        self.bumper = cloth_color(rng) if rng.random() < 0.2 else self.paint

    def place(self, s: np.ndarray, y: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Map car coordinates (forward, up, right) in m to world points (..., 3)."""
        s, y, t = np.broadcast_arrays(*(np.asarray(a, float) for a in (s, y, t)))
        sin, cos = np.sin(self.yaw), np.cos(self.yaw)
        x = self.where[0] + s * sin + t * cos
        return np.stack([x, y, self.where[1] + s * cos - t * sin], -1)

    def _half(self, y: np.ndarray) -> np.ndarray:
        lean = np.clip((np.asarray(y) / self.height - 0.62) / 0.38, 0, 1)
        return self.width / 2 * (1 - 0.2 * lean)

    def _faces_us(self, middle: np.ndarray, normal: np.ndarray) -> bool:
        return float((middle - (0, self.eye, 0)) @ normal) < 0

    def _part(
        self, points: np.ndarray, color: tuple, heat: str, grain: float = 0.05
    ) -> Part:
        return Part(points, color, self.air + self.heat[heat], grain)

    def _edge(self, k: int) -> tuple[float, list[Part]] | None:
        """Return depth and parts of the k-th strip across the car, None if hidden."""
        (s0, y0), (s1, y1) = self.profile[k], self.profile[k + 1]
        h0, h1 = self._half(y0), self._half(y1)
        quad = self.place((s0, s1, s1, s0), (y0, y1, y1, y0), (-h0, -h1, h1, h0))
        origin = self.place(0, 0, 0)
        normal = self.place(-(y1 - y0), s1 - s0, 0) - origin
        if not self._faces_us(quad.mean(0), normal):
            return None
        tilt = (s1 - s0) / np.hypot(s1 - s0, y1 - y0)
        front = s0 + s1 > 0
        shade = 0.62 + 0.38 * tilt
        color = tuple(c * shade for c in self.paint)
        where = 'hood' if front and abs(s0 + s1) > 0.3 * self.length else 'body'
        parts = [self._part(quad, color, where)]
        if k in self.glass:
            inset = quad.mean(0) + (quad - quad.mean(0)) * 0.86
            parts.append(self._part(inset, GLASS, 'up', 0.12))
        elif y0 < 0.2 * self.height or y1 < 0.2 * self.height:
            parts += self._end(front)
        return float(quad[:, 2].mean()), parts

    def _end(self, front: bool) -> list[Part]:
        """Return bumper, plate, lights, tires and exhaust of the front or rear end."""
        s = self.length / 2 * (1.002 if front else -1.002)
        h, w, sign = self.height, self.width / 2, 1 if front else -1

        def rect(y0: float, y1: float, t0: float, t1: float) -> np.ndarray:
            """Return a rectangle in the plane of this end."""
            return self.place(s, (y0, y0, y1, y1), (t0, t1, t1, t0))

        parts = [
            self._part(rect(0.0, 0.22 * h, -w, -w + 0.22), BLACK, 'wheel'),
            self._part(rect(0.0, 0.22 * h, w - 0.22, w), BLACK, 'wheel'),
            self._part(rect(0.18 * h, 0.3 * h, -w, w), self.bumper, 'body'),
            self._part(rect(0.3 * h, 0.37 * h, -0.26, 0.26), (0.7,) * 3, 'body'),
        ]
        if front:
            grill = rect(0.28 * h, 0.46 * h, -0.55 * w, 0.55 * w)
            parts.insert(3, self._part(grill, BLACK, 'grill', 0.1))
        else:
            low = rect(0.08 * h, 0.17 * h, 0.25 * w, 0.6 * w)
            parts.append(self._part(low, (0.1,) * 3, 'exhaust'))
        shine = self.night and self.driven
        red = (0.1, 0.08, 0.9 if shine else 0.45)
        color = ((1.0, 1.0, 1.0) if shine else (0.6,) * 3) if front else red
        heat = self.air + self.heat['grill' if front else 'body']
        for t in (-1, 1):
            lens = rect(0.36 * h, 0.47 * h, t * 0.95 * w, t * 0.62 * w)
            parts.append(Part(lens, color, heat + 2 * sign, 0.05, shine))
        return parts

    def _side(self, t: int) -> tuple[float, list[Part]] | None:
        """Return depth and parts of the right (1) or left (-1) side, None if hidden."""
        s, y = self.profile.T
        plane = self.place(s, y, t * self._half(y))
        normal = self.place(0, 0, t) - self.place(0, 0, 0)
        if not self._faces_us(plane.mean(0), normal):
            return None
        color = tuple(0.8 * c for c in self.paint)
        panes = self.place(*self.window.T, t * self._half(self.window[:, 1]) * 1.01)
        parts = [
            self._part(plane, color, 'body'),
            self._part(panes, GLASS, 'side', 0.12),
        ]
        return float(plane[:, 2].mean()) - 0.1, parts + self._wheels(t)

    def _wheels(self, t: int) -> list[Part]:
        parts = []
        for s in (-0.31, 0.31):
            for radius, color, heat in (
                (0.33, BLACK, 'wheel'),
                (0.2, (0.4,) * 3, 'wheel'),
            ):
                flat = disc(s * self.length, 0.33, radius, radius)
                points = self.place(*flat.T, t * self.width / 2 * 1.01)
                parts.append(self._part(points, color, heat))
        return parts

    def shadow(self, ground: tuple[float, float, float], heat: float) -> Part:
        """Return the shadow below the car: dark in RGB, warm or cool in thermal."""
        s, t = 0.52 * self.length, 0.52 * self.width
        points = self.place((-s, s, s, -s), 0.0, (-t, -t, t, t))
        color = tuple(0.35 * c for c in ground)
        return Part(lying(points[:, ::2]), color, heat + self.heat['shade'])

    def parts(self) -> list[Part]:
        """Return the faces towards the camera, farthest first."""
        belly = self.place(
            (-0.46 * self.length, 0.46 * self.length) * 2,
            np.array((0.1, 0.1, 0.3, 0.3)) * self.height,
            0.0,
        )[[0, 1, 3, 2]]
        faces = [self._edge(k) for k in range(len(self.profile) - 1)]
        faces += [self._side(-1), self._side(1)]
        seen = sorted((f for f in faces if f), key=lambda f: -f[0])
        out = [self._part(belly, BLACK, 'body')]
        return out + [part for _, parts in seen for part in parts]

    def lamps(self) -> list[Lamp]:
        """Return the lights at night: strong headlights ahead, weak rear lights."""
        if not (self.night and self.driven):
            return []
        front = np.cos(self.yaw) < 0
        color, power = ((1.0, 0.95, 0.9), 0.8) if front else ((0.1, 0.05, 0.9), 0.15)
        s = self.length / 2 * (1 if front else -1)
        points = self.place(s, 0.42 * self.height, np.array((-0.4, 0.4)) * self.width)
        return [Lamp(tuple(p), color, power) for p in points]
