"""`SODMetric`: the usual measures of salient-object detection."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

Values = dict[str, float | np.ndarray]

MEASURES = ('S', 'wF', 'meanE', 'MAE', 'adpE', 'maxE', 'adpF', 'meanF', 'maxF')
"""Names of all measures; the first four are reported unless others are chosen."""

BETA2 = 0.3
"""Weight of precision in the plain F-measure (Achanta et al., CVPR 2009)."""


@METRICS.register_module()
class SODMetric(BaseMetric):
    """Measures of saliency maps against masks, averaged over the images.

    - `S`: structure measure, alpha = 0.5 (Fan et al., ICCV 2017)
    - `wF`: weighted F-measure, beta^2 = 1 (Margolin et al., CVPR 2014)
    - `meanE`: enhanced-alignment measure (Fan et al., IJCAI 2018), mean over the
      thresholds 0 to 255; `maxE` at the best of them; `adpE` at twice the mean value
    - `MAE`: mean absolute error
    - `meanF`, `maxF`, `adpF`: F-measure, beta^2 = 0.3, likewise

    They are computed by the package `pysodmetrics`, so numbers compare with those of
    papers. The mean E of a perfect map is slightly below 1: at the threshold 0 all is
    foreground. For an image without any salient pixel `wF` is 0.

    Reads what an mmseg segmentor gives: `seg_logits` (probabilities of a one-channel
    head, logits of two classes) and `gt_sem_seg`. Maps and masks have the original
    size of the image if the mask is loaded after `Resize` in the test pipeline.

    Args:
        measures (Sequence[str]): Names of the measures, see above.
        normalize (bool): Stretch each map to 0 to 1 first, as usual in this field. A
            constant map is left as it is.
        collect_device (str): Device to gather results on: 'cpu' or 'gpu'.
        prefix (str, optional): Prefix of the names.

    Raises:
        ImportError: `pysodmetrics` is not installed.
        ValueError: A measure is unknown; a map is not one of probabilities; map and
            mask differ in size; a mask holds other values than 0 and 1.
    """

    def __init__(
        self,
        measures: Sequence[str] = MEASURES[:4],
        normalize: bool = True,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        unknown = set(measures) - set(MEASURES)
        if unknown or not measures or isinstance(measures, str):
            raise ValueError(f'measures must be some of {MEASURES}, got {measures!r}')
        _package()  # say before the first epoch that it is missing
        self.measures, self.normalize = tuple(measures), normalize

    def process(self, data_batch: Any, data_samples: Sequence[Mapping]) -> None:
        """Measure the maps of a batch.

        Args:
            data_batch (Any): Unused.
            data_samples (Sequence[Mapping]): Samples as dictionaries, with
                `seg_logits` (1 or 2, H, W) and `gt_sem_seg` (1, H, W).
        """
        for sample in data_samples:
            name = str(sample.get('img_path', 'a sample'))
            saliency = _saliency(sample['seg_logits']['data'], name)
            mask = _mask(sample['gt_sem_seg']['data'], saliency.shape, name)
            if self.normalize and np.ptp(saliency) > 0:
                saliency = (saliency - saliency.min()) / np.ptp(saliency)
            self.results.append(measure(saliency, mask, self.measures))

    def compute_metrics(self, results: list[Values]) -> dict[str, float]:
        """Average over the images.

        Args:
            results (list[dict]): One dictionary per image. Curves over the thresholds
                are averaged before their maximum is taken.

        Returns:
            dict[str, float]: Measure -> value, from 0 to 1.
        """
        means = {
            name: np.mean([result[name] for result in results], axis=0)
            for name in self.measures
        }
        return {name: float(np.max(value)) for name, value in means.items()}


def measure(saliency: np.ndarray, mask: np.ndarray, measures: Sequence[str]) -> Values:
    """Measure one saliency map.

    Args:
        saliency (np.ndarray): Map (H, W) of float64, 0 to 1.
        mask (np.ndarray): Mask (H, W) of bool.
        measures (Sequence[str]): Some of :data:`MEASURES`.

    Returns:
        dict[str, float | np.ndarray]: Measure -> value. For `maxE` and `maxF` it is the
        curve (256,) over the thresholds.
    """
    found = {_FAMILY[name] for name in measures}
    return {
        name: value
        for family in found
        for name, value in family(saliency, mask).items()
        if name in measures
    }


def _single(saliency: np.ndarray, mask: np.ndarray, meter: Any, key: str) -> Any:
    """Run a meter of the package on one map."""
    meter.step(saliency, mask, normalize=False)
    return meter.get_results()[key]


def _structure(saliency: np.ndarray, mask: np.ndarray) -> Values:
    return {'S': _single(saliency, mask, _package().Smeasure(alpha=0.5), 'sm')}


def _weighted(saliency: np.ndarray, mask: np.ndarray) -> Values:
    # what the package calls beta is beta^2
    meter = _package().WeightedFmeasure(beta=1)
    return {'wF': _single(saliency, mask, meter, 'wfm')}


def _error(saliency: np.ndarray, mask: np.ndarray) -> Values:
    return {'MAE': _single(saliency, mask, _package().MAE(), 'mae')}


def _alignment(saliency: np.ndarray, mask: np.ndarray) -> Values:
    found = _single(saliency, mask, _package().Emeasure(), 'em')
    curve = found['curve']
    return {'meanE': curve.mean(), 'maxE': curve, 'adpE': found['adp']}


def _plain(saliency: np.ndarray, mask: np.ndarray) -> Values:
    handler = _package().FmeasureHandler(True, True, beta=BETA2)
    found = _single(saliency, mask, _package().FmeasureV2({'fm': handler}), 'fm')
    curve = found['dynamic']
    return {'meanF': curve.mean(), 'maxF': curve, 'adpF': found['adaptive']}


_FAMILY: dict[str, Callable[[np.ndarray, np.ndarray], Values]] = {
    'S': _structure,
    'wF': _weighted,
    'MAE': _error,
    **dict.fromkeys(('meanE', 'maxE', 'adpE'), _alignment),
    **dict.fromkeys(('meanF', 'maxF', 'adpF'), _plain),
}


def _saliency(data: torch.Tensor, name: str) -> np.ndarray:
    """Get the probability (H, W) of the salient class from the output of a model."""
    data = data.detach().double().cpu()
    if data.ndim != 3 or data.shape[0] > 2:
        raise ValueError(
            f'{name}: seg_logits must have one or two channels, got the shape '
            f'{tuple(data.shape)}'
        )
    saliency = (data.softmax(0)[1] if data.shape[0] == 2 else data[0]).numpy()
    if not (saliency.min() >= 0 and saliency.max() <= 1):  # also refuses NaN
        raise ValueError(
            f'{name}: the map ranges from {saliency.min():.3g} to '
            f'{saliency.max():.3g}, not from 0 to 1: apply the sigmoid'
        )
    return saliency


def _mask(data: torch.Tensor, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Get the mask (H, W) as bool."""
    mask = data.squeeze(0).cpu().numpy()
    if mask.shape != shape:
        raise ValueError(
            f'{name}: the mask is {mask.shape}, but the map is {shape}: load the mask '
            'after Resize in the test pipeline'
        )
    if not np.isin(mask, (0, 1)).all():
        raise ValueError(
            f'{name}: the mask holds {np.unique(mask)[:5]}, not 0 and 1: load it with '
            'mmir.LoadSaliencyMask'
        )
    return mask.astype(bool)


def _package() -> ModuleType:
    """Import the optional package."""
    try:
        return import_module('py_sod_metrics')
    except ImportError as error:
        raise ImportError(
            'SODMetric needs the package pysodmetrics: `pip install "openmmir[sod]"`'
        ) from error
