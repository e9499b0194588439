"""Layers whose kernel has low-rank updates."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmir.adapters import AdapterLayer
from mmir.adapters.kernel_cache import KernelCache
from mmir.adapters.low_rank import HALF, new_low_rank


class LowRankLayer(KernelCache, AdapterLayer):
    """Frozen layer with kernel W + sum of A B, where A is (T, r) and B (r, ...).

    Subclasses implement `forward` with `effective_kernel`.

    Attributes:
        axes: Number of axes of the kernels of this class in a state dict.
    """

    adapter_parameters = ('A', 'B')
    no_decay = ('B',)
    axes: ClassVar[int] = 0

    def release(self) -> nn.Module:
        """See `AdapterLayer`."""
        module = super().release()
        module.__dict__.pop('_cache', None)
        return module

    @property
    def full_rank(self) -> int:
        """Full rank of the kernel, the smaller side of its matrix (T, ...)."""
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
            Shape of the weight; the weight itself if no update is active.
        """
        pairs = [(update.A, update.B) for update in self.active()]
        device = self.weight.device.type
        if device != 'meta' and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return updated(self.weight, pairs)
        return updated(self.weight, pairs)

    def merge(self) -> nn.Module:
        """See `AdapterLayer`; the kernel is the one that `forward` uses."""
        kernel = self.kernel().detach()
        tensors = [kernel] if self.bias is None else [kernel, self.bias]
        if not all(t.isfinite().all() for t in tensors):
            raise ValueError('NaN or infinite weights, refusing to merge')
        module = self.release()
        trains = any(t.requires_grad for t in self.kernel_parts())
        module.weight = nn.Parameter(kernel.clone(), requires_grad=trains)
        return module

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
            if is_a and weight in state and state[weight].ndim == cls.axes:
                pairs.setdefault(weight, []).append((merged.pop(key), merged.pop(b)))
        for weight, updates in pairs.items():
            merged[weight] = updated(state[weight], updates).detach()
        return merged


def updated(weight: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Add the products of pairs A (T, r), B (r, ...) to a kernel (T, ...).

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
