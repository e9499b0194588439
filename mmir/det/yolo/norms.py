"""Batch norms measured on images, for networks whose own were folded."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmir.det.yolo.fold import bn_affine
from mmir.utils.files import few


@torch.no_grad()
def measure_norms_(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Set running statistics to those of images, without changing predictions.

    Where batch norms were folded into convolutions, the statistics are lost: mean 0 and
    variance 1 say nothing about the features, and training with batch statistics
    destroys the network at the first step. Here mean and variance of the input of each
    norm are measured, and weight and bias chosen so that the norm computes in
    evaluation mode what it computed before: for y = scale * x + shift,
    `weight = scale * sqrt(var + eps)` and `bias = shift + scale * mean`. In training
    mode the network then stays close to that function as long as batches resemble the
    images.

    Sums are taken in float64 over all images. The variance is that of the images,
    not an estimate, so a training batch equal to them gives exactly the same output.

    Args:
        model (nn.Module): Any model. Batch norms without running statistics, and those
            frozen as `FrozenBatchNorm`, are left as they are.
        batches (iterable of Tensor): Preprocessed images, (N, C, H, W), each of which
            is given to `model(batch)` in evaluation mode.

    Returns:
        int: Number of images.

    Raises:
        ValueError: There are no images, or a norm has no weight and bias, did not run,
            or got NaN or infinite values; the message names it. The model is then
            unchanged.
    """
    norms = {
        name: norm
        for name, norm in model.named_modules()
        if isinstance(norm, _BatchNorm) and norm.running_mean is not None
    }
    _refuse((n for n, m in norms.items() if m.weight is None), 'has no weight and bias')
    moments = {name: _Moments(norm.num_features) for name, norm in norms.items()}
    images = 0
    with _observed(model, {norm: moments[name] for name, norm in norms.items()}):
        for batch in batches:
            model(batch)
            images += len(batch)
    if not images:
        raise ValueError('there are no images to measure the batch norms on')
    _refuse((n for n, m in moments.items() if not m.count), 'did not run')
    _refuse(
        (n for n, m in moments.items() if not m.finite), 'got NaN or infinite values'
    )
    for name, norm in norms.items():
        _set_statistics(norm, moments[name])
    return images


class _Moments:
    """Mean and variance of each channel, gathered batch by batch.

    Deviations are summed around the mean of each batch and then merged, so a mean far
    from zero costs no digits. Source: Chan, Golub and LeVeque, Updating
    Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979.

    Args:
        channels (int): Number of channels C.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.mean = torch.zeros(channels, dtype=torch.float64)
        self.deviation = torch.zeros(channels, dtype=torch.float64)

    @property
    def var(self) -> Tensor:
        """Variance, (C,)."""
        return self.deviation / self.count

    @property
    def finite(self) -> bool:
        """Whether all values were finite."""
        return bool(self.mean.isfinite().all() and self.deviation.isfinite().all())

    def hook(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Add the input (N, C, ...) of a norm."""
        x = inputs[0].double().transpose(0, 1).flatten(1)
        mean, count = x.mean(dim=1), x.shape[1]
        deviation = (x - mean[:, None]).square().sum(dim=1).cpu()
        shift = mean.cpu() - self.mean
        share = count / (self.count + count)
        self.mean += shift * share
        self.deviation += deviation + shift.square() * self.count * share
        self.count += count


@contextmanager
def _observed(model: nn.Module, moments: dict[nn.Module, _Moments]) -> Iterator[None]:
    """Gather the inputs of norms while the model is in evaluation mode."""
    modes = {module: module.training for module in model.modules()}
    handles = [m.register_forward_pre_hook(seen.hook) for m, seen in moments.items()]
    try:
        model.eval()
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode


def _refuse(names: Iterable[str], reason: str) -> None:
    """Raise an error if there are norms that cannot be measured."""
    if found := list(names):
        raise ValueError(f'the batch norm {few(found)} {reason}')


def _set_statistics(norm: _BatchNorm, moments: _Moments) -> None:
    """Set statistics, and the weight and bias with which they cancel."""
    scale, shift = (value.double() for value in bn_affine(norm))
    norm.running_mean.copy_(moments.mean)
    norm.running_var.copy_(moments.var)
    # from the rounded statistics, so that rounding cancels too
    mean, var = norm.running_mean.double(), norm.running_var.double()
    norm.weight.copy_(scale * (var + norm.eps).sqrt())
    norm.bias.copy_(shift + scale * mean)
