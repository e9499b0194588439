"""ConvLoRA: low-rank updates of frozen convolutions."""

from collections.abc import Sequence

from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.fx import Proxy

from mmir.adapters import PLAIN_CONVS, Method, NameFilter, insert_adapters_
from mmir.adapters.geometry import ConvGeometry
from mmir.adapters.low_rank import describe_cuts
from mmir.adapters.tracing import as_leaf, refuse_onnx

from .low_rank_layer import LowRankLayer


class LoRAConv2d(LowRankLayer, ConvGeometry):
    """Frozen 2D convolution with named low-rank updates.

    y = conv(x, W + sum of A B) + bias, where A is (T, r) and B (r, S, D2, D1): LoRA
    (arXiv 2106.09685) for convolutions. An update amounts to a convolution to r
    channels followed by a 1x1. A is initialized to zero, the rows of B with a mean
    squared norm of 1. Created by `from_base`; `weight` and `bias` keep their keys.

    It deliberately does not subclass `nn.Conv2d`: hosts that fold batch norms would
    scale the weight but not the updates.
    """

    stands_on = PLAIN_CONVS
    axes = 4

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` (N, in_channels, H, W) or (in_channels, H, W)."""
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        if self.active():
            refuse_onnx(self)
        return self._conv_forward(x, self.effective_kernel(), self.bias)


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
