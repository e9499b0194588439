"""Models of the visible and the thermal sensor."""

from collections.abc import Sequence

import cv2
import numpy as np

from .parts import Camera, Lamp
from .weather import Weather

COUNTS = 1 << 14  # raw values of a 14-bit camera
COARSE = 4  # stride in px of the grid on which light is computed


def noise(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Draw standard normal float32 values."""
    return rng.standard_normal(tuple(shape), dtype=np.float32)


def texture(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draw an (H, W) float32 texture of about unit variance with four scales."""
    out = 0.6 * noise(rng, shape)
    for step, weight in ((3, 0.6), (11, 0.35), (45, 0.35)):
        coarse = noise(rng, (shape[0] // step + 2, shape[1] // step + 2))
        fine = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_LINEAR)
        out += np.float32(weight) * fine
    return out


def vignette(shape: tuple[int, int]) -> np.ndarray:
    """Return the (H, W) float32 squared distance from the center, 1 in the corners."""
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None]
    return (x * x + y * y) / 2


def light_map(
    camera: Camera, weather: Weather, lamps: Sequence[Lamp], ambient: float
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the light on surfaces and the glare of lamps in view.

    Args:
        camera: Visible camera.
        weather: Day or night.
        lamps: Light sources.
        ambient: Ambient light.

    Returns:
        (H, W) float32 light and (H, W, 3) float32 BGR glare.
    """
    width, height = camera.size
    shape = (height // COARSE + 1, width // COARSE + 1)
    light = np.full(shape, ambient, np.float32)
    glare = np.zeros((*shape, 3), np.float32)
    rows = np.arange(shape[0], dtype=np.float32) * COARSE
    cols = np.arange(shape[1], dtype=np.float32) * COARSE
    for lamp in lamps if weather.night else ():
        point = np.array(lamp.point)
        u, v = camera.project(point)
        scale = camera.focal / max(point[2], 2.0)
        reach = width * (0.008 + 0.05 * lamp.power / (1 + point[2] / 25))
        x, y = np.abs(cols - u) / reach, np.abs(rows - v) / reach
        halo = lamp.power * np.exp(-np.hypot(x[None], y[:, None]))
        glare += halo[..., None] * np.array(lamp.color, np.float32)
        if lamp.pool:
            foot = camera.project(point * (1, 0.15, 1))[1]
            x, y = (cols - u) / (lamp.pool * scale), (rows - foot) / (lamp.pool * scale)
            light += 0.5 * lamp.power * np.exp(-(x**2)[None] - (y**2)[:, None])
    size = (width, height)
    return cv2.resize(light, size), cv2.resize(glare, size)


def visible_light(
    canvas: np.ndarray, grain: np.ndarray, light: np.ndarray, glare: np.ndarray
) -> np.ndarray:
    """Compute the light that reaches the visible camera.

    Args:
        canvas: (H, W, 4) float32 BGR reflectance and grain (-1: emits light).
        grain: (H, W) float32 texture.
        light: (H, W) float32 incoming light.
        glare: (H, W, 3) float32 added light.

    Returns:
        (H, W, 3) float32 radiance; 1 is white by day.
    """
    strength = canvas[..., 3]
    lit = light * np.maximum(1 + strength * grain, 0)
    lit[strength < 0] = 1
    return canvas[..., :3] * cv2.merge([lit, lit, lit]) + glare


def tone(radiance: np.ndarray) -> np.ndarray:
    """Apply the tone curve of the visible camera: gamma 0.75, as two square roots."""
    root = np.sqrt(radiance)
    return root * np.sqrt(root)


def visible_camera(
    rng: np.random.Generator, radiance: np.ndarray, night: bool
) -> np.ndarray:
    """Simulate optics, noise and tone curve of a color camera.

    Args:
        rng: Generator for noise and camera imperfections.
        radiance: (H, W, 3) float32 light.
        night: High gain: more noise and blur.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    shape = radiance.shape[:2]
    unit = shape[1] / 640
    blur = rng.uniform(0.5, 1.3) * unit + (0.4 * unit if night else 0)
    image = cv2.GaussianBlur(radiance, (0, 0), max(blur, 0.3))
    shading = 1 - np.float32(rng.uniform(0.1, 0.45)) * vignette(shape)
    balance = rng.uniform(0.93, 1.07, 3).astype(np.float32)
    image = tone(image * cv2.merge([shading * share for share in balance]))
    sigma = rng.uniform(0.012, 0.03) if night else rng.uniform(0.004, 0.014)
    gray, color = noise(rng, shape), noise(rng, (shape[0] // 2 + 1, shape[1] // 2 + 1))
    color = cv2.resize(color, shape[::-1], interpolation=cv2.INTER_NEAREST)
    shot = np.float32(sigma) * (0.5 + 0.7 * np.sqrt(image[..., 1]))
    tint = np.float32(0.6) * color
    image += cv2.merge([shot * (gray + tint), shot * gray, shot * (gray - tint)])
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def thermal_camera(rng: np.random.Generator, heat: np.ndarray) -> np.ndarray:
    """Simulate optics, noise and fixed pattern of an uncooled camera without AGC.

    Args:
        rng: Generator for noise and camera imperfections.
        heat: (H, W) float32 apparent temperature in degrees Celsius.

    Returns:
        (H, W) uint16 raw 14-bit counts, about 28 counts per kelvin.
    """
    shape = heat.shape
    unit = shape[1] / 640
    image = cv2.GaussianBlur(heat, (0, 0), max(rng.uniform(0.7, 1.5) * unit, 0.3))
    counts = 6800 + rng.uniform(-500, 500) + rng.uniform(24, 32) * image
    counts += rng.normal(0, 25) * vignette(shape)  # uncorrected lens shading
    counts += rng.uniform(1, 5) * noise(rng, (1, shape[1]))  # fixed pattern: columns
    counts += rng.uniform(0.5, 2) * noise(rng, (shape[0], 1))
    counts += rng.uniform(2, 7) * noise(rng, shape)
    dead = rng.integers(0, counts.size, 6)
    counts.ravel()[dead] += rng.normal(0, 300, 6).astype(np.float32)
    return np.clip(np.rint(counts), 0, COUNTS - 1).astype(np.uint16)


def automatic_gain(
    raw: np.ndarray, blend: float, low: float = 0.003, high: float = 0.003
) -> np.ndarray:
    """Convert raw counts to an 8-bit image, like the camera's automatic gain control.

    Blends a linear stretch between two percentiles with plateau histogram equalization
    (the histogram is clipped at three times its mean).

    Args:
        raw: (H, W) uint16 14-bit counts.
        blend: Weight of the equalization, 0 to 1.
        low: Fraction of pixels the linear stretch maps to black.
        high: Fraction of pixels the linear stretch maps to white.

    Returns:
        (H, W) uint8.
    """
    histogram = np.bincount(raw.ravel(), minlength=COUNTS)
    share = np.cumsum(histogram) / raw.size
    black = np.searchsorted(share, low, side='right')
    white = np.searchsorted(share, 1 - high)
    line = (np.arange(COUNTS) - black) / max(white - black, 1)
    filled = histogram[histogram > 0]
    equal = np.cumsum(np.minimum(histogram, 3 * filled.mean()))
    table = (1 - blend) * np.clip(line, 0, 1) + blend * equal / equal[-1]
    return np.rint(255 * table).astype(np.uint8)[raw]
