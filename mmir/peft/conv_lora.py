"""ConvLoRA: low-rank updates of frozen convolutions."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.fx import Proxy

from mmir.adapters import (
    PLAIN_CONVS,
    AdapterLayer,
    Method,
    NameFilter,
    insert_adapters_,
)
from mmir.adapters.geometry import ConvGeometry
from mmir.adapters.kernel_cache import KernelCache
from mmir.adapters.low_rank import HALF, describe_cuts, new_low_rank
from mmir.adapters.tracing import as_leaf, refuse_onnx


class LoRAConv2d(KernelCache, AdapterLayer, ConvGeometry):
    """Frozen 2D convolution with named low-rank updates.

    y = conv(x, W + sum of A B) + bias, where A is (T, r) and B (r, S, D2, D1): LoRA
    (arXiv 2106.09685) for convolutions. An update amounts to a convolution to r
    channels followed by a 1x1. A is initialized to zero, the rows of B with a mean
    squared norm of 1. Created by `from_base`; `weight` and `bias` keep their keys.

    It deliberately does not subclass `nn.Conv2d`: hosts that fold batch norms would
    scale the weight but not the updates.
    """

    stands_on = PLAIN_CONVS
    adapter_parameters = ('A', 'B')
    no_decay = ('B',)

    def release(self) -> nn.Conv2d:
        """See `AdapterLayer`."""
        conv = super().release()
        conv.__dict__.pop('_cache', None)
        return conv

    @property
    def full_rank(self) -> int:
        """Full rank of the kernel: the smaller of T and S D2 D1."""
        return min(len(self.weight), self.weight[0].numel())

    def add_adapter(self, name: str, rank: int = 12) -> None:
        """Add an update of rank `rank`, capped at `full_rank`; see `AdapterLayer`."""
        self.check_name(name)
        if not isinstance(rank, int) or rank < 1:
            raise ValueError(f'rank {rank!r} is not a positive integer')
        rank = min(rank, self.full_rank)
        shape = (rank, *self.weight.shape[1:])
        update = new_low_rank((len(self.weight), rank), shape, self.weight)
        self.adapters[name] = update.train(self.training)

    def adapter_options(self, name: str) -> dict[str, Any]:
        """See `AdapterLayer`."""
        return {'rank': self.adapters[name].rank}

    def kernel_parts(self) -> list[Tensor]:
        """The weight, and the factors of the active updates."""
        return [self.weight, *(t for u in self.active() for t in (u.A, u.B))]

    def kernel(self) -> Tensor:
        """Build the effective kernel.

        Returns:
            Shape (T, S, D2, D1); the weight itself if no update is active.
        """
        pairs = [(update.A, update.B) for update in self.active()]
        device = self.weight.device.type
        if device != 'meta' and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return updated(self.weight, pairs)
        return updated(self.weight, pairs)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` (N, in_channels, H, W) or (in_channels, H, W)."""
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        if self.active():
            refuse_onnx(self)
        return self._conv_forward(x, self.effective_kernel(), self.bias)

    def merge(self) -> nn.Conv2d:
        """See `AdapterLayer`; the kernel is the one that `forward` uses."""
        kernel = self.kernel().detach()
        tensors = [kernel] if self.bias is None else [kernel, self.bias]
        if not all(t.isfinite().all() for t in tensors):
            raise ValueError('NaN or infinite weights, refusing to merge')
        conv = self.release()
        trains = any(t.requires_grad for t in self.kernel_parts())
        conv.weight = nn.Parameter(kernel.clone(), requires_grad=trains)
        return conv

    @classmethod
    def merge_state(
        cls,
        state: Mapping[str, Tensor],
        told: Mapping[str, Mapping[str, Any]],
        **options: Any,
    ) -> dict[str, Tensor]:
        """Add the updates to the weights; see `AdapterLayer`."""
        merged, pairs = dict(state), {}
        for key in state:
            layer, found, _ = f'.{key}'.rpartition('.adapters.')
            weight, b = f'{layer}.weight'.lstrip('.'), f'{key[:-1]}B'
            is_a = found and key.endswith('.A') and b in state
            if is_a and weight in state and state[weight].ndim == 4:
                pairs.setdefault(weight, []).append((merged.pop(key), merged.pop(b)))
        for weight, updates in pairs.items():
            merged[weight] = updated(state[weight], updates).detach()
        return merged


def updated(weight: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Add the products of pairs A (T, r), B (r, S, D2, D1) to a kernel (T, S, D2, D1).

    Half-precision kernels are summed in float32. Without pairs returns `weight` itself.
    """
    if not pairs:
        return weight
    matrix = weight.flatten(1)
    if weight.dtype in HALF:
        matrix, pairs = matrix.float(), [(a.float(), b.float()) for a, b in pairs]
    for a, b in pairs:
        matrix = torch.addmm(matrix, a, b.flatten(1))
    return matrix.view(weight.shape).to(weight.dtype)


@MODELS.register_module()
class ConvLoRA(Method):
    """Low-rank updates of all plain convolutions, including 1x1.

    Args:
        rank: Rank of the updates, capped at the full rank of each kernel.
        include: Regular expressions; only layers whose names match one are adapted.
            Default: all layers.
        exclude: Regular expressions; layers whose names match one are skipped. Default:
            the heads, see `walk.HEADS`.

    Raises:
        ValueError: `rank` is not a positive integer.
    """

    def __init__(
        self,
        rank: int = 12,
        *,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
    ) -> None:
        if not isinstance(rank, int) or rank < 1:
            raise ValueError(f'ConvLoRA: rank {rank!r} is not a positive integer')
        self.rank, self.names = rank, NameFilter(include, exclude)

    def insert_(self, model: nn.Module, name: str) -> dict[str, str]:
        """Add updates to the convolutions of a model; see `Method`."""
        done = insert_adapters_(model, name, [LoRAConv2d], self.names, rank=self.rank)
        ranks = {key: layer.adapters[name].rank for key, layer in done.layers.items()}
        return describe_cuts(self.rank, ranks) | done.notes
