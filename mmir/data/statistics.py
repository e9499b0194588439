"""Statistics of images and labels, accumulated sample by sample and exact."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from mmir.data.spectrum import BANDS, PowerSpectrum, band_correlation, transformed

_LUMA = (0.114, 0.587, 0.299)  # of B, G, R: ITU-R BT.601
_SMALL, _MEDIUM = 32**2, 96**2  # px, the area thresholds of COCO


@dataclass
class Intensity:
    """Per-channel statistics of the pixel values of one or more images.

    Attributes:
        kind: dtype of the images.
        count: Number of pixels per channel.
        mean: (C,) mean.
        spread: (C,) sum of squared deviations from the mean.
        low: Lowest value that occurs.
        high: Highest value that occurs.
        histogram: (C, levels) int64, count of each value; None for float.
    """

    kind: np.dtype
    count: int
    mean: np.ndarray
    spread: np.ndarray
    low: float
    high: float
    histogram: np.ndarray | None = None

    @classmethod
    def of(cls, img: np.ndarray) -> 'Intensity':
        """Measure one image.

        Args:
            img (np.ndarray): (H, W, C), uint8, uint16 or float; NaN is refused.

        Returns:
            Intensity: Its statistics.

        Raises:
            ValueError: The dtype is another, or there are NaN or infinite values.
        """
        planes = img.reshape(-1, img.shape[2]).T
        count = planes.shape[1]
        if img.dtype in (np.uint8, np.uint16):
            levels = np.iinfo(img.dtype).max + 1
            histogram = np.stack([np.bincount(p, minlength=levels) for p in planes])
            mean, spread = _moments(histogram)
            used = np.flatnonzero(histogram.sum(0))
            ends = float(used[0]), float(used[-1])
            return cls(img.dtype, count, mean, spread, *ends, histogram)
        if img.dtype.kind != 'f' or not np.isfinite(img).all():
            raise ValueError(
                'an image must be uint8, uint16 or float without NaN or infinite '
                f'values; this one is {img.dtype}'
            )
        values = planes.astype(np.float64)
        mean = values.mean(1)
        spread = ((values - mean[:, None]) ** 2).sum(1)
        ends = float(values.min()), float(values.max())
        return cls(img.dtype, count, mean, spread, *ends)

    def __add__(self, other: 'Intensity') -> 'Intensity':
        """Statistics of both, as if measured together (Chan et al., 1979)."""
        if self.kind != other.kind or len(self.mean) != len(other.mean):
            raise ValueError(
                f'an image of {other.kind} with {len(other.mean)} channels among '
                f'images of {self.kind} with {len(self.mean)}'
            )
        count = self.count + other.count
        step = other.mean - self.mean
        histogram = None
        if self.histogram is not None:
            histogram = self.histogram + other.histogram
        return Intensity(
            self.kind,
            count,
            self.mean + step * (other.count / count),
            self.spread + other.spread + step**2 * (self.count * other.count / count),
            min(self.low, other.low),
            max(self.high, other.high),
            histogram,
        )

    @property
    def std(self) -> np.ndarray:
        """np.ndarray: (C,) standard deviation over all pixels."""
        return np.sqrt(self.spread / self.count)

    @property
    def gray(self) -> bool:
        """bool: Whether all channels hold the same plane."""
        equal = (self.mean == self.mean[0]) & (self.spread == self.spread[0])
        return bool(equal.all())

    @property
    def bits(self) -> int | None:
        """int: Number of bits the highest value needs, at least 8; None for float."""
        if self.histogram is None:
            return None
        return max(8, int(self.high).bit_length())

    def saturated(self) -> tuple[float, float] | None:
        """Get the shares of values at 0 and at the maximum of `bits`.

        Returns:
            tuple[float, float] | None: Shares in 0..1; None for float.
        """
        if self.histogram is None:
            return None
        total = self.histogram.sum(0)
        top = total[2**self.bits - 1 :].sum()
        return float(total[0] / total.sum()), float(top / total.sum())

    def percentiles(self, wanted: Sequence[float]) -> list[float] | None:
        """Get percentiles of all values, by numpy's method 'inverted_cdf'.

        Args:
            wanted (Sequence[float]): Percentiles wanted, in 0..100.

        Returns:
            list[float] | None: Values that occur; None for float.
        """
        if self.histogram is None:
            return None
        below = self.histogram.sum(0).cumsum()
        at = np.asarray(wanted) / 100 * below[-1]
        found = np.searchsorted(below, np.maximum(at, 1), side='left')
        return [float(value) for value in found]

    def luminance(self) -> float:
        """Get the mean brightness.

        Returns:
            float: Mean of a single plane, or the luminance of B, G and R.
        """
        return float(self.mean[0] if len(self.mean) == 1 else self.mean @ _LUMA)


def _moments(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sum of squared deviations of each row of counts."""
    values = np.arange(histogram.shape[1], dtype=np.float64)
    mean = histogram @ values / histogram.sum(1)
    spread = (histogram * (values - mean[:, None]) ** 2).sum(1)
    return mean, spread


@dataclass
class Measured:
    """Measurements of one sample.

    Attributes:
        sizes: Modality -> width and height.
        intensity: Modality -> its pixel values; absent modalities are left out.
        spectrum: Modality -> its power spectrum.
        correlation: Names of two modalities -> (3,) correlation in each band; NaN
            if either has no structure.
        absent: Names of the modalities that are absent.
    """

    sizes: dict[str, tuple[int, int]]
    intensity: dict[str, Intensity]
    spectrum: dict[str, PowerSpectrum]
    correlation: dict[tuple[str, str], np.ndarray]
    absent: tuple[str, ...]


