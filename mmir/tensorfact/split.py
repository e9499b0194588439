"""How a convolution kernel is cut into a matrix of two low-rank factors."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmir.adapters.geometry import KernelShape

_WINDOW = (2, 3)


class Split:
    """A way to read a kernel K of shape (T, S, D2, D1) as a matrix M = A B.

    T are output channels, S input channels of a group. Some axes of the kernel make
    the rows of M, the others its columns, each in the order of the kernel; the inner
    dimension is r. Groups share B. A comes as (sides of the rows, r), B as
    (r, sides of the columns).

    Args:
        rows: Axes of the rows, with T (0) first and without S (1) but in `TsDd`.
        cols: The other axes.

    Attributes:
        worth: `two_conv` pays where it multiplies less than this part of what one dense
            convolution does (measured on CPU).
        two_conv_in_training: Whether that was measured for training steps too.
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
        """Shapes of the factors: A (sides of the rows, rank), B (rank, columns)."""
        rows, cols = ([shape[axis] for axis in axes] for axes in (self.rows, self.cols))
        return (*rows, rank), (rank, *cols)

    def unfold(self, kernel: Tensor) -> Tensor:
        """Write a kernel (T, S, D2, D1) as its matrix."""
        return kernel.permute(self._order).reshape(
            self.matrix_shape(tuple(kernel.shape))
        )

    def fold(self, factors: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Sum the products of pairs of factors into one kernel.

        The sum is taken from left to right, so that a kernel without its last pair
        does not depend on that pair being there.

        Args:
            factors: Pairs of A and B, see `factor_shapes`; r may differ.

        Returns:
            The kernel, shape (T, S, D2, D1), contiguous.
        """
        first, *others = [(a.flatten(0, -2), b.flatten(1)) for a, b in factors]
        matrix = first[0] @ first[1]
        for a, b in others:
            matrix = torch.addmm(matrix, a, b)
        (a, b) = factors[0]
        kernel = matrix.view(*a.shape[:-1], *b.shape[1:]).permute(self._back)
        # Through one axis: sides of 1 would keep strides that look like channels last.
        return kernel.reshape(-1).view(kernel.shape)

    def two_conv(
        self, x: Tensor, a: Tensor, b: Tensor, bias: Tensor | None, **geometry: Any
    ) -> Tensor:
        """Convolve with B and then with A, each along its part of the window.

        Args:
            x: Input, shape (N, G*S, H, W) or (G*S, H, W), padded unless `geometry`
                says how.
            a: Factor A.
            b: Factor B.
            bias: Shape (T,), added once.
            **geometry: `stride`, `padding` and `dilation` of the convolution, pairs
                (or a string for `padding`).

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
        """Axes, weight and groups of the convolutions of `two_conv`."""
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
        """Whether `two_conv` multiplies less than `worth` dense convolutions.

        The first of its convolutions does not stride along the axes of the second.
        """
        rows, cols = self.matrix_shape(shape)
        more = math.prod(stride[axis - 2] for axis in _WINDOW if axis in self.rows)
        first = self._copies(shape, groups) * more * cols
        return rank * (rows + first) < self.worth * rows * cols

    def _copies(self, shape: KernelShape, groups: int) -> int:
        """How often the weight of the first convolution repeats B."""
        return groups

    def two_conv_limit(self, shape: KernelShape, device: str) -> int:
        """Largest rank for which `two_conv` is worth a try on a type of device.

        Elsewhere than on the CPU nobody measured, and one convolution is safe.
        """
        return min(self.matrix_shape(shape)) if device == 'cpu' else 0


class TsDd(Split):
    """Split `ts_dd`: the channels against the kernel window (TensorFact, eq. 1).

    A is (T, S, r) and B (r, D2, D1): the rows of B are r spatial atoms which all
    channels share, so the first convolution is a depthwise one.
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
        """Largest rank as measured on CPU; CUDA dislikes depthwise convolutions."""
        if device == 'cpu':  # the 1x1 convolution must be worth the pass over the input
            return max(1, min(shape[0] // 64, 4)) if shape[1] >= 16 else 0
        return 0 if device == 'cuda' else 1


def along(
    axes: tuple[int, ...],
    stride: tuple[int, int],
    padding: str | tuple[int, int],
    dilation: tuple[int, int],
) -> dict[str, Any]:
    """Geometry of a convolution that takes over the window along some axes only."""
    here = [axis in axes for axis in _WINDOW]

    def pick(pair: tuple[int, int], otherwise: int) -> tuple[int, ...]:
        """The values of `pair` along these axes, `otherwise` along the others."""
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
        name: One of the keys of `SPLITS`.

    Returns:
        The object that reshapes, multiplies and convolves for this split.

    Raises:
        ValueError: For an unknown name; the message lists the available ones.
    """
    if name not in SPLITS:
        raise ValueError(f'unknown split {name!r}, available: {", ".join(SPLITS)}')
    return SPLITS[name]
