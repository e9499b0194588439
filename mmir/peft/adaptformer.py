"""AdaptFormer: a bottleneck beside the MLP of each transformer block."""

from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmir.adapters import Method
from mmir.adapters.block import BlockLayer
from mmir.adapters.host_layer import insert_at_
from mmir.adapters.projection import Projection
from mmir.adapters.transformers import the_transformer


class Bottleneck(nn.Module):
    """s Up(ReLU(Down(x))), of which Up is zero at first.

    Args:
        dims: Number of channels of the tokens.
        rank: Number of channels between the projections.
        scale: Factor s.
    """

    def __init__(self, dims: int, rank: int, scale: float) -> None:
        super().__init__()
        self.down = Projection(dims, rank, 'zero')
        nn.init.kaiming_uniform_(self.down.weight, a=5**0.5)
        self.up = Projection(rank, dims, 'zero')
        self.rank, self.scale, self.enabled = rank, scale, True

    def forward(self, x: Tensor) -> Tensor:
        """Update for tokens (..., D); the same shape."""
        return self.scale * self.up(torch.relu(self.down(x)))


class AdaptFormerBlock(BlockLayer):
    """Transformer block with a bottleneck beside its MLP.

    y = x + MLP(LN(x)) + s Up(ReLU(Down(x))), where x is the sum after attention: the
    bottleneck reads what the norm reads, as in equations 3 and 4 of AdaptFormer
    (arXiv 2205.13535). That sum is no input of the MLP, so the layer stands on the
    block.
    """

    adapter_parameters = ('down.weight', 'down.bias', 'up.weight', 'up.bias')

    def add_adapter(self, name: str, rank: int = 64, scale: float = 0.1) -> None:
        """Add a bottleneck; see `AdapterLayer`."""
        self.check_name(name)
        weight = next(p for p in self.parameters() if p.ndim > 1)
        made = Bottleneck(self.dims, rank, scale).to(weight.device, weight.dtype)
        self.adapters[name] = made.train(self.training)

    def adapter_options(self, name: str) -> dict[str, Any]:
        """See `AdapterLayer`."""
        return {'rank': self.adapters[name].rank, 'scale': self.adapters[name].scale}

    def run(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """See `BlockLayer`."""
        out, middle = self.run_host(x, *args, **kwargs)
        for adapter in self.active():
            out = out + adapter(middle)
        return out


@MODELS.register_module()
class AdaptFormer(Method):
    """Bottlenecks beside the MLPs of a vision transformer (arXiv 2205.13535).

    Args:
        rank: Number of channels of a bottleneck; 64 in the paper.
        scale: Factor of the update; 0.1 in the paper.

    Raises:
        ValueError: `rank` is not a positive integer.
    """

    norm = 'frozen'

    def __init__(self, rank: int = 64, scale: float = 0.1) -> None:
        if not isinstance(rank, int) or rank < 1:
            raise ValueError(f'AdaptFormer: rank {rank!r} is not a positive integer')
        self.rank, self.scale = rank, float(scale)

    def insert_(self, model: nn.Module, name: str) -> dict[str, str]:
        """Adapt the blocks of the only transformer of a model; see `Method`."""
        blocks = the_transformer(model, 'AdaptFormer').blocks
        layers = dict.fromkeys(blocks, AdaptFormerBlock)
        insert_at_(model, name, layers, rank=self.rank, scale=self.scale)
        return {}
