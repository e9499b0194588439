"""How a convolution kernel is cut into a matrix of two low-rank factors."""

import torch
import torch.nn.functional as F
from torch import Tensor

KernelShape = tuple[int, int, int, int]


class TsDd:
    """Split `ts_dd`: the channels against the kernel window (TensorFact, eq. 1).

    A kernel K of shape (T, S, D2, D1), T output channels, S input channels of a
    group, is read as a matrix of T*S rows and D2*D1 columns, M = A B with inner
    dimension r. The rows of B are r spatial atoms which all channels share.
    """

    def matrix_shape(self, shape: KernelShape) -> tuple[int, int]:
        """Rows and columns of the matrix of a kernel of `shape` (T, S, D2, D1)."""
        out_channels, in_channels, height, width = shape
        return out_channels * in_channels, height * width

    def factor_shapes(
        self, shape: KernelShape, rank: int
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the factors: A (T, S, rank), B (rank, D2, D1)."""
        return (*shape[:2], rank), (rank, *shape[2:])

    def unfold(self, kernel: Tensor) -> Tensor:
        """Write a kernel (T, S, D2, D1) as its matrix (T*S, D2*D1)."""
        return kernel.reshape(self.matrix_shape(tuple(kernel.shape)))

    def fold(self, factors: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Sum the products of pairs of factors into one kernel.

        The sum is taken from left to right, so that a kernel without its last pair
        does not depend on that pair being there.

        Args:
            factors: Pairs of A (T, S, r) and B (r, D2, D1); r may differ.

        Returns:
            The kernel, shape (T, S, D2, D1), contiguous.
        """
        first, *others = [(a.flatten(0, 1), b.flatten(1)) for a, b in factors]
        matrix = first[0] @ first[1]
        for a, b in others:
            matrix = torch.addmm(matrix, a, b)
        (a, b) = factors[0]
        return matrix.view(*a.shape[:2], *b.shape[1:])

    def two_conv(
        self, x: Tensor, a: Tensor, b: Tensor, bias: Tensor | None, **geometry: object
    ) -> Tensor:
        """Convolve with the atoms first and mix the channels afterwards.

        Args:
            x: Input, shape (N, G*S, H, W) or (G*S, H, W), padded unless `geometry`
                says how.
            a: Factor A, shape (T, S, r).
            b: Factor B, shape (r, D2, D1).
            bias: Shape (T,), added once.
            **geometry: `stride`, `padding`, `dilation` of the convolution, handed
                to the depthwise `torch.nn.functional.conv2d`.

        Returns:
            Output of the convolution with the kernel A B, shape (N, T, H', W').
        """
        channels = x.shape[-3]
        atoms = b.repeat(channels, 1, 1).unsqueeze(1)
        x = F.conv2d(x, atoms, groups=channels, **geometry)
        return F.conv2d(
            x, a.flatten(1)[..., None, None], bias, groups=channels // a.shape[1]
        )

    def two_conv_is_cheaper(self, shape: KernelShape, groups: int, rank: int) -> bool:
        """Whether `two_conv` multiplies less than one dense convolution."""
        rows, cols = self.matrix_shape(shape)
        return rank * (rows + groups * shape[1] * cols) < rows * cols


SPLITS: dict[str, TsDd] = {'ts_dd': TsDd()}


def get_split(name: str) -> TsDd:
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
