"""Polygons with color and temperature in the world, and the cameras that see them.

World coordinates are in meters: X to the right, Y up from the ground, Z away from the
camera. The same items are rasterized once per camera, so both modalities agree on the
geometry and differ only in what the sensors measure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np

Modality = Literal['rgb', 'ir']
SUBPIXEL_BITS = 4
NEAR = 1.0  # m, smallest depth used for projection
FIRST_OBJECT = 100  # codes from here on are objects, lower ones are surroundings


@dataclass(frozen=True)
class Part:
    """Contours with one color and one temperature, filled by the even-odd rule.

    Args:
        points: (n, k, 3) or (k, 3) world points in m of n contours.
        color: Reflectance in BGR order, 0 to 1.
        heat: Temperature in degrees Celsius.
        grain: Texture strength: relative for color, times 4 K for temperature.
        light: Whether the part emits `color` instead of reflecting it.
    """

    points: np.ndarray
    color: tuple[float, float, float]
    heat: float
    grain: float = 0.06
    light: bool = False


@dataclass
class Item:
    """Parts drawn together: an object or a piece of the street.

    Args:
        depth: Distance in m, which determines occlusion.
        code: Value written to the code map (see `Scene`).
        parts: Parts in painting order.
    """

    depth: float
    code: int
    parts: list[Part] = field(default_factory=list)


@dataclass(frozen=True)
class Lamp:
    """A light source that glares at night.

    Args:
        point: (3,) world position in m.
        color: BGR, 0 to 1.
        power: Brightness of the halo.
        pool: Radius of the lit area in m, 0 for none.
    """

    point: tuple[float, float, float]
    color: tuple[float, float, float]
    power: float
    pool: float = 0.0


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera.

    Args:
        size: Width and height in px.
        focal: Focal length in px.
        horizon: Image row of the horizon in px.
        height: Height above the ground in m.
        offset: Position in m to the right of the visible camera. A point at depth Z
            appears `focal * offset / Z` px further left than in the visible image.
    """

    size: tuple[int, int]
    focal: float
    horizon: float
    height: float
    offset: float = 0.0

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project world points onto the image.

        Args:
            points: (..., 3) world points in m.

        Returns:
            (..., 2) columns and rows in px.
        """
        scale = self.focal / np.maximum(points[..., 2], NEAR)
        out = np.empty((*points.shape[:-1], 2))
        out[..., 0] = self.size[0] / 2 + (points[..., 0] - self.offset) * scale
        out[..., 1] = self.horizon + (self.height - points[..., 1]) * scale
        return out


@dataclass(frozen=True)
class Air:
    """Atmosphere between object and camera, which fades colors and temperatures.

    Args:
        heat: Temperature of the air in degrees Celsius.
        haze: BGR color of distant objects, 0 to 1.
        sight: Distance in m over which colors fade to 1/e. Temperatures fade over three
            times that distance, since the long-wave window is clearer.
    """

    heat: float
    haze: tuple[float, float, float]
    sight: float

    def seen(
        self, parts: Sequence[Part], depths: np.ndarray, modality: Modality
    ) -> np.ndarray:
        """Return the values to paint, faded with distance.

        Args:
            parts: N parts.
            depths: (N,) distances in m.
            modality: 'rgb' or 'ir'.

        Returns:
            (N, 4) b, g, r, grain or (N, 2) temperature, grain. Grain is -1 for parts
            that emit light, so they are not lit by others.
        """
        depths = np.clip(depths, NEAR, 400)[:, None]
        if modality == 'ir':
            heat = np.array([(part.heat, 4 * part.grain) for part in parts])
            keep = np.exp(-depths / (3 * self.sight))
            heat[:, :1] = self.heat + (heat[:, :1] - self.heat) * keep
            return heat
        color = np.array(
            [(*part.color, -1.0 if part.light else part.grain) for part in parts]
        )
        haze = np.array(self.haze)
        color[:, :3] = haze + (color[:, :3] - haze) * np.exp(-depths / self.sight)
        return color


def rasterize(
    items: Sequence[Item],
    camera: Camera,
    air: Air,
    modality: Modality,
    canvas: np.ndarray,
) -> tuple[np.ndarray, dict[int, int]]:
    """Paint items, farthest first.

    Args:
        items: Items to paint.
        camera: Camera that sees them.
        air: Atmosphere in between.
        modality: 'rgb' or 'ir'.
        canvas: (H, W, 4) or (H, W, 2) float32 background, painted over in place.

    Returns:
        The (H, W) int32 code map, and the number of pixels each object covered before
        nearer items were painted, by code.
    """
    items = sorted(items, key=lambda item: -item.depth)
    parts = [part for item in items for part in item.parts]
    counts = np.array([part.points.size // 3 for part in parts])
    starts = np.cumsum(counts) - counts
    points = np.concatenate([part.points.reshape(-1, 3) for part in parts])
    flat = np.clip(camera.project(points), -(1 << 14), 1 << 14)
    fixed = np.rint(flat * (1 << SUBPIXEL_BITS)).astype(np.int32)
    low = np.floor(np.minimum.reduceat(flat, starts))
    high = np.ceil(np.maximum.reduceat(flat, starts)) + 1
    shown = ((low < camera.size) & (high > 0)).all(1).tolist()
    depths = np.add.reduceat(points[:, 2], starts) / counts
    values = air.seen(parts, depths, modality).tolist()
    codes = np.zeros(canvas.shape[:2], np.int32)
    areas: dict[int, int] = {}
    k = 0
    for item in items:
        first = k
        for k, part in enumerate(item.parts, first):
            if shown[k]:
                end = starts[k] + counts[k]
                shape = (-1, part.points.shape[-2], 2)
                contours = list(fixed[starts[k] : end].reshape(shape))
                cv2.fillPoly(canvas, contours, values[k], cv2.LINE_8, SUBPIXEL_BITS)
                cv2.fillPoly(codes, contours, item.code, cv2.LINE_8, SUBPIXEL_BITS)
        k = first + len(item.parts)
        if item.code >= FIRST_OBJECT:
            corners = np.stack([low[first:k].min(0), high[first:k].max(0)])
            (left, top), (right, bottom) = np.clip(corners, 0, camera.size).astype(int)
            seen = np.count_nonzero(codes[top:bottom, left:right] == item.code)
            areas[item.code] = seen
    return codes, areas


def upright(points: np.ndarray, x: float, z: float) -> np.ndarray:
    """Place (..., 2) points (right, up) in m upright at ground position (x, z)."""
    points = np.asarray(points, float)
    out = np.empty((*points.shape[:-1], 3))
    out[..., 0], out[..., 1], out[..., 2] = points[..., 0] + x, points[..., 1], z
    return out


def lying(points: np.ndarray) -> np.ndarray:
    """Place (..., 2) points (X, Z) in m flat on the ground."""
    points = np.asarray(points, float)
    out = np.zeros((*points.shape[:-1], 3))
    out[..., 0], out[..., 2] = points[..., 0], np.maximum(points[..., 1], NEAR)
    return out


def disc(x: float, y: float, rx: float, ry: float, corners: int = 14) -> np.ndarray:
    """Return an ellipse as a (corners, 2) polygon."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], -1)


