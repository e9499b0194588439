"""LoRA: low-rank updates of frozen linear layers."""

import re
from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.fx import Proxy

from mmir.adapters import PLAIN_LINEARS, Method, NameFilter, insert_adapters_
from mmir.adapters.low_rank import describe_cuts
from mmir.adapters.tracing import as_leaf, refuse_onnx
from mmir.adapters.transformers import find_transformers

from .low_rank_layer import LowRankLayer

ATTENTION = 'qkv', 'q_proj', 'k_proj', 'v_proj', 'proj'
"""Names of the linear layers of attention in the hosts."""


class LoRALinear(LowRankLayer):
    """Frozen linear layer with named low-rank updates.

    y = x (W + sum of A B)^T + bias, where A is (T, r) and B (r, S): LoRA
    (arXiv 2106.09685, equation 3) with scale 1. What the paper calls B is A here: it is
    initialized to zero. Created by `from_base`; `weight` and `bias` keep their keys.
    """

    stands_on = PLAIN_LINEARS
    axes = 2

    def forward(self, x: Tensor) -> Tensor:
        """Project `x` (..., S) to (..., T)."""
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        if self.active():
            refuse_onnx(self)
        return F.linear(x, self.effective_kernel(), self.bias)


@MODELS.register_module()
class LoRA(Method):
    """Low-rank updates of linear layers (arXiv 2106.09685).

    Layers whose weight the attention reads without calling the layer are left alone,
    since an update would have no effect: `qkv` of BEiT, whose bias has no part for the
    keys, and the output projection of `nn.MultiheadAttention`. The report names them.

    Args:
        rank: Rank of the updates, capped at the full rank of each layer.
        include: Regular expressions; only layers whose names match one are adapted.
            Default: in a model with vision transformers, queries, keys, values and
            output projection of their attention; in other models all linear layers.
        exclude: Regular expressions; layers whose names match one are skipped. Default:
            the heads, see `walk.HEADS`.

    Raises:
        ValueError: `rank` is not a positive integer.
    """

    def __init__(
        self,
        rank: int = 8,
        *,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
    ) -> None:
        if not isinstance(rank, int) or rank < 1:
            raise ValueError(f'LoRA: rank {rank!r} is not a positive integer')
        self.rank, self.names = rank, NameFilter(include, exclude)

    def insert_(self, model: nn.Module, name: str) -> dict[str, str]:
        """Add updates to the linear layers of a model; see `Method`."""
        include, uncalled = self.names.include, _uncalled(model)
        if include is None:
            include = _attention(model)
        exclude = [*self.names.exclude, *(f'^{re.escape(n)}$' for n in uncalled)]
        names = NameFilter(include, exclude)
        passed = [n for n in uncalled if self._chosen(include, n)]
        try:
            done = insert_adapters_(model, name, [LoRALinear], names, rank=self.rank)
        except ValueError as error:
            if not passed:
                raise
            raise ValueError(f'{error} ({passed[0]} is read, not called)') from error
        ranks = {key: layer.adapters[name].rank for key, layer in done.layers.items()}
        notes = describe_cuts(self.rank, ranks) | done.notes
        if passed:
            title = (
                f'not adapted, {len(passed)} layers whose weight is read, not called'
            )
            notes[title] = ', '.join(passed[:4]) + (', ...' if passed[4:] else '')
        return notes

    def _chosen(self, include: Sequence[str] | None, name: str) -> bool:
        """Whether the expressions select a layer."""
        return NameFilter(include, self.names.exclude).reason([name]) is None


def _attention(model: nn.Module) -> list[str] | None:
    """Expressions for the attention layers of transformers; None without those."""
    blocks = [b for found in find_transformers(model) for b in found.blocks]
    layers = '|'.join(ATTENTION)
    return [rf'^{re.escape(b)}\.(.+\.)?({layers})$' for b in blocks] or None


def _uncalled(model: nn.Module) -> list[str]:
    """Names of `qkv` layers whose attention calls `F.linear` on their weight.

    Attention with `q_bias` and `v_bias` does, to add a bias without a part for the
    keys: BEiT and Swin V2 of mmpretrain, BEiT and EVA of timm.
    """
    return [
        f'{name}.qkv'.lstrip('.')
        for name, module in model.named_modules()
        if getattr(module, 'q_bias', None) is not None and hasattr(module, 'qkv')
    ]
