"""Adapter layers on transformer blocks, with a step between attention and MLP."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from .host_layer import HostLayer
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

    @property
    def dims(self) -> int:
        """Number of channels D of the tokens."""
        return second_norm(self).normalized_shape[0]

    def run(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run the block with its active adapters."""
        raise NotImplementedError

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run the block on tokens (N, L, D), or on a map (N, H, W, D)."""
        if not self.active():
            return super().forward(x, *args, **kwargs)
        if not (getattr(self, 'with_cp', False) and self.training):
            return self.run(x, *args, **kwargs)
        # the host's would not see the gradients of the adapters
        return recomputed(self, self.run, x, *args, **kwargs)

    def run_host(
        self, x: Tensor, *args: Any, change: Change | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Run the host's block, with a change of the tokens after attention.

        Between the two residual sums of the host's `forward` there is no module, so the
        change d enters twice: the second norm gets x + d, and d is added to the output,
        whose residual lacks it.

        Args:
            x: Tokens (N, L, D), or a map (N, H, W, D).
            *args: Further arguments of the host's `forward`.
            change: Tokens after attention -> what is added to them.
            **kwargs: As `args`.

        Returns:
            Output of the block, and its tokens after attention, with the change.
        """
        middle, added = [], []

        def between(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
            tokens = inputs[0]
            if change is not None:
                added.append(change(tokens))
                tokens = tokens + added[0]
            middle.append(tokens)
            return (tokens, *inputs[1:])

        handle = second_norm(self).register_forward_pre_hook(between)
        with_cp = self.__dict__.get('with_cp')
        try:
            if with_cp:
                self.with_cp = False
            out = super().forward(x, *args, **kwargs)
        finally:
            handle.remove()
            if with_cp:
                self.with_cp = True
        if added:
            out = out + added[0].view(out.shape)
        return out, middle[0].view(out.shape)


def second_norm(block: nn.Module) -> nn.Module | None:
    """The norm between attention and MLP."""
    return next((m for k, m in block.named_children() if k in NORMS), None)