def ring(x: float, y: float, rx: float, ry: float, width: float) -> np.ndarray:
    """Return an elliptic ring as (2, 18, 2) contours."""
    inner = max(rx - width, 0.2 * rx)
    return np.stack([disc(x, y, rx, ry, 18), disc(x, y, inner, ry - width, 18)])


def box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Return an axis-aligned (4, 2) rectangle."""
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)


def limb(
    start: Sequence[float], end: Sequence[float], w0: float, w1: float
) -> np.ndarray:
    """Return a thick segment with a beveled end as a (6, 2) polygon, widths in m."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    along = (end - start) / max(float(np.linalg.norm(end - start)), 1e-6)
    across = np.array([-along[1], along[0]])
    a, b = across * w0 / 2, across * w1 / 2
    tip = end + along * w1 / 3
    return np.stack([start + a, end + b, tip + b / 3, tip - b / 3, end - b, start - a])


def blob(
    rng: np.random.Generator, x: float, y: float, rx: float, ry: float
) -> np.ndarray:
    """Return an irregular (24, 2) patch around a center."""
    radius = 1 + 0.3 * np.convolve(rng.standard_normal(26), (0.5, 0.7, 0.5), 'valid')
    return (disc(0, 0, rx, ry, 24) * radius[:, None]) + (x, y)
