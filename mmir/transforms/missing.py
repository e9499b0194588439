"""Drop modalities from a paired sample."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from mmir.structures import ABSENT, IMAGES, MODALITIES, PATHS, PairError, require_pair

FILLS = ('absent', 'zero', 'noise')
"""How a dropped modality is filled. Models are told only about 'absent'."""

Fill = Literal['absent', 'zero', 'noise']


def stand_in(img: np.ndarray, fill: Fill, rng: np.random.Generator) -> np.ndarray:
    """Make the replacement for a dropped image.

    Args:
        img (np.ndarray): The image, any shape, integers or floats.
        fill (str): 'absent' and 'zero' give zeros. 'noise' gives uniform noise: in
            0..255 for uint8, between the extremes of the image for other dtypes.
        rng (np.random.Generator): Generator of the noise.

    Returns:
        np.ndarray: Same shape and dtype.
    """
    if fill != 'noise':
        return np.zeros_like(img)
    if img.dtype == np.uint8:
        return rng.integers(0, 256, img.shape, np.uint8)
    low, high = float(img.min()), float(img.max())
    noise = low + (high - low) * rng.random(img.shape, np.float32)
    return noise.clip(low, high).astype(img.dtype)


@TRANSFORMS.register_module()
class DropModality(BaseTransform):
    """Drop modalities of a paired sample, at random or always the same ones.

    With `probs`, each modality is dropped independently with its own probability. At
    least one is kept: if all present ones would be dropped, one of them is kept,
    chosen uniformly. So with two modalities and probabilities p and q, the first is
    dropped in `p * (1 - q / 2)` of the samples. With `subset`, exactly these are kept.

    Place it right before :class:`PackPairedInputs`: padding or photometric transforms
    after it would write into a zero-filled or noisy image.

    Required keys: those of :class:`LoadPairedImages`.
    Changed keys: imgs (a dropped modality keeps its shape and dtype) and, with
    `fill='absent'`, absent. Modalities that are already absent stay absent.

    Args:
        probs (Mapping[str, float], optional): Modality -> drop probability, 0 for
            modalities not listed. Drawn from numpy's global generator.
        subset (Sequence[str], optional): Modalities to keep. Give either this or
            `probs`.
        fill (str): 'absent' writes zeros and lists the modality in `absent`, so models
            and preprocessors can tell. 'zero' and 'noise' are robustness tests: a dead
            camera (zeros) or a broken one (uniform noise), without telling the model.

    Raises:
        ValueError: Options contradict each other or have an unknown value.
        PairError: The sample is not paired, lacks a named modality, or would be left
            without any.
    """

    def __init__(
        self,
        probs: Mapping[str, float] | None = None,
        subset: Sequence[str] | None = None,
        fill: Fill = 'absent',
    ) -> None:
        if (probs is None) == (subset is None):
            raise ValueError('DropModality: give either probs or subset')
        if fill not in FILLS:
            raise ValueError(f'DropModality: fill must be one of {FILLS}, got {fill!r}')
        if subset is not None and (isinstance(subset, str) or not subset):
            raise ValueError(
                f'DropModality: subset must list the modalities to keep, such as '
                f"('ir',), got {subset!r}"
            )
        if any(not 0 <= p <= 1 for p in (probs or {}).values()):
            raise ValueError(f'DropModality: probs must be in [0, 1], got {probs}')
        self.probs = None if probs is None else dict(probs)
        self.subset = None if subset is None else tuple(subset)
        self.fill = fill

    def transform(self, results: dict) -> dict:
        """Drop the modalities.

        Args:
            results (dict): A paired sample.

        Returns:
            dict: The sample.
        """
        require_pair(results, 'DropModality')
        names = results[MODALITIES]
        given = self.probs if self.subset is None else self.subset
        if unknown := [name for name in given if name not in names]:
            raise PairError(
                f'DropModality: unknown modalities {unknown}; the sample has '
                f'{tuple(names)}'
            )
        before = results.get(ABSENT, ())
        present = [name for name in names if name not in before]
        gone = self._drawn(present) if self.subset is None else self._others(present)
        if not gone:
            return results
        if not set(present) - set(gone):
            raise PairError(
                f'DropModality: no modality would be left: {results.get(PATHS)} has '
                f'only {present}, subset is {self.subset}'
            )
        # one draw only, so the global state afterward does not depend on image size
        seed = np.random.randint(2**31)  # noqa: NPY002
        rng = np.random.default_rng(seed)
        imgs = dict(results[IMAGES])
        for name in gone:
            imgs[name] = stand_in(imgs[name], self.fill, rng)
        told = {*before, *gone} if self.fill == 'absent' else set(before)
        return results | {
            IMAGES: imgs,
            ABSENT: tuple(name for name in names if name in told),
        }

    def _drawn(self, present: Sequence[str]) -> list[str]:
        """Draw which of the present modalities to drop, but never all."""
        draws = np.random.random(len(present))  # noqa: NPY002
        gone = [
            name
            for name, draw in zip(present, draws, strict=True)
            if draw < self.probs.get(name, 0)
        ]
        if len(gone) == len(present):
            gone.remove(gone[np.random.randint(len(gone))])  # noqa: NPY002
        return gone

    def _others(self, present: Sequence[str]) -> list[str]:
        return [name for name in present if name not in self.subset]

    def __repr__(self) -> str:
        """Show the options."""
        return (
            f'{type(self).__name__}(probs={self.probs}, subset={self.subset}, '
            f'fill={self.fill!r})'
        )
