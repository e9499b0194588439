"""Layer widths of the YOLOv7 family, one entry per size."""

from dataclasses import dataclass

_SILU = dict(type='SiLU')
_LEAKY = dict(type='LeakyReLU', negative_slope=0.1)


@dataclass(frozen=True)
class Arch:
    """Architecture of one YOLOv7 size.

    Attributes:
        act_cfg: Activation of every convolution.
        stem: (channels, stride) of the 3x3 convolutions before the stages.
        stages: (hidden, out) channels of the ELAN blocks of the four stages.
        stage_block: `depth` and `tap` of these blocks.
        pool_only: Downsample by max pooling (backbone) and a strided convolution (neck)
            instead of the two-branch block.
        pyramid: Channels of the neck at strides 8, 16 and 32.
        neck_block: `hidden` and `width` of the neck's ELAN blocks as fractions of
            their input, with their `depth` and `tap`.
        rep_out: Whether output layers are re-parameterizable.
        out: Channels passed to the head at strides 8, 16 and 32.
    """

    act_cfg: dict
    stem: tuple[tuple[int, int], ...]
    stages: tuple[tuple[int, int], ...]
    stage_block: dict
    pool_only: bool
    pyramid: tuple[int, int, int]
    neck_block: dict
    rep_out: bool
    out: tuple[int, int, int]


ARCHS = {
    'tiny': Arch(
        act_cfg=_LEAKY,
        stem=((32, 2), (64, 2)),
        stages=((32, 64), (64, 128), (128, 256), (256, 512)),
        stage_block=dict(depth=2, tap=1),
        pool_only=True,
        pyramid=(64, 128, 256),
        neck_block=dict(hidden=0.25, width=0.25, depth=2, tap=1),
        rep_out=False,
        out=(128, 256, 512),
    ),
    'l': Arch(
        act_cfg=_SILU,
        stem=((32, 1), (64, 2), (64, 1)),
        stages=((64, 256), (128, 512), (256, 1024), (256, 1024)),
        stage_block=dict(depth=4, tap=2),
        pool_only=False,
        pyramid=(128, 256, 512),
        neck_block=dict(hidden=0.5, width=0.25, depth=4, tap=1),
        rep_out=True,
        out=(256, 512, 1024),
    ),
    'x': Arch(
        act_cfg=_SILU,
        stem=((40, 1), (80, 2), (80, 1)),
        stages=((64, 320), (128, 640), (256, 1280), (256, 1280)),
        stage_block=dict(depth=6, tap=2),
        pool_only=False,
        pyramid=(160, 320, 640),
        neck_block=dict(hidden=0.4, width=0.4, depth=6, tap=2),
        rep_out=False,
        out=(320, 640, 1280),
    ),
}


def get_arch(arch: str) -> Arch:
    """Return the entry `arch` of `ARCHS`.

    Raises:
        ValueError: Unknown size.
    """
    if arch not in ARCHS:
        raise ValueError(f'unknown YOLOv7 arch {arch!r}, choose from {sorted(ARCHS)}')
    return ARCHS[arch]
