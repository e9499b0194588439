"""Galleries of the trials: drawn by a seed, or from SYSU-MM01's own permutations."""

import random
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np

from mmir.evaluation.protocols import Protocol, get_protocol
from mmir.utils.errors import UserError

Permutations = Mapping[tuple[int, int], np.ndarray]
"""(camera, identity) -> order (trials, images) of its images, numbered from 1."""


def draw_galleries(
    protocol: str | Protocol,
    ids: Sequence[int],
    cams: Sequence[int],
    names: Sequence[str],
    permutations: Permutations | None = None,
) -> list[np.ndarray]:
    """Draw the galleries of all trials from a pool of images.

    - `seed`: for trial t, Python's `random` with the seed t chooses one image for every
      identity in ascending order and every camera in ascending order, from the file
      names in ascending order. This is the release of AGW (Ye et al., TPAMI 2021), bit
      for bit; its galleries of different sets of cameras are different draws.
    - `official`: the first images of the permutations that come with SYSU-MM01.
    - `all`: one trial with all images.

    Args:
        protocol (str | Protocol): Rules, or the name of a protocol.
        ids (Sequence[int]): Identities (N,) of the pool. Images of cameras that the
            protocol does not search are left out.
        cams (Sequence[int]): Cameras (N,).
        names (Sequence[str]): File names (N,), unique within identity and camera.
        permutations (Mapping, optional): The official permutations, see
            :func:`load_permutations`.

    Returns:
        list[np.ndarray]: Indices (n,) into the pool for every trial, int64, in the
        order they are drawn.

    Raises:
        UserError: The pool is empty, permutations are needed but missing, or they do
            not fit the images.
    """
    rules = get_protocol(protocol)
    files = _files(rules, ids, cams, names)
    if not files:
        raise UserError(
            f'{rules.name}: no image of the cameras {list(rules.gallery_cams)} to draw '
            'a gallery from'
        )
    if rules.draw == 'all':
        return [np.sort(np.concatenate([np.array(f) for f in files.values()]))]
    if rules.draw == 'official':
        return [_official(rules, files, permutations, t) for t in range(rules.trials)]
    # A generator of its own gives the numbers of `random.seed(t)`, undisturbed.
    return [
        np.array([generator.choice(images) for images in files.values()])
        for generator in map(random.Random, range(rules.trials))
    ]


def _files(
    rules: Protocol, ids: Sequence[int], cams: Sequence[int], names: Sequence[str]
) -> dict[tuple[int, int], list[int]]:
    """Map (identity, camera) to its images by name, all in ascending order."""
    if not len(ids) == len(cams) == len(names):
        raise UserError(
            f'{len(ids)} ids, {len(cams)} cams and {len(names)} names: one of each per '
            'image is needed'
        )
    files: dict[tuple[int, int], list[int]] = {}
    for index in sorted(range(len(ids)), key=lambda i: names[i]):
        if not rules.gallery_cams or cams[index] in rules.gallery_cams:
            files.setdefault((int(ids[index]), int(cams[index])), []).append(index)
    return dict(sorted(files.items()))


def _official(
    rules: Protocol,
    files: Mapping[tuple[int, int], list[int]],
    permutations: Permutations | None,
    trial: int,
) -> np.ndarray:
    """Take the first images of the permutation of a trial."""
    if permutations is None:
        raise UserError(
            f'{rules.name} needs the permutations of SYSU-MM01: read '
            'exp/rand_perm_cam.mat by mmir.evaluation.load_permutations'
        )
    chosen: list[int] = []
    for (identity, camera), images in files.items():
        order = permutations.get((camera, identity), np.zeros((0, 0), int))
        numbers = order[trial, : rules.shots] if trial < len(order) else []
        if len(order) <= trial or order.shape[1] != len(images):
            raise UserError(
                f'{rules.name}: identity {identity}, camera {camera} has '
                f'{len(images)} images, but the permutations of trial {trial} list '
                f'{order.shape[1]}. Are the images complete?'
            )
        chosen += [images[number - 1] for number in numbers]
    return np.array(chosen)


def load_permutations(path: str | Path) -> dict[tuple[int, int], np.ndarray]:
    """Read the official permutations of SYSU-MM01, `exp/rand_perm_cam.mat`.

    Args:
        path (str | Path): MATLAB file with the cell `rand_perm_cam`: one cell per
            camera, in it one matrix (trials, images) per identity.

    Returns:
        dict[tuple[int, int], np.ndarray]: (camera, identity) -> matrix of int64.
        Identities without images in a camera are left out.

    Raises:
        ImportError: SciPy is not installed.
        UserError: The file is missing or holds something else.
    """
    if not Path(path).is_file():
        raise UserError(
            f'{path} not found. It comes with the evaluation code of SYSU-MM01'
        )
    try:
        matlab = import_module('scipy.io')
    except ImportError as error:
        raise ImportError(f'reading {path} needs SciPy: `pip install scipy`') from error
    try:
        cell = matlab.loadmat(str(path))['rand_perm_cam']
    except (KeyError, ValueError, TypeError, NotImplementedError) as error:
        raise UserError(
            f'{path} is not a MATLAB file (before 7.3) with the cell rand_perm_cam: '
            f'{error}'
        ) from error
    return {
        (camera, identity): matrix
        for camera, inner in enumerate(_cells(cell), 1)
        for identity, values in enumerate(_cells(inner), 1)
        if (matrix := np.atleast_2d(np.asarray(values)).astype(np.int64)).size
    }


def _cells(cell: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the entries of a MATLAB cell, which may be wrapped in cells of one."""
    while cell.dtype == object and cell.size == 1 and cell.flat[0].dtype == object:
        cell = cell.flat[0]
    yield from cell.flat
