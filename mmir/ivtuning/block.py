"""Transformer blocks of IV-tuning."""

from typing import Any

from torch import Tensor, nn

from mmir.adapters.grid_block import GridBlock
from mmir.adapters.tokens import patches_of
from mmir.adapters.transformers import Grid

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


class PromptedBlock(PromptLayer, GridBlock):
    """Transformer block with updates from its tokens and its prompts."""

    stage = 0
    first = last = False
    pyramid = False

    def new_adapter(self, options: Options) -> nn.Module:
        """The two updates."""
        return Steps(self.dims, options)

    def given(self, x: Tensor, args: tuple, kwargs: dict) -> tuple[Grid, Tensor]:
        """Grid of the patches and prompts of the block; see `BlockLayer`."""
        (grid,) = super().given(x, args, kwargs)
        return grid, self._prompt(x, grid)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """See `BlockLayer`; the last block takes the prompts off the board."""
        out = super().forward(x, *args, **kwargs)
        if self.last and self.active():
            self.shared_board().prompts.clear()
        return out

    def run(
        self, x: Tensor, grid: Grid, prompt: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        """See `BlockLayer`."""
        adapter = self.active()[0]

        def update(place: int, tokens: Tensor) -> Tensor:
            return adapter(place, tokens, prompt, grid)

        return self.run_updated(x, *args, update=update, grid=grid, **kwargs)

    def _prompt(self, x: Tensor, grid: Grid) -> Tensor:
        """Prompt tokens (N, L, D) for this block, see `IVTuning`."""
        board, update = self.shared_board(), self.active()[0].options.prompt_update
        per_stage = self.pyramid if update is None else update == 'stage'
        generated = self.first and self.stage == 0
        if generated or (per_stage and not self.first):
            return board.prompts[self.stage]
        prompt = patches_of(x, grid)
        if per_stage:
            board.prompts[self.stage] = prompt
        return prompt