def measure(images: Mapping[str, np.ndarray], absent: Sequence[str] = ()) -> Measured:
    """Measure the images of one sample.

    Args:
        images (Mapping[str, np.ndarray]): Modality -> (H, W, C), BGR.
        absent (Sequence[str]): Modalities whose images are to be ignored.

    Returns:
        Measured: Input of :meth:`DatasetStatistics.add`.
    """
    there = {name: img for name, img in images.items() if name not in absent}
    waves = {
        name: transformed(img[..., 0] if img.shape[2] == 1 else img @ np.array(_LUMA))
        for name, img in there.items()
    }
    sizes = {name: (img.shape[1], img.shape[0]) for name, img in there.items()}
    return Measured(
        sizes=sizes,
        intensity={name: Intensity.of(img) for name, img in there.items()},
        spectrum={
            name: PowerSpectrum.of(wave, sizes[name][0]) for name, wave in waves.items()
        },
        correlation={
            (a, b): band_correlation(waves[a], waves[b], sizes[a][0])
            for a, b in combinations(there, 2)
            if sizes[a] == sizes[b]
        },
        absent=tuple(absent),
    )


@dataclass
class DatasetStatistics:
    """Statistics accumulated over the samples of a dataset.

    Attributes:
        samples: Number of samples added.
        complete: Number of samples without an absent modality.
        intensity: Modality -> pixel values of all its images.
        spectrum: Modality -> power spectrum of all its images.
        brightness: Modality -> mean luminance of each image.
        sizes: Modality -> how often each size (width, height) occurs.
        absent: Modality -> number of samples that lack it.
        correlation: Names of two modalities -> correlations of each pair.
    """

    samples: int = 0
    complete: int = 0
    intensity: dict[str, Intensity] = field(default_factory=dict)
    spectrum: dict[str, PowerSpectrum] = field(default_factory=dict)
    brightness: dict[str, list[float]] = field(default_factory=dict)
    sizes: dict[str, Counter] = field(default_factory=dict)
    absent: Counter = field(default_factory=Counter)
    correlation: dict[tuple[str, str], list[np.ndarray]] = field(default_factory=dict)

    def add(self, sample: Measured) -> None:
        """Add one sample.

        Args:
            sample (Measured): Result of :func:`measure`.

        Raises:
            ValueError: A modality changed its number of channels or its dtype.
        """
        self.samples += 1
        self.complete += not sample.absent
        self.absent.update(sample.absent)
        for name, values in sample.intensity.items():
            try:
                known = self.intensity.get(name)
                self.intensity[name] = values if known is None else known + values
            except ValueError as error:
                raise ValueError(f'modality {name}: {error}') from None
            spectrum = self.spectrum.get(name)
            wave = sample.spectrum[name]
            self.spectrum[name] = wave if spectrum is None else spectrum + wave
            self.brightness.setdefault(name, []).append(values.luminance())
            self.sizes.setdefault(name, Counter())[sample.sizes[name]] += 1
        for names, values in sample.correlation.items():
            self.correlation.setdefault(names, []).append(values)

    def mean_correlation(self) -> dict[tuple[str, str], dict[str, dict[str, float]]]:
        """Average the correlations over the pairs that have structure in a band.

        Returns:
            dict: Names of two modalities -> band -> `mean`, in -1..1, and `size`, the
            mean absolute value: contours often agree in position but not in sign.
        """
        result = {}
        for names, rows in self.correlation.items():
            known = {
                band: values[~np.isnan(values)]
                for band, values in zip(BANDS, np.array(rows).T, strict=True)
            }
            result[names] = {
                band: {'mean': float(v.mean()), 'size': float(np.abs(v).mean())}
                for band, v in known.items()
                if len(v)
            }
        return result


def describe_boxes(
    sizes: np.ndarray,
    labels: np.ndarray,
    per_image: np.ndarray,
    classes: Sequence[str],
) -> dict:
    """Summarize the boxes of a dataset.

    Args:
        sizes (np.ndarray): (N, 2), width and height in pixels.
        labels (np.ndarray): (N,) integers.
        per_image (np.ndarray): (M,) number of boxes of each image.
        classes (Sequence[str]): Class names by label.

    Returns:
        dict: In plain types:

        - `boxes`: number of boxes
        - `classes`: class name -> number of boxes
        - `sizes`: number of small (below 32^2 px), medium (up to 96^2 px) and large
          boxes, by area as in COCO
        - `side`: percentiles of the square root of the area in pixels
        - `per_image`: mean, maximum, and number of images without boxes
    """
    sizes = np.asarray(sizes, float).reshape(-1, 2)
    areas = sizes.prod(1)
    counts = np.bincount(np.asarray(labels, int), minlength=len(classes))
    small, medium = areas < _SMALL, (areas >= _SMALL) & (areas <= _MEDIUM)
    wanted = (1, 25, 50, 75, 99)
    sides = np.percentile(np.sqrt(areas), wanted).tolist() if len(areas) else []
    per_image = np.asarray(per_image, int)
    return {
        'boxes': len(areas),
        'classes': dict(zip(classes, counts.tolist(), strict=False)),
        'sizes': {
            'small': int(small.sum()),
            'medium': int(medium.sum()),
            'large': int((areas > _MEDIUM).sum()),
        },
        'side': {str(q): side for q, side in zip(wanted, sides, strict=False)},
        'per_image': {
            'mean': float(per_image.mean()) if len(per_image) else 0.0,
            'highest': int(per_image.max(initial=0)),
            'without': int((per_image == 0).sum()),
        },
    }
