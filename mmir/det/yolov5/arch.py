"""Widths and depths of the YOLOv5 family, one entry per size."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Arch:
    """Architecture of one YOLOv5 size, with strides up to 32 (P5).

    Attributes:
        width: Channels of the stem. Each stage doubles them.
        depth: Bottlenecks of the smallest block.
    """

    width: int
    depth: int

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the stem and of the four stages."""
        return tuple(self.width * factor for factor in (1, 2, 4, 8, 16))

    @property
    def depths(self) -> tuple[int, ...]:
        """Bottlenecks of the four stages; each block of the neck has `depth`."""
        return tuple(self.depth * factor for factor in (1, 2, 3, 1))

    @property
    def out(self) -> tuple[int, ...]:
        """Channels of backbone, neck and head at strides 8, 16 and 32."""
        return self.channels[2:]


ARCHS = {
    'n': Arch(width=16, depth=1),
    's': Arch(width=32, depth=1),
    'm': Arch(width=48, depth=2),
    'l': Arch(width=64, depth=3),
    'x': Arch(width=80, depth=4),
}

ACT = dict(type='SiLU')
"""Activation of every convolution."""

ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
"""Anchors (width, height) of the released YOLOv5, in pixels; strides 8, 16, 32."""


def get_arch(arch: str) -> Arch:
    """Return the entry `arch` of `ARCHS`.

    Raises:
        ValueError: Unknown size.
    """
    if arch not in ARCHS:
        raise ValueError(f'unknown YOLOv5 arch {arch!r}, choose from {sorted(ARCHS)}')
    return ARCHS[arch]
