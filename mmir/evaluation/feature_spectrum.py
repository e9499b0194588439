"""Principal components of features: how many directions a layer uses."""

import torch
from torch import Tensor

from mmir.utils.errors import UserError


class FeatureSpectrum:
    """Covariance of features, accumulated over batches in float64.

    Needs memory for one matrix (C, C), whatever the number of features. Two batches are
    merged by the difference of their means (Chan, Golub and LeVeque, 1979), which does
    not cancel where the mean is large against the spread.

    Attributes:
        count: Number of features seen.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._scatter: Tensor | None = None

    @torch.no_grad()
    def update(self, features: Tensor) -> None:
        """Add features.

        Args:
            features: Shape (..., C), of any real dtype and on any device.

        Raises:
            ValueError: Another number of channels than before, or values that are NaN
                or infinite.
        """
        batch = features.reshape(-1, features.shape[-1]).double()
        if not batch.isfinite().all():
            raise ValueError('the features hold NaN or infinite values')
        if self._mean is None:
            channels = batch.shape[1]
            self._mean = batch.new_zeros(channels)
            self._scatter = batch.new_zeros(channels, channels)
        if batch.shape[1] != len(self._mean):
            raise ValueError(
                f'features of {batch.shape[1]} channels after {len(self._mean)}'
            )
        if not len(batch):
            return
        mean = batch.mean(0)
        centered, shift = batch - mean, mean - self._mean
        total = self.count + len(batch)
        self._scatter += centered.T @ centered
        self._scatter += torch.outer(shift, shift) * (self.count * len(batch) / total)
        self._mean += shift * (len(batch) / total)
        self.count = total

    def covariance(self) -> Tensor:
        """Covariance (C, C) in float64, divided by the number of features.

        Raises:
            UserError: Fewer than two features.
        """
        if self.count < 2:
            raise UserError(f'{self.count} features have no spectrum: give 2 or more')
        return self._scatter / self.count

    def spectrum(self) -> Tensor:
        """Shares of the variance of the principal components.

        Returns:
            Shape (C,), float64, in descending order, summing to 1; on the CPU.

        Raises:
            UserError: Fewer than two features, or all of them equal.
        """
        # LAPACK is as fast for these sizes, and more exact than some GPU solvers
        values = torch.linalg.eigvalsh(self.covariance().cpu()).flip(0).clamp_min(0)
        if not (total := values.sum()):
            raise UserError('all features are equal: they have no spectrum')
        return values / total


def pca_spectrum(features: Tensor) -> Tensor:
    """Shares of the variance of the principal components of features.

    Args:
        features: Shape (N, C). There may be fewer features than channels.

    Returns:
        Shape (C,), float64, in descending order, summing to 1.

    Raises:
        UserError: Fewer than two features, or all of them equal.
        ValueError: NaN or infinite values.
    """
    result = FeatureSpectrum()
    result.update(features)
    return result.spectrum()


def effective_rank(spectrum: Tensor) -> float:
    """Effective rank of a spectrum: the exponential of its entropy.

    It is k for k equal shares. Roy and Vetterli, "The effective rank", EUSIPCO 2007;
    they take singular values, here it is shares of the variance.

    Args:
        spectrum: Shares (C,) that sum to 1.

    Returns:
        Number between 1 and C.
    """
    shares = spectrum.double()
    return torch.special.entr(shares).sum().exp().item()


def components_for(spectrum: Tensor, share: float = 0.9) -> int:
    """Number of principal components that hold a share of the variance.

    Args:
        spectrum: Shares (C,) that sum to 1, in descending order.
        share: The share, above 0 and at most 1.

    Raises:
        ValueError: `share` is out of range.
    """
    if not 0 < share <= 1:
        raise ValueError(f'share {share} is not in 0..1')
    # rounding must not ask for one more component than an exact sum needs
    reached = spectrum.double().cumsum(0) >= share - 1e-12
    return int(reached.int().argmax()) + 1 if reached.any() else len(spectrum)
