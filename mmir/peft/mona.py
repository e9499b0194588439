"""Mona: adapters with multi-scale convolutions after attention and after the MLP."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmir.adapters import Method
from mmir.adapters.grid_block import GridBlock, GridEmbedding
from mmir.adapters.host_layer import HostLayer, insert_at_
from mmir.adapters.projection import Projection
from mmir.adapters.tokens import to_map, to_tokens
from mmir.adapters.transformers import Grid, the_transformer

KERNELS = 3, 5, 7
"""Kernel sizes of the depthwise convolutions."""
DROPOUT = 0.1
"""Dropout probability before the last projection."""


@dataclass(frozen=True)
class MonaOptions:
    """Options of Mona, the same for all layers of a backbone; see `Mona`."""

    rank: int = 64
    zero_init: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.rank, int) or self.rank < 1:
            raise ValueError(f'Mona: rank {self.rank!r} is not a positive integer')


class ScaledNorm(nn.Module):
    """Layer norm beside the identity: s1 LN(x) + s2 x, with factors per channel.

    s1 is 1e-6 and s2 is 1 at first, so the norm comes in slowly.

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.norm_scale = nn.Parameter(torch.full((channels,), 1e-6))
        self.input_scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Scale `x` (..., C)."""
        return self.norm(x) * self.norm_scale + x * self.input_scale


class MultiScaleConv(nn.Module):
    """Depthwise convolutions of several sizes, averaged, then channel mixing.

    u = mean_k DW_k(x) + x, and y = Conv1x1(u) + u.

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.ModuleList(
            nn.Conv2d(channels, channels, k, padding=k // 2, groups=channels)
            for k in KERNELS
        )
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Filter a feature map (N, C, H, W)."""
        u = sum(conv(x) for conv in self.depthwise) / len(self.depthwise) + x
        return self.mix(u) + u


class MonaAdapter(nn.Module):
    """Mona adapter: filters the tokens at low rank. Returns the update only.

    Up(Dropout(GELU(Conv(Down(s1 LN(x) + s2 x))))), to be added to x.

    Args:
        channels: Number of channels D.
        options: See `Mona`.
    """

    def __init__(self, channels: int, options: MonaOptions) -> None:
        super().__init__()
        self.scale = ScaledNorm(channels)
        self.down = Projection(channels, options.rank, 'linear')
        self.conv = MultiScaleConv(options.rank)
        self.act = nn.GELU()
        self.dropout = nn.Dropout(DROPOUT)
        self.up = Projection(
            options.rank, channels, 'zero' if options.zero_init else 'linear'
        )

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Update (N, h w, D) for tokens (N, L, D) on a grid, see `to_map`."""
        low = self.conv(to_map(self.down(self.scale(x)), grid))
        return self.up(self.dropout(self.act(to_tokens(low))))


class MonaBlock(GridBlock):
    """Transformer block with a Mona adapter after attention and one after the MLP.

    Several active adapters read the same tokens; their updates are added.
    """

    no_decay = ('norm_scale', 'input_scale')

    @property
    def adapter_parameters(self) -> tuple[str, ...]:
        """See `AdapterLayer`."""
        adapters = (adapter for _, adapter in self.named_adapters())
        return tuple({n for a in adapters for n, _ in a.named_parameters()})

    def add_adapter(self, name: str, **options: Any) -> None:
        """Add the two adapters; `options` are the fields of `MonaOptions`."""
        self.check_name(name)
        chosen = MonaOptions(**options)
        weight = next(p for p in self.parameters() if p.ndim > 1)
        made = nn.ModuleList(MonaAdapter(self.dims, chosen) for _ in range(2))
        made.enabled, made.options = True, chosen
        made = made.to(weight.device, weight.dtype)
        self.adapters[name] = made.train(self.training)

    def adapter_options(self, name: str) -> dict[str, Any]:
        """See `AdapterLayer`."""
        return asdict(self.adapters[name].options)

    def run(self, x: Tensor, grid: Grid, *args: Any, **kwargs: Any) -> Tensor:
        """See `BlockLayer`."""
        active = self.active()

        def update(place: int, tokens: Tensor) -> Tensor:
            return sum(adapter[place](tokens, grid) for adapter in active)

        return self.run_updated(x, *args, update=update, grid=grid, **kwargs)


@MODELS.register_module()
class Mona(Method):
    """Multi-cognitive visual adapters in a frozen vision transformer.

    Two adapters per block, as in "5%>100%: Breaking Performance Shackles of Full
    Fine-Tuning on Visual Recognition Tasks" (arXiv 2408.08345) and its code: rank,
    kernel sizes, dropout, the scaled norm and its first values. There it is a Swin;
    here it is any transformer, and tokens before the patches pass by.

    Args:
        rank: Number of channels between the projections.
        zero_init: Whether the model computes the same as the frozen backbone at first.
            The published code starts from random adapters.

    Raises:
        ValueError: Invalid option.
    """

    norm = 'frozen'

    def __init__(self, rank: int = 64, zero_init: bool = False) -> None:
        self.options = MonaOptions(rank, zero_init)

    def insert_(self, model: nn.Module, name: str) -> dict[str, str]:
        """Adapt blocks and patch embedding of the only transformer; see `Method`."""
        found = the_transformer(model, 'Mona')
        layers: dict[str, type[HostLayer]] = dict.fromkeys(found.blocks, MonaBlock)
        layers[found.embed] = GridEmbedding
        insert_at_(model, name, layers, **asdict(self.options))
        return {}
