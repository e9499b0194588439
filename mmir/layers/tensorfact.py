"""TensorFactConv: a 2D convolution whose kernel is a product of two factors."""

from functools import partial
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.utils import skip_init

from .geometry import ConvGeometry, geometry_of
from .loading import load_factors
from .low_rank import DELTA_INITS, Delta, check_delta
from .rank import (
    DeltaRank,
    Rank,
    describe_kernel,
    factor_count,
    full_rank,
    resolve_delta_rank,
    resolve_rank,
)
from .split import get_split
from .svd import check_sigma, truncated_factors

MODES = ('auto', 'reconstruct', 'two_conv')


@MODELS.register_module()
class TensorFactConv(ConvGeometry):
    """Drop-in `nn.Conv2d` with a low-rank kernel and named low-rank deltas.

    y = conv(x, fold(A B) + sum of fold(dA dB)) + bias, after TensorFact
    (arXiv 2309.16592). Under `ts_dd` the kernel (T, S, D2, D1) costs
    r(TS + D2 D1) parameters, so that a 3x3 kernel is compressed by ranks up to 8.
    A 1x1 kernel has full rank 1: there any rank means 1, which is exact, and
    `factorize_` leaves such a convolution alone.

    Usable as `conv_cfg=dict(type='mmir.TensorFactConv', rank=4)`.

    Three ways to compute the same: `reconstruct` builds the kernel by one small
    matrix product and runs one convolution; `two_conv` convolves with the r atoms
    and mixes the channels afterwards; `auto` reconstructs, except in evaluation
    where few multiplications make `two_conv` faster. In evaluation the kernel is
    kept between calls, as long as no factor changed. Changes through `.data` leave
    no trace; call `train()` or `eval()` after them.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, T.
        kernel_size: Size of the window, (D2, D1).
        stride: As in `nn.Conv2d`.
        padding: As in `nn.Conv2d`, `'same'` and `'valid'` included.
        dilation: As in `nn.Conv2d`.
        groups: As in `nn.Conv2d`; S = in_channels / groups.
        bias: Whether to add a bias.
        padding_mode: As in `nn.Conv2d`.
        rank: An integer, `'full'`, or `dict(alpha=...)`, see `resolve_rank`.
        split: How the kernel becomes a matrix, see `SPLITS`.
        mode: One of `MODES`.
        sigma: Where a decomposition puts the singular values: `'sqrt'`, `'A'`, `'B'`.
        two_conv_max_rank: Largest total rank for which `auto` picks `two_conv`
            in evaluation; None for 4 (CPU and at least 256 channels), 2 (CPU),
            0 (CUDA) and 1 (elsewhere).
        reconstruct_fp32: Build the kernel in float32 at least, without autocast.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: For a geometry `nn.Conv2d` refuses, a rank the kernel cannot
            have, or an unknown `split`, `mode` or `sigma`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = 'zeros',
        *,
        rank: Rank,
        split: str = 'ts_dd',
        mode: str = 'auto',
        sigma: str = 'sqrt',
        two_conv_max_rank: int | None = None,
        reconstruct_fp32: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
        )
        if mode not in MODES:
            raise ValueError(f'unknown mode {mode!r}, available: {", ".join(MODES)}')
        self.split, self.mode, self.sigma = split, mode, check_sigma(sigma)
        self.two_conv_max_rank = two_conv_max_rank
        self.reconstruct_fp32 = reconstruct_fp32
        rule, shape = get_split(split), self.kernel_shape
        shapes = rule.factor_shapes(shape, resolve_rank(rank, shape, rule))
        new = partial(torch.empty, device=device, dtype=dtype)
        self.A, self.B = (nn.Parameter(new(size)) for size in shapes)
        self.register_parameter(
            'bias', nn.Parameter(new(out_channels)) if bias else None
        )
        self.deltas = nn.ModuleDict()
        self._cache: tuple[tuple[Any, ...], Tensor] | None = None
        self.reset_parameters()

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, rank: Rank, **options: Any) -> 'TensorFactConv':
        """Factorise a convolution by a truncated singular value decomposition.

        Args:
            conv: Any `nn.Conv2d`; it is not changed and shares no memory.
            rank: As in the constructor.
            **options: `split`, `mode`, `sigma`, `two_conv_max_rank` and
                `reconstruct_fp32` of the constructor.

        Returns:
            A layer with the device, dtype, training and gradient flags of `conv`.

        Raises:
            TypeError: If `conv` is no `nn.Conv2d`.
            ValueError: For a wrong option, or NaN or infinite weights.
        """
        if not isinstance(conv, nn.Conv2d):
            raise TypeError(f'only nn.Conv2d can be factorised, not {type(conv)}')
        layer = skip_init(
            cls,
            **geometry_of(conv),
            bias=conv.bias is not None,
            rank=rank,
            **options,
            device=conv.weight.device,
            dtype=conv.weight.dtype,
        )
        with torch.no_grad():
            for own, value in zip(
                (layer.A, layer.B), layer.decompose(conv.weight), strict=True
            ):
                own.copy_(value)
            if conv.bias is not None:
                layer.bias.copy_(conv.bias).requires_grad_(conv.bias.requires_grad)
        layer.A.requires_grad_(conv.weight.requires_grad)
        layer.B.requires_grad_(conv.weight.requires_grad)
        return layer.train(conv.training)

    @property
    def rank(self) -> int:
        """Inner dimension r of A B, without deltas."""
        return self.B.shape[0]

    @property
    def weight(self) -> Tensor:
        """The effective kernel, shape (T, S, D2, D1); read only."""
        return self._effective_kernel()

    def reset_parameters(self) -> None:
        """Draw factors with Var(K) = r Var(A) Var(B) = 2 / (S D2 D1), bias 0."""
        _, in_channels, *window = self.kernel_shape
        area = window[0] * window[1]
        nn.init.normal_(self.A, std=(2 / (in_channels * self.rank)) ** 0.5)
        nn.init.normal_(self.B, std=area**-0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def init_weights(self) -> None:
        """Keep the factors: the constructor, `from_conv` or a checkpoint made them.

        The host's `init_weights` calls this instead of an initialisation for dense
        kernels, which would be lost on the temporary kernel or erase a
        factorisation.
        """

    def decompose(self, kernel: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of a dense kernel at the rank of this layer.

        Args:
            kernel: Shape (T, S, D2, D1).

        Returns:
            A (T, S, r) and B (r, D2, D1), float64, on the CPU.

        Raises:
            ValueError: If the kernel holds NaN or infinite values.
        """
        split = get_split(self.split)
        a, b = truncated_factors(split.unfold(kernel), self.rank, self.sigma)
        shapes = split.factor_shapes(self.kernel_shape, self.rank)
        return a.reshape(shapes[0]), b.reshape(shapes[1])

    def factors(self) -> list[tuple[Tensor, Tensor]]:
        """Pairs (A, B) of the base and of every delta that is switched on."""
        deltas = [(d.A, d.B) for d in self.deltas.values() if d.enabled]
        return [(self.A, self.B), *deltas]

    def kernel(self) -> Tensor:
        """Build the effective kernel, deltas included.

        Returns:
            Shape (T, S, D2, D1), dtype of the factors, with a graph to those of
            them that require a gradient.
        """
        fold = get_split(self.split).fold
        if not self.reconstruct_fp32:
            return fold(self.factors())
        dtype = self.A.dtype
        if dtype in (torch.float16, torch.bfloat16):
            pairs = [(a.float(), b.float()) for a, b in self.factors()]
        else:
            pairs = self.factors()
        device = self.A.device.type
        if device != 'meta' and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return fold(pairs).to(dtype)
        return fold(pairs).to(dtype)

    def augment(
        self, name: str, rank: DeltaRank = 1, init: str = 'zero_A'
    ) -> 'TensorFactConv':
        """Add a trainable delta, which leaves the output as it is at first.

        Args:
            name: Key in `deltas`, such as `ir`; keys of the state dict become
                `deltas.ir.A` and `deltas.ir.B`.
            rank: An integer (0 adds nothing) or `dict(ratio=...)`, see
                `resolve_delta_rank`.
            init: `'zero_A'`: dA = 0, dB ~ N(0, 1/DD).

        Returns:
            The layer itself.

        Raises:
            ValueError: If the name is taken or no identifier, or for a wrong rank
                or `init`.
        """
        check_delta(name, init, self.deltas)
        split = get_split(self.split)
        rank = resolve_delta_rank(rank, self.rank, self.kernel_shape, split)
        if rank:
            shapes = split.factor_shapes(self.kernel_shape, rank)
            a, b = (self.A.new_empty(shape) for shape in shapes)
            DELTA_INITS[init](a, b)
            self.deltas[name] = Delta(a, b).train(self.training)
        return self

    def enable_delta(self, name: str, on: bool = True) -> None:
        """Switch a delta on or off; off restores the former output bit for bit.

        Raises:
            KeyError: If there is no such delta.
        """
        if name not in self.deltas:
            raise KeyError(f'no delta {name!r}, there are {list(self.deltas)}')
        self.deltas[name].enabled = on

    def merge(self) -> nn.Conv2d:
        """Return the plain convolution this layer computes; the layer stays.

        The kernel is the one of mode `reconstruct`, bit for bit.

        Raises:
            ValueError: If the kernel or the bias holds NaN or infinite values.
        """
        kernel = self.kernel().detach()
        tensors = [kernel] if self.bias is None else [kernel, self.bias]
        if not all(t.isfinite().all() for t in tensors):
            raise ValueError(
                'NaN or infinite weights, refusing to merge a kernel of '
                f'{describe_kernel(self.kernel_shape)}'
            )
        conv = skip_init(
            nn.Conv2d,
            **geometry_of(self),
            bias=self.bias is not None,
            device=kernel.device,
            dtype=self.A.dtype,
        )
        trains = any(t.requires_grad for pair in self.factors() for t in pair)
        with torch.no_grad():
            conv.weight.copy_(kernel).requires_grad_(trains)
            if self.bias is not None:
                conv.bias.copy_(self.bias).requires_grad_(self.bias.requires_grad)
        return conv.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: Shape (N, in_channels, H, W) or (in_channels, H, W).

        Returns:
            Shape (N, T, H', W') or (T, H', W').
        """
        if self.mode == 'two_conv' or (self.mode == 'auto' and self._prefers_two(x)):
            return self._two_conv(x)
        return self._conv_forward(x, self._effective_kernel(), self.bias)

    def _prefers_two(self, x: Tensor) -> bool:
        """The rule of mode `auto`, measured for CPU; CUDA dislikes depthwise."""
        if self.training:
            return False
        limit, (out_channels, in_channels, *_) = (
            self.two_conv_max_rank,
            self.kernel_shape,
        )
        if limit is None and x.device.type == 'cpu':
            limit = 4 if min(out_channels, in_channels) >= 256 else 2
        elif limit is None:
            limit = 0 if x.device.type == 'cuda' else 1
        rank = sum(b.shape[0] for _, b in self.factors())
        return rank <= limit and get_split(self.split).two_conv_is_cheaper(
            self.kernel_shape, self.groups, rank
        )

    def _two_conv(self, x: Tensor) -> Tensor:
        pairs = self.factors()
        a = torch.cat([a for a, _ in pairs], dim=2)
        b = torch.cat([b for _, b in pairs])
        x, geometry = self.pad(x)
        return get_split(self.split).two_conv(x, a, b, self.bias, **geometry)

    def _effective_kernel(self) -> Tensor:
        """The kernel, kept between calls in evaluation while no factor changes."""
        tensors = [t for pair in self.factors() for t in pair]
        learns = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
        if (
            self.training
            or learns
            or torch.compiler.is_compiling()
            or any(t.is_inference() for t in tensors)
        ):
            return self.kernel()
        # A kernel made in inference mode cannot be used outside of it.
        key = (
            torch.is_inference_mode_enabled(),
            *((t.data_ptr(), t._version, t.dtype, t.device) for t in tensors),
        )
        if self._cache is None or self._cache[0] != key:
            self._cache = key, self.kernel()
        return self._cache[1]

    def train(self, mode: bool = True) -> 'TensorFactConv':
        """Set the training flag and forget the kernel kept for evaluation."""
        self._cache = None
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> 'TensorFactConv':
        self._cache = None
        return super()._apply(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_cache': None}

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        self._cache = None
        load_factors(self, state_dict, prefix, args[-1])
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Geometry as `nn.Conv2d`, then rank, split, mode and share of parameters."""
        shape, split = self.kernel_shape, get_split(self.split)
        dense = shape[0] * shape[1] * shape[2] * shape[3]
        share = factor_count(self.rank, shape, split) / dense
        return (
            f'{super().extra_repr()}, rank={self.rank} of '
            f'{full_rank(shape, split)}, split={self.split}, mode={self.mode}, '
            f'params={share:.1%} of dense'
        )
