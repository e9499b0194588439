"""`BlockFeatures`: what a vision transformer computes from a pair, block by block."""

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import conv2d

from mmir.adapters.block_maps import block_maps, tokens_to_map
from mmir.adapters.tokens import PromptSource
from mmir.adapters.transformers import the_transformer

IMAGE = 'image'
"""Key of the embedding of a network that reads one image."""
PROMPT = 'prompt'
"""Key of the generated prompts of IV-tuning."""


class BlockFeatures:
    """Features of the only vision transformer of a model, as maps (N, C, H, W).

    A context manager: the maps are those of the latest forward pass inside it. They
    have no graph, and the model has no hooks afterwards::

        with BlockFeatures(model, dict(rgb=3, ir=3)) as features:
            model(x)
        features.blocks['layers.11'], features.embeddings['ir']

    Works for every transformer of `mmir.adapters.transformers`, plain or adapted.

    Args:
        model: Model of any host.
        channels: Modality -> number of channels in the model's input, in their order.

    Attributes:
        blocks: Name of a block -> its output, in the order of the network.
        embeddings: Modality -> its patch embedding. Of IV-tuning these are the tokens
            before the first block, and the generated prompts under the key 'prompt'.
            Of a patch convolution that reads all modalities, its part for each, without
            the bias. Otherwise one embedding under the key 'image'.

    Raises:
        ValueError: The model has no vision transformer of a known form, or several.
    """

    def __init__(self, model: nn.Module, channels: Mapping[str, int]) -> None:
        self.model, self.channels = model, dict(channels)
        self.found = the_transformer(model, 'analysis of features')
        self.blocks: dict[str, Tensor] = {}
        self.embeddings: dict[str, Tensor] = {}
        self._hooks = ExitStack()

    def __enter__(self) -> 'BlockFeatures':
        with ExitStack() as hooks:  # undone if a hook cannot be registered
            self.blocks = hooks.enter_context(
                block_maps(self.model, self.found, detach=True)
            )
            embed = self.model.get_submodule(self.found.embed)
            modules = list(embed.modules())
            prompts = [m for m in modules if isinstance(m, PromptSource)]
            convs = [m for m in modules if isinstance(m, nn.Conv2d)]
            hooks.enter_context(convs[0].register_forward_hook(self._convolved))
            for module in prompts:  # switched off, it does not run
                hooks.enter_context(module.register_forward_hook(self._prompted))
            self._hooks = hooks.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hooks.close()

    def _prompted(self, _: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> None:
        """Keep the tokens of both modalities and the prompts of IV-tuning."""
        rgb, ir, grid = inputs
        infrared = next((n for n in self.channels if n != 'rgb'), 'ir')
        named = {'rgb': rgb, infrared: ir, PROMPT: out}
        self.embeddings = {k: tokens_to_map(v.detach(), grid) for k, v in named.items()}

    def _convolved(self, conv: nn.Conv2d, inputs: tuple[Tensor], out: Tensor) -> None:
        """Keep what each modality adds to the patch embedding."""
        x, counts = inputs[0].detach(), list(self.channels.values())
        if len(counts) < 2 or sum(counts) != x.shape[1] or conv.groups > 1:
            self.embeddings = {IMAGE: out.detach()}
            return
        weights = conv.weight.detach().split(counts, 1)
        parts = zip(self.channels, x.split(counts, 1), weights, strict=True)
        geometry = conv.stride, conv.padding, conv.dilation
        self.embeddings = {
            name: conv2d(part, weight, None, *geometry) for name, part, weight in parts
        }
