"""Weather of a scene, shared by both cameras."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Weather:
    """Temperatures and light.

    Args:
        night: Whether it is night. Temperatures do not depend on it.
        air: Air temperature in degrees Celsius.
        skin: Temperature of bare skin in degrees Celsius.
        sun: Heating by the sun, now or in the past hours, 0 to 1.
        sky: Temperature of the sky overhead in degrees Celsius.
        clouds: Cloud cover, 0 to 1.
        sight: Distance in m over which colors fade to 1/e.
    """

    night: bool
    air: float
    skin: float
    sun: float
    sky: float
    clouds: float
    sight: float

    @classmethod
    def draw(cls, rng: np.random.Generator, night: bool | None) -> 'Weather':
        """Draw random weather; `night=None` draws day or night as well."""
        dark = rng.random() < 0.45
        air = rng.uniform(2, 30)
        return cls(
            night=bool(dark if night is None else night),
            air=air,
            skin=25.5 + 0.28 * air + rng.normal(0, 0.6),
            sun=float(rng.random()),
            sky=air - rng.uniform(18, 45),
            clouds=float(rng.random()),
            sight=float(np.exp(rng.uniform(np.log(80), np.log(500)))),
        )
