"""What the adapter layers of IV-tuning share."""

from dataclasses import asdict
from typing import Any

from torch import nn

from mmir.adapters.board import PromptBoard
from mmir.adapters.host_layer import HostLayer

from .options import Options


class PromptLayer(HostLayer):
    """Layer of IV-tuning: one adapter with `Options`, and the board of the backbone."""

    no_decay = ('gamma', 'beta')
    board: PromptBoard | None = None

    @property
    def adapter_parameters(self) -> tuple[str, ...]:
        """See `AdapterLayer`; the names depend on options and host."""
        adapters = (adapter for _, adapter in self.named_adapters())
        return tuple({n for a in adapters for n, _ in a.named_parameters()})

    def add_adapter(self, name: str, **options: Any) -> None:
        """Add the adapter; `options` are the fields of `Options`."""
        self.check_name(name)
        for other, _ in self.named_adapters():
            raise ValueError(
                f'IV-tuning reads one infrared image: there is an adapter {other!r} '
                'already, unload it first'
            )
        chosen = Options(**options)
        weight = next(p for p in self.parameters() if p.ndim > 1)
        adapter = self.new_adapter(chosen).to(weight.device, weight.dtype)
        adapter.enabled, adapter.options = True, chosen
        self.adapters[name] = adapter.train(self.training)

    def release(self) -> nn.Module:
        """See `AdapterLayer`."""
        module = super().release()
        for key in ('board', 'stage', 'first', 'last', 'pyramid'):
            module.__dict__.pop(key, None)
        return module

    def new_adapter(self, options: Options) -> nn.Module:
        """Create the adapter of this layer."""
        raise NotImplementedError

    def adapter_options(self, name: str) -> dict[str, Any]:
        """See `AdapterLayer`."""
        return asdict(self.adapters[name].options)

    def train(self, mode: bool = True) -> 'PromptLayer':
        """Set the mode; with `frozen_eval` the frozen part stays in evaluation mode."""
        super().train(mode)
        if mode and any(a.options.frozen_eval for a in self.active()):
            for child in self.children():
                child.train(child is self.adapters)
        return self

    def shared_board(self) -> PromptBoard:
        """The board of the backbone.

        Raises:
            RuntimeError: The layer is not connected to a patch embedding.
        """
        if self.board is None:
            raise RuntimeError(
                'this block of IV-tuning is used without the patch embedding of its '
                'backbone; adapt the backbone as a whole'
            )
        return self.board
