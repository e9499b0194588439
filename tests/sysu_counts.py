"""Number of images per camera and identity of SYSU-MM01, for trees of its size."""

import json
from collections.abc import Iterator
from pathlib import Path

COUNTS = json.loads(Path(__file__).with_name('sysu_mm01_counts.json').read_text())


def images(
    cams: tuple[int, ...], identities: list[int]
) -> Iterator[tuple[int, int, str]]:
    """Yield (identity, camera, file name) of every image."""
    for identity in identities:
        for cam in cams:
            number = COUNTS['count'][str(cam)].get(str(identity), 0)
            for k in range(1, number + 1):
                yield identity, cam, f'{k:04d}.jpg'


def columns(cams: tuple[int, ...], identities: list[int]) -> tuple[list, list, list]:
    """Identities, cameras and names of every image."""
    return tuple(map(list, zip(*images(cams, identities), strict=True)))
