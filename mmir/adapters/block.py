"""Adapter layers on transformer blocks, with a step between attention and MLP."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .host_layer import HostLayer
from .lean import lean
from .recompute import recomputed
from .transformers import PATTERNS

NORMS = tuple(dict.fromkeys(pattern.norm for pattern in PATTERNS.values()))
Change = Callable[[Tensor], Tensor]


class BlockLayer(HostLayer):
    """Layer on a pre-norm transformer block of any host.

    Subclasses implement `run`, usually with `run_host`, in place of `forward`. They see
    tokens (N, L, D), or a map (N, H, W, D) in hosts that compute on maps.
    """

    @classmethod
    def why_unfit(cls, module: nn.Module) -> str | None:
        """See `HostLayer`."""
        if isinstance(module, HostLayer):
            return 'it has adapters of another method: unload them first'
        return None if second_norm(module) else f'it has no {" or ".join(NORMS)}'

    @classmethod
    def from_base(cls, module: nn.Module) -> 'BlockLayer':
        """See `AdapterLayer`."""
        plain_drop_rates_(module)
        return super().from_base(module)

    @property
    def dims(self) -> int:
        """Number of channels D of the tokens."""
        return second_norm(self).normalized_shape[0]

    def given(self, x: Tensor, args: tuple, kwargs: dict) -> tuple[Any, ...]:
        """What the block gets from other layers: arguments of `run` after the tokens.

        It is asked for once. With gradient checkpointing `run` gets it again, when the
        other layers may have gone on to the next image.

        Args:
            x: Tokens (N, L, D), or a map (N, H, W, D).
            args: Further arguments of the host's `forward`.
            kwargs: As `args`.
        """
        return ()

    def run(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run the block with its active adapters.

        Args:
            x: Tokens (N, L, D), or a map (N, H, W, D).
            *args: What `given` returns, then the arguments of the host's `forward`.
            **kwargs: Those of the host's `forward`.
        """
        raise NotImplementedError

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run the block on tokens (N, L, D), or on a map (N, H, W, D)."""
        if not self.active():
            return super().forward(x, *args, **kwargs)
        args = (*self.given(x, args, kwargs), *args)
        if not self.checkpoints():
            return self.run(x, *args, **kwargs)
        # the host's would not see the gradients of the adapters
        return recomputed(self, self.run, x, *args, **kwargs)

    def checkpoints(self) -> bool:
        """Whether the whole block is computed again in the backward pass."""
        return bool(getattr(self, 'with_cp', False) and self.training)

    def run_host(
        self,
        x: Tensor,
        *args: Any,
        change: Change | None = None,
        recompute: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Run the host's block, with a change of the tokens after attention.

        Between the two residual sums of the host's `forward` there is no module, so the
        change d enters twice: the second norm gets x + d, and d is added to the output,
        whose residual lacks it.

        Args:
            x: Tokens (N, L, D), or a map (N, H, W, D).
            *args: Further arguments of the host's `forward`.
            change: Tokens after attention -> what is added to them.
            recompute: Whether the change and the norm are computed again in the
                backward pass, and what `lean` says. Of change and norm, autograd then
                saves only the tokens after attention.
            **kwargs: As `args`.

        Returns:
            Output of the block, and its tokens after attention, without the change.
        """
        norm, seen, added = second_norm(self), [], []

        def both(tokens: Tensor) -> tuple[Tensor, Tensor]:
            change_of = change(tokens)
            return change_of, norm(tokens + change_of)

        def changed(tokens: Tensor) -> Tensor:
            seen.append(tokens)
            if change is None:
                return norm(tokens)
            found = recomputed(self, both, tokens) if recompute else both(tokens)
            added.append(found[0])
            return found[1]

        host = partial(_run_between, self, changed, super().forward)
        if recompute and not torch.compiler.is_compiling():
            with lean(self):
                out = host(x, *args, **kwargs)
        else:
            out = host(x, *args, **kwargs)
        if added:
            out = out + added[0].view(out.shape)
        return out, seen[0].view(out.shape)


class _Step(nn.Module):
    """A function in the place of a module."""

    def __init__(self, step: Change) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x)


def _run_between(
    block: nn.Module, step: Change, host: Callable[..., Tensor], *args: Any, **kw: Any
) -> Tensor:
    """Run a host's block with a step in the place of its second norm.

    The host's own gradient checkpointing is off meanwhile. torch.compile follows this,
    but neither nested contexts nor another `forward` of the norm.
    """
    name = _second_norm(block)
    norm, checkpoints = block._modules[name], block.__dict__.get('with_cp')
    block._modules[name] = _Step(step)
    if checkpoints:
        block.with_cp = False
    try:
        return host(*args, **kw)
    finally:
        block._modules[name] = norm
        if checkpoints:
            block.with_cp = True


def plain_drop_rates_(model: nn.Module) -> None:
    """Make drop rates plain numbers, in place.

    mmpretrain's are numpy's, at which torch.compile breaks the graph.
    """
    for part in model.modules():
        if isinstance(rate := vars(part).get('drop_prob'), np.floating):
            part.drop_prob = float(rate)


def second_norm(block: nn.Module) -> nn.Module | None:
    """The norm between attention and MLP."""
    return block._modules.get(_second_norm(block))


def _second_norm(block: nn.Module) -> str | None:
    return next((name for name in block._modules if name in NORMS), None)
