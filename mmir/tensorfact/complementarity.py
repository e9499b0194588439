"""Complementarity loss: penalizes deltas that repeat the frozen factors they extend."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

FORMS = ('cos2', 'paper', 'weight')
"""Values of `Complementarity.type`; `weight` uses factors, the others features."""
_EPS = 1e-4
"""Deltas smaller than this fraction of the base count as zero; bounds the gradient."""


@dataclass(frozen=True)
class Complementarity:
    """Form of the complementarity loss L_c of TensorFact (arXiv 2309.16592).

    With u = conv(x, K) of the frozen base and v = conv(x, dK) of the deltas, both
    without bias:

    - `'cos2'`: mean over images of cos^2(u, v), in [0, 1]. Minimal where the delta is
      orthogonal to the base; independent of the scale of K.
    - `'paper'`: -(mean |u - v|^p)^(1/p), as published. It is unbounded below and drives
      v against u, so it is clamped, with zero gradient, at -max_ratio * mean |u|.
    - `'weight'`: cos^2(K, dK), in [0, 1], from the factors; needs no features.

    The base is treated as constant: no gradient flows through u or K. Values and
    gradients are finite even for v = 0, u = v and u = 0.

    Attributes:
        type: One of `FORMS`.
        p: Norm of `paper`, 1 or 2.
        max_ratio: Largest magnitude of `paper`, in units of mean |u|.

    Raises:
        ValueError: Unknown form, or a number out of range.
    """

    type: str = 'cos2'
    p: int = 2
    max_ratio: float = 10.0

    def __post_init__(self) -> None:
        """Check all options."""
        if self.type not in FORMS:
            raise ValueError(
                f'unknown complementarity loss {self.type!r}, available: '
                f'{", ".join(FORMS)}'
            )
        if self.p not in (1, 2):
            raise ValueError(f'p must be 1 or 2, not {self.p!r}')
        if not 0 < self.max_ratio < math.inf:
            raise ValueError(
                f'max_ratio must be positive and finite, not {self.max_ratio!r}'
            )

    def of_features(self, u: Tensor, v: Tensor) -> Tensor:
        """Loss from the outputs of both branches.

        Args:
            u: Output of the base, without bias, shape (N, T, H', W') or (T, H', W');
                detached.
            v: Output of the deltas, without bias, same shape.

        Returns:
            Scalar, at least float32; 0 for an empty batch.

        Raises:
            ValueError: The form is `'weight'`, or the shapes differ.
        """
        if self.type == 'weight':
            raise ValueError("the form 'weight' needs factors: use of_factors")
        if u.shape != v.shape:
            raise ValueError(
                f'u and v differ in shape: {tuple(u.shape)} and {tuple(v.shape)}'
            )
        u, v = _precise(u.detach()), _precise(v)
        if u.numel() == 0:
            return v.sum()
        if self.type == 'paper':
            return self._paper(u, v)
        images = 1 if u.dim() == 3 else len(u)
        u, v = u.reshape(images, -1), v.reshape(images, -1)
        dot, uu, vv = (u * v).sum(1), u.square().sum(1), v.square().sum(1)
        return _squared_cosine(dot, uu, vv).mean()

    def of_factors(
        self, base: tuple[Tensor, Tensor], deltas: Sequence[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Loss from the factors, cos^2(K, dK), without building either kernel.

        <A B, dA dB> = sum((A^T dA) * (B dB^T)), at a cost of O(T S r dr). This holds
        for every split, since a split only permutes the elements of the kernel.

        Args:
            base: Factors A (..., r) and B (r, ...); detached.
            deltas: Factors dA (..., dr) and dB (dr, ...) of each delta; dK is the sum
                over all deltas.

        Returns:
            Scalar, at least float32.

        Raises:
            ValueError: The form is not `'weight'`, or there is no delta.
        """
        if self.type != 'weight':
            raise ValueError(f'the form {self.type!r} needs features: use of_features')
        if not deltas:
            raise ValueError('no delta to compare with the base')
        a, b = _matrices(base[0].detach(), base[1].detach())
        pairs = [_matrices(*pair) for pair in deltas]
        da = torch.cat([left for left, _ in pairs], dim=1)
        db = torch.cat([right for _, right in pairs])
        with torch.autocast(a.device.type, enabled=False):
            dot, uu = _inner(a, b, da, db), _inner(a, b, a, b)
            # Rounding must not make a squared norm negative.
            vv = _inner(da, db, da, db).clamp(min=0)
            return _squared_cosine(dot, uu, vv)

    def _paper(self, u: Tensor, v: Tensor) -> Tensor:
        """The published form, clamped; the gradient of a norm is finite at 0."""
        gap = torch.linalg.vector_norm(u - v, self.p) / u.numel() ** (1 / self.p)
        return -gap.clamp(max=self.max_ratio * u.abs().mean())


def complementarity_loss(
    u: Tensor, v: Tensor, type: str = 'cos2', **options: Any
) -> Tensor:
    """Complementarity loss between the outputs of a frozen base and its deltas.

    Args:
        u: Output of the base, without bias, shape (N, T, H', W') or (T, H', W');
            detached.
        v: Output of the deltas, without bias, same shape.
        type: `'cos2'` or `'paper'`, see `Complementarity`.
        **options: Other fields of `Complementarity`: `p`, `max_ratio`.

    Returns:
        Scalar, at least float32.

    Raises:
        TypeError: Unknown option.
        ValueError: Invalid option, or shapes that differ.
    """
    return Complementarity(type, **options).of_features(u, v)


def _precise(tensor: Tensor) -> Tensor:
    """Cast to at least float32: sums over features overflow in half precision."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _squared_cosine(dot: Tensor, uu: Tensor, vv: Tensor) -> Tensor:
    """cos^2 from <u, v>, <u, u> and <v, v>, without overflow or 0 / 0."""
    tiny = torch.finfo(uu.dtype).tiny
    return dot / (uu + tiny) * (dot / (vv + _EPS**2 * uu + tiny))


def _matrices(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Reshape the factors of any split to matrices (rows, r) and (r, columns)."""
    return _precise(a).reshape(-1, a.shape[-1]), _precise(b).flatten(1)


def _inner(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Frobenius inner product <A B, C D> of two factorized matrices."""
    return ((a.T @ c) * (b @ d.T)).sum()
