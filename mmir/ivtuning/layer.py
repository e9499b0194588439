"""What the adapter layers of IV-tuning share."""

from dataclasses import asdict
from typing import Any

from torch import nn

from mmir.adapters.grid_block import BoardLayer

from .options import Options


class PromptLayer(BoardLayer):
    """Layer of IV-tuning: one adapter with `Options`, and what a backbone shares."""

    no_decay = ('gamma', 'beta')
    shared = ('board', 'stage', 'first', 'last', 'pyramid')

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
