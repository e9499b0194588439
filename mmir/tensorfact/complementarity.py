"""How much a delta repeats what the frozen factors of its layer compute already."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

FORMS = ('cos2', 'paper', 'weight')
"""What `Complementarity.type` may be; `weight` reads factors, the others features."""
_EPS = 1e-4
"""Deltas smaller than this part of the base count as none: it bounds the gradient."""


@dataclass(frozen=True)
class Complementarity:
    """A form of the complementarity loss L_c of TensorFact (arXiv 2309.16592).

    With u = conv(x, K) of the frozen base and v = conv(x, dK) of the deltas, both
    without bias:

    - `'cos2'`: mean over images of cos^2(u, v), in [0, 1]. Least where the delta is
      orthogonal to the base; does not depend on the scale of K.
    - `'paper'`: -(mean |u - v|^p)^(1/p), as published. It has no minimum of its own
      and turns v against u, so it ends, with its gradient, at
      -max_ratio * mean |u|.
    - `'weight'`: cos^2(K, dK), in [0, 1], from the factors; no features are needed.

    The base is a constant in all of them: no gradient flows through u or K. Values
    and gradients are finite also for v = 0, u = v and u = 0.

    Attributes:
        type: One of `FORMS`.
        p: 1 or 2, the norm of `paper`.
        max_ratio: Of `paper`: its largest size, in units of mean |u|.

    Raises:
        ValueError: For an unknown form, or a number out of range.
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
        """Loss of the outputs of both branches.

        Args:
            u: Output of the base, without bias, shape (N, T, H', W') or (T, H', W');
                used without its gradient.
            v: Output of the deltas, without bias, same shape.

        Returns:
            Scalar, at least float32; 0 for an empty batch.

        Raises:
            ValueError: For the form `'weight'`, or shapes that differ.
        """
        if self.type == 'weight':
            raise ValueError("the form 'weight' is of factors, see of_factors")
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
        """Loss of the kernels, cos^2(K, dK), without building either.

        <A B, dA dB> = sum((A^T dA) * (B dB^T)), at a cost of O(T S r dr). It holds for
        every split, since all of them only sort the elements of the kernel.

        Args:
            base: Factors A (..., r) and B (r, ...); used without their gradient.
            deltas: Factors dA (..., dr) and dB (dr, ...) of each delta; what counts
                is the sum of the deltas.

        Returns:
            Scalar, at least float32.

        Raises:
            ValueError: For a form other than `'weight'`, or no delta.
        """
        if self.type != 'weight':
            raise ValueError(f'the form {self.type!r} is of features, see of_features')
        if not deltas:
            raise ValueError('no delta to compare with the base')
        a, b = _matrices(base[0].detach(), base[1].detach())
        pairs = [_matrices(*pair) for pair in deltas]
        da = torch.cat([left for left, _ in pairs], dim=1)
        db = torch.cat([right for _, right in pairs])
        with torch.autocast(a.device.type, enabled=False):
            dot, uu = _inner(a, b, da, db), _inner(a, b, a, b)
            # Rounding must not push the square of a norm below zero.
            vv = _inner(da, db, da, db).clamp(min=0)
            return _squared_cosine(dot, uu, vv)

    def _paper(self, u: Tensor, v: Tensor) -> Tensor:
        """The published form, with an end; a norm, unlike a root, is smooth at 0."""
        gap = torch.linalg.vector_norm(u - v, self.p) / u.numel() ** (1 / self.p)
        return -gap.clamp(max=self.max_ratio * u.abs().mean())


def complementarity_loss(
    u: Tensor, v: Tensor, type: str = 'cos2', **options: Any
) -> Tensor:
    """Complementarity of the outputs of a frozen base and of its deltas.

    Args:
        u: Output of the base, without bias, shape (N, T, H', W') or (T, H', W'); no
            gradient flows through it.
        v: Output of the deltas, without bias, same shape.
        type: `'cos2'` or `'paper'`, see `Complementarity`.
        **options: Further fields of `Complementarity`: `p`, `max_ratio`.

    Returns:
        Scalar, at least float32.

    Raises:
        TypeError: For an unknown option.
        ValueError: For a wrong option, or shapes that differ.
    """
    return Complementarity(type, **options).of_features(u, v)


def _precise(tensor: Tensor) -> Tensor:
    """The tensor in float32 at least: sums over features overflow in half precision."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _squared_cosine(dot: Tensor, uu: Tensor, vv: Tensor) -> Tensor:
    """cos^2 from <u, v>, <u, u> and <v, v>; no factor overflows nor is 0 / 0."""
    tiny = torch.finfo(uu.dtype).tiny
    return dot / (uu + tiny) * (dot / (vv + _EPS**2 * uu + tiny))


def _matrices(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of any split as matrices (rows, r) and (r, columns)."""
    return _precise(a).reshape(-1, a.shape[-1]), _precise(b).flatten(1)


def _inner(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Frobenius product <A B, C D> of two matrices in factors."""
    return ((a.T @ c) * (b @ d.T)).sum()
