"""`TensorFactConv`, a 2D convolution whose kernel is a product of two factors."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.utils import skip_init

from mmir.adapters import AdapterLayer, carry_hooks, why_not_plain
from mmir.adapters.geometry import geometry_of
from mmir.adapters.low_rank import new_low_rank

from .execution import ConvByFactors
from .loading import load_factors
from .merge import merge_factors
from .rank import (
    DeltaRank,
    Rank,
    describe_kernel,
    factor_count,
    full_rank,
    resolve_delta_rank,
    resolve_rank,
)
from .rank_search import rank_of_kernel
from .split import get_split
from .svd import check_sigma, truncated_factors


@MODELS.register_module()
class TensorFactConv(ConvByFactors, AdapterLayer):
    """Drop-in `nn.Conv2d` with a low-rank kernel and named low-rank deltas.

    y = conv(x, fold(A B) + sum of fold(dA dB)) + bias, after TensorFact
    (arXiv 2309.16592). The split determines how the kernel (T, S, D2, D1) is reshaped
    to a matrix, and thereby the number of parameters at rank r:

    - `ts_dd`: r(TS + D2 D1), which compresses a 3x3 kernel at ranks up to 8;
    - `td_sd`: r(T D2 + S D1);
    - `t_sdd`: r(T + S D2 D1);
    - `tdd_s`: r(T D2 D1 + S).

    Under `ts_dd` a 1x1 kernel has full rank 1. Any rank then means 1, which is exact,
    and `factorize_` skips such convolutions. The other splits compress 1x1 kernels too.

    Usable as `conv_cfg=dict(type='mmir.TensorFactConv', rank=4)`.

    For the modes see `ConvByFactors`. In evaluation mode the kernel is cached while no
    factor changes. Changes through `.data` cannot be detected; call `train()` or
    `eval()` afterwards.

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
        rank: Integer, `'full'`, or `dict(alpha=...)`, see `resolve_rank`.
        split: How the kernel is reshaped to a matrix, see `SPLITS`.
        mode: One of `MODES`.
        sigma: Factor that gets the singular values of a decomposition: `'sqrt'` (half
            each), `'A'` or `'B'`.
        two_conv_max_rank: Largest total rank for which `auto` picks `two_conv` in
            evaluation, provided it takes fewer MACs. Default: `two_conv_limit` of the
            split.
        reconstruct_fp32: Build the kernel in at least float32, without autocast.
        device: Device of the parameters.
        dtype: Dtype of the parameters.

    Raises:
        ValueError: A geometry that `nn.Conv2d` rejects, a rank that is too high for the
            kernel, or an unknown `split`, `mode` or `sigma`.
    """

    container = 'deltas'
    adapter_parameters = ('A', 'B')
    no_decay = ('B',)  # the rows of B keep a norm of about 1
    derived = {'kernel': ('A', 'B')}

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
        self.reset_parameters()

    @classmethod
    def from_conv(
        cls,
        conv: nn.Conv2d,
        rank: Rank,
        *,
        kernel: Tensor | None = None,
        **options: Any,
    ) -> 'TensorFactConv':
        """Factorize a convolution by a truncated singular value decomposition.

        Args:
            conv: Plain `nn.Conv2d`; not modified, and no memory is shared with it.
            rank: As in the constructor, or `dict(energy=...)`, see `rank_of_kernel`.
            kernel: Kernel to decompose instead of `conv.weight`; same shape.
            **options: `split`, `mode`, `sigma`, `two_conv_max_rank` and
                `reconstruct_fp32` of the constructor.

        Returns:
            Layer with the device, dtype, training and gradient flags of `conv`.

        Raises:
            TypeError: `conv` is not an `nn.Conv2d`.
            ValueError: Invalid option, NaN or infinite weights, or the convolution is
                not plain (see `why_not_plain`), such as one with weight norm.
        """
        if not isinstance(conv, nn.Conv2d):
            raise TypeError(f'only nn.Conv2d can be factorized, not {type(conv)}')
        if reason := why_not_plain(conv, rebuilt=True):
            raise ValueError(f'cannot be factorized: {reason}')
        kernel = conv.weight if kernel is None else kernel
        split = get_split(options.setdefault('split', 'ts_dd'))
        layer = skip_init(
            cls,
            **geometry_of(conv),
            bias=conv.bias is not None,
            rank=rank_of_kernel(rank, kernel, split),
            **options,
            device=conv.weight.device,
            dtype=conv.weight.dtype,
        )
        with torch.no_grad():
            for own, value in zip(
                (layer.A, layer.B), layer.decompose(kernel), strict=True
            ):
                own.copy_(value)
            if conv.bias is not None:
                layer.bias.copy_(conv.bias).requires_grad_(conv.bias.requires_grad)
        layer.A.requires_grad_(conv.weight.requires_grad)
        layer.B.requires_grad_(conv.weight.requires_grad)
        return layer.train(conv.training)

    def reset_parameters(self) -> None:
        """Draw factors with Var(K) = r Var(A) Var(B) = 2 / (S D2 D1); zero the bias."""
        _, in_channels, *window = self.kernel_shape
        fan, cols = in_channels * window[0] * window[1], self.B[0].numel()
        nn.init.normal_(self.A, std=(2 * cols / (fan * self.rank)) ** 0.5)
        nn.init.normal_(self.B, std=cols**-0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def init_weights(self) -> None:
        """Do nothing: the constructor, `from_conv` or a checkpoint set the factors.

        The host's `init_weights` calls this method in place of an initialization for
        dense kernels, which would only change the temporary kernel or erase the
        factorization.
        """

    def decompose(self, kernel: Tensor) -> tuple[Tensor, Tensor]:
        """Factorize a dense kernel at the rank of this layer.

        Args:
            kernel: Shape (T, S, D2, D1).

        Returns:
            A and B, float64, on the CPU. Shapes: `factor_shapes` of the split, such as
            (T, S, r) and (r, D2, D1) for `ts_dd`.

        Raises:
            ValueError: The kernel holds NaN or infinite values, or has another shape.
        """
        split, kernel = get_split(self.split), self._checked(kernel)
        a, b = truncated_factors(split.unfold(kernel), self.rank, self.sigma)
        shapes = split.factor_shapes(self.kernel_shape, self.rank)
        return a.reshape(shapes[0]), b.reshape(shapes[1])

    def _checked(self, kernel: Tensor) -> Tensor:
        if tuple(kernel.shape) != self.kernel_shape:
            raise ValueError(
                f'the kernel has shape {tuple(kernel.shape)}, the layer is '
                f'{describe_kernel(self.kernel_shape)}'
            )
        return kernel

    def augment(self, name: str, rank: DeltaRank = 1) -> 'TensorFactConv':
        """Add a trainable delta that does not change the output yet.

        dA is zero; the rows of dB are drawn with a squared norm of 1 on average.

        Args:
            name: Key in `deltas`, such as `ir`; its state dict keys are `deltas.ir.A`
                and `deltas.ir.B`.
            rank: Integer (0 adds nothing) or `dict(ratio=...)`, see
                `resolve_delta_rank`.

        Returns:
            The layer itself.

        Raises:
            ValueError: The name is taken or not an identifier, or the rank is invalid.
        """
        self.check_name(name)
        split = get_split(self.split)
        rank = resolve_delta_rank(rank, self.rank, self.kernel_shape, split)
        if rank:
            shapes = split.factor_shapes(self.kernel_shape, rank)
            delta = new_low_rank(*shapes, self.B)
            self.deltas[name] = delta.train(self.training)
        return self

    def add_adapter(self, name: str, **options: Any) -> None:
        """Alias of `augment`, as `AdapterLayer` requires."""
        self.augment(name, **options)

    def adapter_options(self, name: str) -> dict[str, Any]:
        """See `AdapterLayer`."""
        return {'rank': self.deltas[name].rank}

    def base_tensors(self) -> dict[str, tuple[Tensor, str]]:
        """See `AdapterLayer`; A and B are identified by their product."""
        tensors = super().base_tensors()
        del tensors['A'], tensors['B']
        a, b = (f.detach().cpu().double() for f in (self.A, self.B))
        kernel = get_split(self.split).fold([(a, b)])
        return {'kernel': (kernel, f'rank {self.rank}'), **tensors}

    @classmethod
    def merge_state(
        cls,
        state: Mapping[str, Tensor],
        told: Mapping[str, Mapping[str, Any]],
        **options: Any,
    ) -> dict[str, Tensor]:
        """See `AdapterLayer`; `split` applies to layers for which the file has none."""
        return merge_factors(state, told, options.get('split'))

    def merge(self) -> nn.Conv2d:
        """Create the equivalent plain convolution; this layer is not modified.

        The kernel equals that of mode `reconstruct`, bit for bit. Forward and backward
        hooks are kept.

        Raises:
            ValueError: The kernel or the bias holds NaN or infinite values.
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
        return carry_hooks(self, conv.train(self.training))

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # The shapes do not always determine the split; torch saves `_metadata`.
        metadata = getattr(destination, '_metadata', {})
        metadata.setdefault(prefix[:-1], {})['split'] = self.split

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        self.forget()
        load_factors(self, state_dict, prefix, args[0], args[-1])
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Geometry as for `nn.Conv2d`, rank, split, mode and share of parameters."""
        shape, split = self.kernel_shape, get_split(self.split)
        dense = shape[0] * shape[1] * shape[2] * shape[3]
        share = factor_count(self.rank, shape, split) / dense
        return (
            f'{super().extra_repr()}, rank={self.rank} of '
            f'{full_rank(shape, split)}, split={self.split}, mode={self.mode}, '
            f'params={share:.1%} of dense'
        )
