"""Transformer blocks of IV-tuning."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmir.adapters.block import BlockLayer
from mmir.adapters.recompute import recomputed
from mmir.adapters.transformers import Grid, grid_given

from .layer import PromptLayer
from .modules import HybridAdapter, InternalPromptAdapter, PromptMixer
from .options import Options


class Steps(nn.Module):
    """Adapters of a block: two updates, one after attention and one after the MLP."""

    def __init__(self, dims: int, options: Options) -> None:
        super().__init__()
        more = dict(norm_cfg=options.norm_cfg, zero_init=options.zero_init)
        if options.variant == 'hybrid':
            steps = [HybridStep(dims, options, more) for _ in range(2)]
        else:
            number = 1 if options.shared else 2
            steps = [PromptMixer(dims, options.rank, **more) for _ in range(number)]
        self.steps = nn.ModuleList(steps)

    def forward(self, place: int, x: Tensor, prompt: Tensor, grid: Grid) -> Tensor:
        """Update of the patches after attention (`place` 0) or the MLP (1)."""
        return self.steps[min(place, len(self.steps) - 1)](x, prompt, grid)


class HybridStep(nn.Module):
    """HA of the tokens plus IPA of the prompts."""

    def __init__(self, dims: int, options: Options, more: dict[str, Any]) -> None:
        super().__init__()
        self.tokens = HybridAdapter(dims, options.rank, **more)
        self.prompt = InternalPromptAdapter(
            dims, options.prompt_rank, zero_init=options.zero_init
        )

    def forward(self, x: Tensor, prompt: Tensor, grid: Grid) -> Tensor:
        """Update (N, h w, D) for tokens (N, L, D) on a grid, see `to_map`."""
        return self.tokens(x, grid) + self.prompt(prompt)


class PromptedBlock(PromptLayer, BlockLayer):
    """Transformer block with updates after attention and after the MLP.

    Tokens before the patches (class token, registers) pass by.
    """

    stage = 0
    first = last = False
    pyramid = False

    def new_adapter(self, options: Options) -> nn.Module:
        """The two updates."""
        return Steps(self.dims, options)

    def given(self, x: Tensor, args: tuple, kwargs: dict) -> tuple[Tensor, Grid]:
        """Prompts of the block and grid of the patches; see `BlockLayer`."""
        grid = self._grid(x, args, kwargs)
        return self._prompt(x, grid), grid

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """See `BlockLayer`; the last block takes the prompts off the board."""
        out = super().forward(x, *args, **kwargs)
        if self.last and self.active():
            self.shared_board().prompts.clear()
        return out

    def run(
        self, x: Tensor, prompt: Tensor, grid: Grid, *args: Any, **kwargs: Any
    ) -> Tensor:
        """See `BlockLayer`.

        In training, the updates are computed again in the backward pass, together with
        the norm and the sum that follow. So a block saves two more tensors of the size
        of its tokens than a frozen block without adapters, less the input of the norm.
        """
        adapter = self.active()[0]
        saves = not adapter.training or not torch.is_grad_enabled()
        recompute = not saves and not self.checkpoints()

        def update(place: int, x: Tensor) -> Tensor:
            """Update of all tokens; zero for those before the patches."""
            tokens = x.flatten(1, 2) if x.ndim == 4 else x
            extra = tokens.shape[1] - grid[0] * grid[1]
            # Sliced at low rank: a slice of the tokens would be copied.
            change = adapter(place, tokens, prompt, grid)
            if extra:
                change = nn.functional.pad(change, (0, 0, extra, 0))
            return change.view(x.shape)

        def updated(x: Tensor) -> Tensor:
            return x + update(1, x)

        change = partial(update, 0)
        out, _ = self.run_host(x, *args, change=change, recompute=recompute, **kwargs)
        return recomputed(adapter, updated, out) if recompute else updated(out)

    def _grid(self, x: Tensor, args: tuple, kwargs: dict) -> Grid:
        """Grid of the patches: of the map, given to the block, or of the embedding."""
        if x.ndim == 4:
            return tuple(x.shape[1:3])
        return grid_given((*args, *kwargs.values())) or self.shared_board().grid

    def _prompt(self, x: Tensor, grid: Grid) -> Tensor:
        """Prompt tokens (N, L, D) for this block, see `IVTuning`."""
        board, update = self.shared_board(), self.active()[0].options.prompt_update
        per_stage = self.pyramid if update is None else update == 'stage'
        generated = self.first and self.stage == 0
        if generated or (per_stage and not self.first):
            return board.prompts[self.stage]
        tokens = x.flatten(1, 2) if x.ndim == 4 else x
        prompt = tokens[:, tokens.shape[1] - grid[0] * grid[1] :]
        if per_stage:
            board.prompts[self.stage] = prompt
        return prompt
