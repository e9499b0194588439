"""VPT: learnable prompt tokens in the blocks of a frozen vision transformer."""

from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmir.adapters import Method
from mmir.adapters.block import BlockLayer
from mmir.adapters.board import PromptBoard
from mmir.adapters.grid_block import BoardLayer
from mmir.adapters.host_layer import insert_at_
from mmir.adapters.transformers import Transformer, the_transformer


class Prompts(nn.Module):
    """Prompt tokens of a block.

    Args:
        number: Number of prompts; 0 for a block that gets those of the block before it.
        dims: Number of channels of the tokens.
        prefix: Number of tokens before the patches, such as the class token.
        bound: Prompts are drawn uniformly from -bound to bound.
    """

    def __init__(self, number: int, dims: int, prefix: int, bound: float) -> None:
        super().__init__()
        if number:
            self.tokens = nn.Parameter(torch.empty(1, number, dims))
            nn.init.uniform_(self.tokens, -bound, bound)
        self.number, self.prefix, self.bound = number, prefix, bound
        self.enabled = True


class VPTBlock(BoardLayer, BlockLayer):
    """Transformer block with prompt tokens between class token and patches.

    Its own prompts are inserted, or those that left the block before it (VPT-shallow).
    The host sees no prompts: they are removed from the output.
    """

    no_decay = ('tokens',)

    @property
    def adapter_parameters(self) -> tuple[str, ...]:
        """See `AdapterLayer`; a block with prompts of another has none."""
        numbers = [adapter.number for _, adapter in self.named_adapters()]
        return ('tokens',) if any(numbers) else ()

    def add_adapter(self, name: str, number: int, prefix: int, bound: float) -> None:
        """Add prompts, see `Prompts`; they change the output at once."""
        self.check_name(name)
        weight = next(p for p in self.parameters() if p.ndim > 1)
        made = Prompts(number, self.dims, prefix, bound)
        made = made.to(weight.device, weight.dtype)
        self.adapters[name] = made.train(self.training)

    def adapter_options(self, name: str) -> dict[str, Any]:
        """See `AdapterLayer`."""
        adapter = self.adapters[name]
        return {k: getattr(adapter, k) for k in ('number', 'prefix', 'bound')}

    def connect(self, model: nn.Module) -> None:
        """Share the carried prompts with the other blocks of the backbone."""
        found = the_transformer(model, 'VPT')
        blocks = [model.get_submodule(name) for name in found.blocks]
        boards = [b.board for b in blocks if isinstance(b, VPTBlock) and b.board]
        self.board = boards[0] if boards else PromptBoard()

    def given(self, x: Tensor, args: tuple, kwargs: dict) -> tuple[list[Tensor]]:
        """Prompts that left the block before this one, or its own; see `BlockLayer`."""
        own = {n: a for n, a in self.named_adapters() if a.enabled}
        return (
            [
                a.tokens.expand(len(x), -1, -1) if a.number else self.board.prompts[n]
                for n, a in own.items()
            ],
        )

    def run(
        self, x: Tensor, prompts: list[Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        """Run the block on tokens (N, L, D) with prompts (N, P, D) among them."""
        active = {n: a for n, a in self.named_adapters() if a.enabled}
        prefix = next(iter(active.values())).prefix
        tokens = torch.cat([x[:, :prefix], *prompts, x[:, prefix:]], 1)
        out, _ = self.run_host(tokens, *args, **kwargs)
        sizes = [prefix, *(p.shape[1] for p in prompts), x.shape[1] - prefix]
        first, *left, patches = out.split(sizes, 1)
        self.board.prompts.update(zip(active, left, strict=True))
        return torch.cat([first, patches], 1)


@MODELS.register_module()
class VPT(Method):
    """Visual prompt tuning (arXiv 2203.12119): learnable tokens in a frozen ViT.

    Args:
        number: Number of prompts.
        deep: Whether every block has prompts of its own (VPT-deep). Otherwise those of
            the first block pass through all blocks (VPT-shallow).

    Raises:
        ValueError: `number` is not a positive integer.
    """

    norm = 'frozen'

    def __init__(self, number: int = 10, deep: bool = True) -> None:
        if not isinstance(number, int) or number < 1:
            raise ValueError(f'VPT: number {number!r} is not a positive integer')
        self.number, self.deep = number, deep

    def insert_(self, model: nn.Module, name: str) -> dict[str, str]:
        """Add prompts to the blocks of the only transformer; see `Method`.

        Raises:
            ValueError: See `Method`, or the attention has positions that prompts lack.
        """
        found = the_transformer(model, 'VPT')
        backbone = model.get_submodule(found.name)
        if reason := _why_no_prompts(model, found):
            kind = type(backbone).__name__
            raise ValueError(f'VPT cannot add tokens to {kind}: {reason}')
        names, options = [*found.blocks], dict(prefix=_prefix(backbone))
        options['bound'] = _bound(model, found)
        own = len(names) if self.deep else 1
        for group, number in ((names[:own], self.number), (names[own:], 0)):
            if group:
                layers = dict.fromkeys(group, VPTBlock)
                insert_at_(model, name, layers, number=number, **options)
        return {}


def _why_no_prompts(model: nn.Module, found: Transformer) -> str | None:
    """Reason why prompts cannot be among the tokens of a transformer."""
    for name in found.blocks:
        block = model.get_submodule(name)
        for part in block.modules():
            if getattr(part, 'window_size', None):
                return 'its attention is over windows or has relative positions'
            if getattr(part, 'rope', None) is not None:
                return 'its attention rotates tokens by position (RoPE)'
        if any('rel_pos' in k or 'relative_position' in k for k in block.state_dict()):
            return 'its attention has a relative position bias'
    backbone = model.get_submodule(found.name)
    for key in ('rel_pos_bias', 'rope'):
        if getattr(backbone, key, None) is not None:
            return f'its attention has positions ({key})'
    return None


def _prefix(backbone: nn.Module) -> int:
    """Number of tokens before the patches, in mmpretrain and in timm."""
    own = getattr(backbone, 'num_extra_tokens', None)
    return getattr(backbone, 'num_prefix_tokens', 0) if own is None else own


def _bound(model: nn.Module, found: Transformer) -> float:
    """Bound of the uniform initialization of prompts, that of the published code."""
    embed = model.get_submodule(found.embed)
    conv = next(m for m in embed.modules() if isinstance(m, nn.Conv2d))
    return (6 / (conv.weight[0].numel() + conv.out_channels)) ** 0.5
