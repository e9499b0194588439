"""Execution modes of a factorized convolution."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from mmir.adapters.geometry import ConvGeometry
from mmir.adapters.kernel_cache import KernelCache
from mmir.adapters.low_rank import HALF
from mmir.adapters.tracing import as_leaf, refuse_onnx

from .split import get_split

MODES = ('auto', 'reconstruct', 'two_conv', 'branch')


class ConvByFactors(KernelCache, ConvGeometry):
    """Convolution with the kernel fold(A B) + sum of fold(dA dB).

    All modes give the same output up to rounding:

    - `reconstruct`: build the kernel by a small matrix product, then run one
      convolution;
    - `two_conv`: convolve with B, then with A;
    - `branch`: run the base by `reconstruct` and the deltas by `two_conv`, and add
      them;
    - `auto`: `two_conv` where it is faster (on CPUs at low ranks), else `reconstruct`.

    Attributes:
        A: First factor; its last axis is r.
        B: Second factor; its first axis is r.
        bias: Shape (T,), or None.
        deltas: Modules with factors `A` and `B` and a flag `enabled`, by name.
        split: Key of `SPLITS`.
        two_conv_max_rank: Largest total rank for which `auto` picks `two_conv`.
        reconstruct_fp32: Build the kernel in at least float32, without autocast.
        observer: Called as `observer(layer, x, u, v)` in every training forward pass,
            see `branches`; training then runs in mode `branch`. Not copied with the
            layer.
    """

    A: nn.Parameter
    B: nn.Parameter
    bias: nn.Parameter | None
    deltas: nn.ModuleDict
    split: str
    two_conv_max_rank: int | None
    reconstruct_fp32: bool
    observer: Callable[['ConvByFactors', Tensor, Tensor, Tensor], None] | None = None

    uncopied = ('_cache', 'observer')

    @property
    def mode(self) -> str:
        """Execution mode, one of `MODES`."""
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        """Set the execution mode; raises ValueError for an unknown one."""
        if mode not in MODES:
            raise ValueError(f'unknown mode {mode!r}, available: {", ".join(MODES)}')
        self._mode = mode

    @property
    def rank(self) -> int:
        """Inner dimension r of A B, not counting deltas."""
        return self.B.shape[0]

    @property
    def weight(self) -> Tensor:
        """Effective kernel, shape (T, S, D2, D1); read-only."""
        return self.effective_kernel()

    def factors(self) -> list[tuple[Tensor, Tensor]]:
        """Pairs (A, B) of the base and of every delta that is switched on."""
        deltas = [(d.A, d.B) for d in self.deltas.values() if d.enabled]
        return [(self.A, self.B), *deltas]

    def kernel(self) -> Tensor:
        """Build the effective kernel, deltas included.

        Returns:
            Shape (T, S, D2, D1), dtype of the factors; differentiable in the factors
            that require a gradient.
        """
        return self._fold(self.factors())

    def _fold(self, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
        fold = get_split(self.split).fold
        if not self.reconstruct_fp32:
            return fold(pairs)
        dtype = self.A.dtype
        if dtype in HALF:
            pairs = [(a.float(), b.float()) for a, b in pairs]
        device = self.A.device.type
        if device != 'meta' and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return fold(pairs).to(dtype)
        return fold(pairs).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: Shape (N, in_channels, H, W) or (in_channels, H, W).

        Returns:
            Shape (N, T, H', W') or (T, H', W').
        """
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        refuse_onnx(self, ', or to_factored_modules_(model) to keep the factors,')
        mode, observed = self.mode, self.training and self.observer is not None
        if observed or mode == 'branch':
            u, v = self.branches(x)
            if observed:
                self.observer(self, x, u, v)
            y = u + v
            return y if self.bias is None else y + self.bias[:, None, None].to(y.dtype)
        if mode == 'two_conv' or (mode == 'auto' and self._prefers_two(x)):
            return self.by_factors(x, self.factors(), self.bias)
        return self._conv_forward(x, self.effective_kernel(), self.bias)

    def branches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Contributions of the base and of the deltas to the output, without bias.

        Args:
            x: Shape (N, in_channels, H, W) or (in_channels, H, W).

        Returns:
            u, the convolution with fold(A B), and v, the convolution with the sum of
            the active deltas (zeros if there is none). Both have the shape of the
            output.
        """
        base, *deltas = self.factors()
        u = self._conv_forward(x, self._fold([base]), None)
        return u, self.by_factors(x, deltas) if deltas else torch.zeros_like(u)

    def by_factors(
        self,
        x: Tensor,
        pairs: list[tuple[Tensor, Tensor]],
        bias: Tensor | None = None,
    ) -> Tensor:
        """Convolve with the sum of factor products without building the kernel."""
        a = torch.cat([a for a, _ in pairs], dim=-1)
        b = torch.cat([b for _, b in pairs])
        x, geometry = self.pad(x)
        return get_split(self.split).two_conv(x, a, b, bias, **geometry)

    def _prefers_two(self, x: Tensor) -> bool:
        """Whether mode `auto` runs `two_conv`.

        In training `two_conv` stores r times the input for the backward pass, which
        only pays off on CPUs, and not in bfloat16.
        """
        device, split = x.device.type, get_split(self.split)
        if self.training and not (
            split.two_conv_in_training
            and device == 'cpu'
            and not torch.is_autocast_enabled(device)
        ):
            return False
        limit, shape = self.two_conv_max_rank, self.kernel_shape
        if limit is None:
            limit = split.two_conv_limit(shape, device)
        rank = sum(b.shape[0] for _, b in self.factors())
        return rank <= limit and split.two_conv_is_cheaper(
            shape, self.groups, rank, self.stride
        )

    def kernel_parts(self) -> list[Tensor]:
        """The factors of the base and of every delta that is switched on."""
        return [t for pair in self.factors() for t in pair]
