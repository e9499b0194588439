"""Truncated singular value decomposition for tall or wide matrices."""

import torch
from torch import Tensor

_SWAPPED = {'A': 'B', 'B': 'A', 'sqrt': 'sqrt'}
SIGMA_PLACES = tuple(_SWAPPED)


def check_sigma(sigma: str) -> str:
    """Return `sigma` if it is valid.

    Raises:
        ValueError: It is not one of `SIGMA_PLACES`.
    """
    if sigma not in SIGMA_PLACES:
        raise ValueError(f'unknown sigma {sigma!r}, available: {SIGMA_PLACES}')
    return sigma


def spectrum(matrix: Tensor) -> Tensor:
    """Squared singular values of a matrix.

    Args:
        matrix: Shape (n, m), any floating dtype and device.

    Returns:
        Shape (min(n, m),), float64, on the CPU, in descending order.

    Raises:
        ValueError: NaN or infinite weights.
    """
    matrix = _finite(matrix)
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    return torch.linalg.eigvalsh(matrix.T @ matrix).flip(0).clamp(min=0)


def _finite(matrix: Tensor) -> Tensor:
    """Copy a matrix to float64 on the CPU; reject NaN and infinite entries."""
    matrix = matrix.detach().to('cpu', torch.float64)
    if not matrix.isfinite().all():
        raise ValueError('NaN or infinite weights cannot be factorized')
    return matrix


def truncated_factors(
    matrix: Tensor, rank: int, sigma: str = 'sqrt'
) -> tuple[Tensor, Tensor]:
    """Best rank-r approximation M ~ A B (Eckart-Young).

    Computed in float64 on the CPU via the Gram matrix of the shorter side, so memory
    stays at a few copies of M however long the other side is. A is computed as M V, not
    from the eigenvalues, so squaring M costs A B no accuracy. Directions with a zero
    singular value get a unit row (column) in one factor and zeros in the other: the
    product is right and gradients can still flow.

    Args:
        matrix: M, shape (n, m), any floating dtype, finite.
        rank: Inner dimension r, from 1 to min(n, m).
        sigma: Factor that gets the singular values: `'sqrt'` (half each,
            A^T A = B B^T), `'A'` (B has orthonormal rows) or `'B'` (A has orthonormal
            columns).

    Returns:
        A of shape (n, r) and B of shape (r, m), float64, on the CPU.

    Raises:
        ValueError: NaN or infinite entries, or unknown `sigma`.
    """
    matrix = _finite(matrix)
    if matrix.shape[0] < matrix.shape[1]:
        b, a = truncated_factors(matrix.T, rank, _SWAPPED[check_sigma(sigma)])
        return a.T.contiguous(), b.T.contiguous()
    # Scale to at most 1, so that squares of tiny or huge weights stay in range.
    peak = matrix.abs().amax() if matrix.numel() else matrix.new_zeros(())
    scaled = matrix / peak if peak > 0 else matrix
    _, vectors = torch.linalg.eigh(scaled.T @ scaled)
    atoms = vectors.flip(1)[:, :rank]
    a = matrix @ atoms
    if check_sigma(sigma) == 'B':
        # Keeps the columns orthonormal even for small or zero singular values.
        a, b = torch.linalg.qr(a)
        return a, b @ atoms.T
    values = a.norm(dim=0)
    scale = values.sqrt() if sigma == 'sqrt' else torch.ones_like(values)
    negligible = values <= 1e-13 * values.amax().clamp(min=1e-300)
    scale = torch.where(negligible, torch.ones_like(scale), scale)
    return a / scale, (atoms * scale).T.contiguous()
