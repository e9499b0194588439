"""Splits: how a convolution kernel is reshaped to a matrix and factorized."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmir.adapters.geometry import KernelShape

_WINDOW = (2, 3)


class Split:
    """Reshaping of a kernel K of shape (T, S, D2, D1) to a matrix M = A B.

    T is the number of output channels, S that of input channels per group. Some axes of
    the kernel form the rows of M and the others its columns, each in kernel order. The
    inner dimension is r. Groups share B. A has the shape (*row axes, r), B the shape
    (r, *column axes).

    Args:
        rows: Axes of the rows, T (0) first. Only `TsDd` has S (1) among them.
        cols: The other axes.

    Attributes:
        worth: `two_conv` pays off if it takes less than this fraction of the MACs of
            the dense convolution (measured on CPU).
        two_conv_in_training: Whether that also holds for training steps.
    """

    worth = 0.6
    two_conv_in_training = False

    def __init__(self, rows: tuple[int, ...], cols: tuple[int, ...]) -> None:
        self.rows, self.cols = rows, cols
        order = (*rows, *cols)
        self._order, self._back = order, tuple(map(order.index, range(4)))

    def matrix_shape(self, shape: KernelShape) -> tuple[int, int]:
        """Rows and columns of the matrix of a kernel of `shape` (T, S, D2, D1)."""
        rows, cols = ([shape[axis] for axis in axes] for axes in (self.rows, self.cols))
        return math.prod(rows), math.prod(cols)

    def factor_shapes(
        self, shape: KernelShape, rank: int
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the factors: A (*row axes, rank) and B (rank, *column axes)."""
        rows, cols = ([shape[axis] for axis in axes] for axes in (self.rows, self.cols))
        return (*rows, rank), (rank, *cols)

    def unfold(self, kernel: Tensor) -> Tensor:
        """Reshape a kernel (T, S, D2, D1) to its matrix."""
        return kernel.permute(self._order).reshape(
            self.matrix_shape(tuple(kernel.shape))
        )

    def fold(self, factors: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Sum the products of pairs of factors into one kernel.

        The sum is taken from left to right, so switching the last pair off gives
        exactly the kernel from before it was added.

        Args:
            factors: Pairs of A and B, see `factor_shapes`; r may differ between pairs.

        Returns:
            Contiguous kernel, shape (T, S, D2, D1).
        """
        first, *others = [(a.flatten(0, -2), b.flatten(1)) for a, b in factors]
        matrix = first[0] @ first[1]
        for a, b in others:
            matrix = torch.addmm(matrix, a, b)
        (a, b) = factors[0]
        kernel = matrix.view(*a.shape[:-1], *b.shape[1:]).permute(self._back)
        # Flatten first: axes of size 1 would keep strides that look channels-last.
        return kernel.reshape(-1).view(kernel.shape)

    def two_conv(
        self, x: Tensor, a: Tensor, b: Tensor, bias: Tensor | None, **geometry: Any
    ) -> Tensor:
        """Convolve with B and then with A, each along its axes of the window.

        Args:
            x: Input, shape (N, G*S, H, W) or (G*S, H, W).
            a: Factor A.
            b: Factor B.
            bias: Shape (T,), or None.
            **geometry: `stride`, `padding` and `dilation` of the convolution as pairs
                (`padding` may be a string).

        Returns:
            Output of the convolution with the kernel A B, shape (N, T, H', W').
        """
        for axes, weight, groups in self.stages(a, b, x.shape[-3]):
            own = bias if axes is self.rows else None
            x = F.conv2d(x, weight, own, groups=groups, **along(axes, **geometry))
        return x

    def stages(
        self, a: Tensor, b: Tensor, channels: int
    ) -> list[tuple[tuple[int, ...], Tensor, int]]:
        """Axes, weight and groups of both convolutions of `two_conv`."""
        groups, a = channels // b.shape[1], a.movedim(-1, 1)
        for axis in _WINDOW:
            if axis in self.rows:
                b = b.unsqueeze(axis)
            else:
                a = a.unsqueeze(axis)
        return [(self.cols, b.repeat(groups, 1, 1, 1), groups), (self.rows, a, groups)]

    def two_conv_is_cheaper(
        self,
        shape: KernelShape,
        groups: int,
        rank: int,
        stride: tuple[int, int] = (1, 1),
    ) -> bool:
        """Whether `two_conv` takes less than the fraction `worth` of the dense MACs.

        The first convolution has no stride along the axes of the second.
        """
        rows, cols = self.matrix_shape(shape)
        more = math.prod(stride[axis - 2] for axis in _WINDOW if axis in self.rows)
        first = self._copies(shape, groups) * more * cols
        return rank * (rows + first) < self.worth * rows * cols

    def _copies(self, shape: KernelShape, groups: int) -> int:
        """Number of copies of B in the weight of the first convolution."""
        return groups

    def two_conv_limit(self, shape: KernelShape, device: str) -> int:
        """Largest rank at which `two_conv` is considered on a type of device.

        It was only measured on CPUs; elsewhere one convolution is the safe choice.
        """
        return min(self.matrix_shape(shape)) if device == 'cpu' else 0


class TsDd(Split):
    """Split `ts_dd`: channels times kernel window (TensorFact, eq. 1).

    A is (T, S, r) and B (r, D2, D1). The rows of B are r spatial atoms shared by all
    channels, so the first convolution is depthwise.
    """

    worth = 1.0
    two_conv_in_training = True

    def __init__(self) -> None:
        super().__init__((0, 1), (2, 3))

    def stages(
        self, a: Tensor, b: Tensor, channels: int
    ) -> list[tuple[tuple[int, ...], Tensor, int]]:
        """A depthwise convolution with the atoms, then a 1x1 convolution."""
        atoms = b.repeat(channels, 1, 1).unsqueeze(1)
        mix = a.flatten(1)[..., None, None]
        return [(self.cols, atoms, channels), (self.rows, mix, channels // a.shape[1])]

    def _copies(self, shape: KernelShape, groups: int) -> int:
        return groups * shape[1]

    def two_conv_limit(self, shape: KernelShape, device: str) -> int:
        """Largest rank, measured on CPU; depthwise convolutions are slow on CUDA."""
        if device == 'cpu':  # the 1x1 convolution must outweigh the pass over the input
            return max(1, min(shape[0] // 64, 4)) if shape[1] >= 16 else 0
        return 0 if device == 'cuda' else 1


def along(
    axes: tuple[int, ...],
    stride: tuple[int, int],
    padding: str | tuple[int, int],
    dilation: tuple[int, int],
) -> dict[str, Any]:
    """Geometry of a convolution that covers the window along some axes only."""
    here = [axis in axes for axis in _WINDOW]

    def pick(pair: tuple[int, int], otherwise: int) -> tuple[int, ...]:
        """Values of `pair` along these axes, `otherwise` along the others."""
        return tuple(n if h else otherwise for n, h in zip(pair, here, strict=True))

    return {
        'stride': pick(stride, 1),
        'padding': padding if isinstance(padding, str) else pick(padding, 0),
        'dilation': pick(dilation, 1),
    }


SPLITS: dict[str, Split] = {
    'ts_dd': TsDd(),
    'td_sd': Split((0, 2), (1, 3)),
    't_sdd': Split((0,), (1, 2, 3)),
    'tdd_s': Split((0, 2, 3), (1,)),
}


def get_split(name: str) -> Split:
    """Look up a split.

    Args:
        name: Key of `SPLITS`.

    Returns:
        The split.

    Raises:
        ValueError: Unknown name; the message lists the available ones.
    """
    if name not in SPLITS:
        raise ValueError(f'unknown split {name!r}, available: {", ".join(SPLITS)}')
    return SPLITS[name]
