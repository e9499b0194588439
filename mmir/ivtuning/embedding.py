"""Patch embedding of IV-tuning."""

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmir.adapters.grid_block import GridEmbedding
from mmir.adapters.recompute import recomputed
from mmir.adapters.transformers import Grid, grid_of_embedding

from .block import PromptedBlock
from .layer import PromptLayer
from .modules import PromptGenerator
from .options import Options

COLORS = 3


class PromptedEmbedding(PromptLayer, GridEmbedding):
    """Patch embedding of both modalities: tokens of the main image plus prompts.

    The image is (N, 6, H, W) or, with one infrared channel, (N, 4, H, W), RGB first.
    The main image is the visible one unless `Options.main` says otherwise. Patches of
    the other one have an embedding of their own, of the same geometry and randomly
    initialized. Switched off, the infrared channels are ignored.
    """

    @classmethod
    def why_unfit(cls, module: nn.Module) -> str | None:
        """See `HostLayer`."""
        convs = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
        if not convs or convs[0].in_channels != COLORS:
            return 'it is no patch embedding of images with 3 channels'
        return None

    def new_adapter(self, options: Options) -> nn.Module:
        """The embedding of the other image, and the prompt generator."""
        plain = self.release()
        embed = copy.deepcopy(plain).requires_grad_(True)
        for part in embed.modules():
            if callable(reset := getattr(part, 'reset_parameters', None)):
                reset()
        dims = [m for m in plain.modules() if isinstance(m, nn.Conv2d)][-1].out_channels
        prompt = PromptGenerator(
            dims,
            options.prompt_rank,
            attention=options.variant == 'hybrid',
            norm_cfg=options.norm_cfg,
            zero_init=options.zero_init,
        )
        return nn.ModuleDict(dict(embed=embed, prompt=prompt))

    def connect(self, model: nn.Module) -> None:
        """Share a board with the blocks of the backbone, and tell them their stage."""
        super().connect(model)
        backbone, seen = self.backbone_in(model), set()
        last = [*backbone.blocks][-1]
        for name, stage in backbone.blocks.items():
            block = model.get_submodule(name)
            if isinstance(block, PromptedBlock):
                block.stage, block.first = stage, stage not in seen
                block.pyramid, block.last = backbone.pyramid, name == last
            seen.add(stage)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Embed a stacked image; same output as the plain patch embedding.

        Raises:
            ValueError: The image does not have 4 or 6 channels.
        """
        rgb, ir = x[:, :COLORS], x[:, COLORS:]
        if not self.active():
            return super().forward(rgb, *args, **kwargs)
        if ir.shape[1] not in (1, COLORS):
            raise ValueError(
                f'IV-tuning needs RGB and infrared stacked, 4 or 6 channels, not '
                f'{x.shape[1]}: use a paired data preprocessor'
            )
        adapter = self.active()[0]
        main, second = rgb, ir.expand_as(rgb)
        if adapter.options.main == 'ir':
            main, second = second, main
        out = super().forward(main, *args, **kwargs)
        tokens, grid = self._tokens(out, x)
        embedded = adapter['embed'](second, *args, **kwargs)
        other, _ = self._tokens(embedded, x)
        prompt = adapter['prompt']
        if prompt.training and torch.is_grad_enabled():
            prompt = partial(recomputed, prompt, prompt)
        prompt = prompt(tokens, other, grid)
        self.shared_board().prompts = {0: prompt}
        if isinstance(out, tuple):
            return (tokens + prompt, *out[1:])
        return (tokens + prompt).view(out.shape)

    def _tokens(self, out: Any, image: Tensor) -> tuple[Tensor, Grid]:
        """Tokens (N, L, D) and their grid, from the output of a patch embedding."""
        grid = grid_of_embedding(self, image, out)
        if isinstance(out, tuple):
            return out[0], grid
        return (out.flatten(1, 2) if out.ndim == 4 else out), grid
