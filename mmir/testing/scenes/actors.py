"""People, bicycles and dogs, built from parts.

Color and heat are drawn independently, so bright things are not necessarily warm.
"""

import numpy as np

from .parts import Part, box, disc, limb, ring, upright
from .weather import Weather

SKINS = ((0.45, 0.55, 0.78), (0.30, 0.42, 0.62), (0.18, 0.26, 0.40))
HAIRS = ((0.05, 0.05, 0.06), (0.10, 0.16, 0.26), (0.30, 0.42, 0.50), (0.5, 0.5, 0.5))


def cloth_color(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw the BGR color of a garment: mostly dull, sometimes vivid."""
    gray = rng.choice([0.06, 0.12, 0.25, 0.5, 0.75], p=[0.3, 0.25, 0.2, 0.15, 0.1])
    tint = rng.uniform(-1, 1, 3) * rng.choice([0.05, 0.35], p=[0.7, 0.3])
    return tuple(np.clip(gray + tint * (0.3 + gray), 0.03, 0.95))


class Look:
    """Appearance of one identity in every scene: body, clothes and their insulation.

    Args:
        identity: Number of the person.
    """

    def __init__(self, identity: int) -> None:
        rng = np.random.default_rng(np.random.SeedSequence((71, identity)))
        self.height = rng.normal(1.70, 0.09) * rng.choice([1, 0.7], p=[0.93, 0.07])
        self.build = rng.uniform(0.85, 1.25)
        self.skin = SKINS[rng.integers(3)]
        self.hair = HAIRS[rng.integers(4)]
        self.top, self.bottom, self.shoe, self.bag = (
            cloth_color(rng) for _ in range(4)
        )
        self.coat = rng.random() < 0.25
        self.carries = rng.choice(['', 'back', 'hand'], p=[0.55, 0.25, 0.2])
        # Fraction of the body's excess temperature that shows through the clothes.
        self.leak = rng.uniform((0.12, 0.18, 0.05), (0.6, 0.65, 0.3))


def _joints(
    height: float, yaw: float, gait: float, ride: bool
) -> dict[str, np.ndarray]:
    """Return joints as (right, up) in m; yaw 0 faces away, pi/2 to the right."""
    swing = 0.45 * np.sin(gait)
    if ride:  # forward, up, lateral: on the saddle, hands on the bar
        pedal = 0.17 * np.array([np.cos(gait), np.sin(gait)])
        hip, shoulder, head = (-0.18, 0.93), (0.10, 1.42), (0.18, 1.66)
        feet = [(0.02 + pedal[0], 0.30 + pedal[1]), (0.02 - pedal[0], 0.30 - pedal[1])]
        knees = [(0.25, 0.68 + pedal[1] * 0.7), (0.25, 0.68 - pedal[1] * 0.7)]
        hands, elbows = [(0.45, 1.06)] * 2, [(0.24, 1.16)] * 2
        unit = 1.0
    else:  # in body heights
        unit = height
        hip, shoulder, head = (0, 0.51), (0.01, 0.81), (0.02, 0.935)
        feet = [(swing * 0.5, 0.02), (-swing * 0.5, 0.02 + 0.03 * abs(swing))]
        knees = [(swing * 0.3 + 0.02, 0.27), (0.03 - swing * 0.2, 0.27)]
        hands = [(-swing * 0.4 + 0.03, 0.48), (swing * 0.4 + 0.03, 0.48)]
        elbows = [(-swing * 0.25, 0.64), (swing * 0.25, 0.64)]
    spread = 1.0 / unit if ride else 1.0

    def flat(point: tuple[float, float], lateral: float = 0.0) -> np.ndarray:
        """Project a joint (forward, up) onto the image plane."""
        side = np.sin(yaw) * point[0] + np.cos(yaw) * lateral * spread
        return unit * np.array([side, point[1]])

    out = {'hip': flat(hip), 'shoulder': flat(shoulder), 'head': flat(head)}
    for k, sign in enumerate((-1, 1)):
        out[f'foot{k}'] = flat(feet[k], 0.05 * sign)
        out[f'knee{k}'] = flat(knees[k], 0.06 * sign)
        out[f'hand{k}'] = flat(hands[k], (0.17 if not ride else 0.25) * sign)
        out[f'elbow{k}'] = flat(elbows[k], (0.15 if not ride else 0.25) * sign)
        out[f'sleeve{k}'] = flat(shoulder, 0.11 * sign)
    return out


class _Body:
    """Parts of a person: the clothes and how warm they are."""

    def __init__(
        self,
        rng: np.random.Generator,
        weather: Weather,
        look: Look,
        where: tuple[float, float],
        yaw: float,
        ride: bool,
    ) -> None:
        self.joints = _joints(look.height, yaw, rng.uniform(0, 2 * np.pi), ride)
        self.look, self.where, self.yaw, self.ride = look, where, yaw, ride
        self.size = look.height if not ride else 1.7
        self.skin = weather.skin + rng.normal(0, 0.5)
        self.excess = self.skin - weather.air
        leak = np.clip(look.leak + rng.normal(0, 0.06, 3), 0.02, 0.9)
        self.top, self.bottom, self.hair = weather.air + self.excess * leak
        self.cold = weather.air + rng.normal(0, 0.8)
        self.parts: list[Part] = []

    def add(
        self,
        shape: np.ndarray,
        color: tuple[float, float, float],
        heat: float,
        grain: float = 0.1,
    ) -> None:
        """Add a shape in front of the others."""
        self.parts.append(Part(upright(shape, *self.where), color, heat, grain))

    def leg(self, k: int) -> None:
        """Add a leg with its shoe."""
        j, size, look = self.joints, self.size, self.look
        foot, knee = j[f'foot{k}'], j[f'knee{k}']
        toe = np.add(foot, (0.04 * np.sin(self.yaw) * size, 0.0))
        self.add(
            limb(j['hip'], knee, 0.10 * size, 0.075 * size), look.bottom, self.bottom
        )
        self.add(limb(knee, foot, 0.075 * size, 0.05 * size), look.bottom, self.bottom)
        shoe = limb(foot, toe, 0.05 * size, 0.04 * size)
        self.add(shoe, look.shoe, self.bottom - 0.3 * self.excess)

    def arm(self, k: int) -> None:
        """Add an arm with its hand."""
        j, size, look = self.joints, self.size, self.look
        elbow, hand = j[f'elbow{k}'], j[f'hand{k}']
        upper = limb(j[f'sleeve{k}'], elbow, 0.06 * size, 0.05 * size)
        self.add(upper, look.top, self.top)
        self.add(limb(elbow, hand, 0.05 * size, 0.04 * size), look.top, self.top)
        palm = disc(*hand, 0.025 * size, 0.03 * size, 8)
        self.add(palm, look.skin, self.skin - 2)

    def torso(self) -> None:
        """Add the trunk, with a backpack in front of or behind it."""
        j, size, look = self.joints, self.size, self.look
        wide = size * look.build * (0.15 + 0.11 * abs(np.cos(self.yaw)))
        drop = 0.17 if look.coat and not self.ride else 0.02
        trunk = limb(j['hip'] - (0, drop * size), j['shoulder'], wide * 0.95, wide)
        x, y = j['shoulder'] - (0.12 * np.sin(self.yaw) * size, 0.12 * size)
        shapes = [(trunk, look.top, self.top, 0.16)]
        if look.carries == 'back':
            bag = disc(x, y, wide * 0.45, 0.14 * size)
            shapes.append((bag, look.bag, self.cold, 0.1))
        # Seen from the front, the backpack is behind the trunk.
        for shape in shapes if np.cos(self.yaw) > -0.3 else shapes[::-1]:
            self.add(*shape)

    def head(self) -> None:
        """Add neck, face and hair."""
        j, size, look = self.joints, self.size, self.look
        neck = limb(j['shoulder'], (j['shoulder'] + j['head']) / 2, *(0.07 * size,) * 2)
        self.add(neck, look.skin, self.skin)
        x, y = j['head']
        face = disc(x, y, 0.052 * size, 0.068 * size)
        self.add(face, look.skin, self.skin + 0.5, 0.05)
        cover = 0.02 if np.cos(self.yaw) < 0.3 else -0.012  # from behind: all hair
        x, y = x - 0.02 * np.sin(self.yaw) * size, y + cover * size
        crown = disc(x, y, 0.05 * size, 0.056 * size)
        self.add(crown, look.hair, (self.hair + self.skin) / 2 - 1)


def person(
    rng: np.random.Generator,
    weather: Weather,
    look: Look,
    where: tuple[float, float],
    yaw: float,
    ride: bool = False,
) -> list[Part]:
    """Draw a walking, standing or riding person.

    Args:
        rng: Generator for the pose and the temperatures.
        weather: Determines how warm the clothes are.
        look: Appearance of the identity.
        where: Ground position (X, Z) in m.
        yaw: Heading in rad, 0 away from the camera, pi/2 to the right.
        ride: Whether the person sits on a bicycle at the same position.

    Returns:
        Parts in painting order.
    """
    body = _Body(rng, weather, look, where, yaw, ride)
    body.leg(0)
    body.leg(1)
    body.arm(0)
    body.torso()
    body.arm(1)
    body.head()
    if look.carries == 'hand' and not ride:
        x, y = body.joints['hand1']
        body.add(box(x - 0.12, y - 0.35, x + 0.12, y), look.bag, body.cold)
    return body.parts


def bicycle(
    rng: np.random.Generator,
    weather: Weather,
    where: tuple[float, float],
    yaw: float,
    ridden: bool,
) -> list[Part]:
    """Draw a bicycle: warm tires when ridden, near air temperature when parked."""
    color = cloth_color(rng)
    heat = weather.air + rng.normal(0, 1.2) + (1.0 if ridden else 0)
    tire = heat + (rng.uniform(1.0, 5.0) if ridden else rng.normal(0, 0.8))
    along = np.sin(yaw)
    along = np.sign(along or 1) * max(abs(along), 0.15)
    radius = 0.35
    hubs = [(-0.53 * along, radius), (0.53 * along, radius)]
    saddle, bar, crank = (-0.2 * along, 0.85), (0.38 * along, 0.98), (0, 0.3)
    rubber = (0.05, 0.05, 0.05)
    parts = [
        Part(
            upright(ring(*hub, radius * max(abs(along), 0.12), radius, 0.05), *where),
            rubber,
            tire,
        )
        for hub in hubs
    ]
    bones = [
        (hubs[0], crank), (crank, saddle), (saddle, hubs[0]), (crank, bar),
        (saddle, (0.33 * along, 0.8)), (hubs[1], bar),
    ]  # fmt: skip
    parts += [
        Part(upright(limb(a, b, 0.05, 0.05), *where), color, heat) for a, b in bones
    ]
    parts.append(
        Part(upright(box(saddle[0] - 0.13, 0.84, saddle[0] + 0.13, 0.92), *where),
             rubber, heat + 1)
    )  # fmt: skip
    grip = 0.28 * abs(np.cos(yaw)) + 0.06
    parts.append(
        Part(upright(box(bar[0] - grip, 0.96, bar[0] + grip, 1.02), *where),
             rubber, heat)
    )  # fmt: skip
    if rng.random() < 0.4:  # a basket or a bag on the rack
        x = rng.choice([-0.5, 0.5]) * along
        cold = weather.air + rng.normal(0, 1)
        shape = box(x - 0.2, 0.75, x + 0.2, 1.0)
        parts.append(Part(upright(shape, *where), cloth_color(rng), cold, 0.2))
    return parts


def dog(
    rng: np.random.Generator, weather: Weather, where: tuple[float, float]
) -> list[Part]:
    """Draw a dog from the side, a distractor about as warm as a person."""
    side = rng.choice([-1.0, 1.0])
    color = cloth_color(rng)
    heat = weather.air + (weather.skin - weather.air) * rng.uniform(0.3, 0.7)
    shapes = [limb((x * side, 0.35), (x * side + 0.03, 0.03), 0.1, 0.07)
              for x in (-0.3, -0.22, 0.24, 0.32)]  # fmt: skip
    shapes += [
        limb((-0.36 * side, 0.45), (0.34 * side, 0.47), 0.24, 0.26),
        limb((-0.36 * side, 0.5), (-0.55 * side, 0.7), 0.06, 0.04),
        disc(0.5 * side, 0.66, 0.15, 0.12),
    ]
    return [Part(upright(shape, *where), color, heat, 0.15) for shape in shapes]
