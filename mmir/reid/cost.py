"""Parameters and multiplications of a model of re-identification."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from mmir.layers.modality_norm import PerModality
from mmir.utils.errors import UserError

from .vireid import VIReID

NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)


class Cost(NamedTuple):
    """Cost of a model; multiplications are those of an image, without any batch.

    Attributes:
        parameters (int): All parameters, without the classifier of training.
        image (int): Multiply-adds of convolutions and matrix products for the feature
            of an RGB image, which goes through one stem.
        stem (int): Those of the stem of the other modality.
        norms (int): Operations of the norms, 2 per element, of both stems.
        classifier (int): Multiply-adds of the classifier of training.
    """

    parameters: int
    image: int
    stem: int
    norms: int
    classifier: int

    @property
    def paper(self) -> int:
        """The count that reproduces the table of TOPLight: all of it together."""
        return self.image + self.stem + self.norms + self.classifier


def vireid_cost(model: VIReID, height: int, width: int) -> Cost:
    """Measure the cost of a model on an image.

    Args:
        model (VIReID): The model; it is set to evaluation mode.
        height (int): Height of the image in px.
        width (int): Width of the image in px.

    Returns:
        Cost: Parameters and multiplications.

    Raises:
        UserError: The model is no `VIReID`.
    """
    if not isinstance(model, VIReID):
        raise UserError(
            f'costs are those of a model of re-identification (mmir.VIReID), not of a '
            f'{type(model).__name__}'
        )
    model.eval()
    image = next(model.parameters()).new_zeros(1, 3, height, width)
    with _norm_elements(model) as elements:
        total, _ = _run(model, image, 'rgb')
        shared = elements['shared']
        _, stem = _run(model, image, 'ir')
    classifier = model.head.fc.weight.numel()
    weights = sum(p.numel() for p in model.parameters()) - classifier
    norms = 2 * (shared + elements['own'])  # `own` has been counted for both
    return Cost(weights, total, stem, norms, classifier)


def _run(model: VIReID, image: Tensor, modality: str) -> tuple[int, int]:
    """Multiply-adds of an image: all, and those of layers of its modality."""
    sample = DataSample(metainfo=dict(modality=modality))
    exact = sdpa_kernel(SDPBackend.MATH)  # fused attention is not counted
    with exact, FlopCounterMode(display=False) as counter, torch.no_grad():
        model.extract_feat(image, 'pre_logits', [sample])
    counts = counter.get_flop_counts()
    start = f'{type(model.backbone).__name__}.'  # the first module that runs
    own = sum(
        sum(counts.get(start + name, {}).values())
        for name, module in model.backbone.named_modules()
        if isinstance(module, PerModality)
    )
    return counter.get_total_flops() // 2, own // 2


@contextmanager
def _norm_elements(model: nn.Module) -> Iterator[dict[str, int]]:
    """Count the elements that norms see, in layers of a modality and elsewhere."""
    counts = dict(shared=0, own=0)
    inside = {
        norm
        for module in model.modules()
        if isinstance(module, PerModality)
        for norm in module.modules()
    }

    def count(norm: nn.Module, args: tuple, out: Tensor) -> None:
        """Add the elements of a norm."""
        counts['own' if norm in inside else 'shared'] += out.numel()

    norms = [module for module in model.modules() if isinstance(module, NORMS)]
    handles = [norm.register_forward_hook(count) for norm in norms]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()
