"""Transformer blocks of IV-tuning."""

from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmir.adapters.transformers import PATTERNS

from .layer import PromptLayer
from .modules import Grid, HybridAdapter, InternalPromptAdapter, PromptMixer
from .options import Options
from .recompute import recomputed

NORMS = tuple(dict.fromkeys(pattern.norm for pattern in PATTERNS.values()))


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
        """Update for tokens after attention (`place` 0) or the MLP (1)."""
        step = self.steps[min(place, len(self.steps) - 1)]
        return recomputed(step, x, prompt, grid)


class HybridStep(nn.Module):
    """HA of the tokens plus IPA of the prompts."""

    def __init__(self, dims: int, options: Options, more: dict[str, Any]) -> None:
        super().__init__()
        self.tokens = HybridAdapter(dims, options.rank, **more)
        self.prompt = InternalPromptAdapter(
            dims, options.prompt_rank, zero_init=options.zero_init
        )

    def forward(self, x: Tensor, prompt: Tensor, grid: Grid) -> Tensor:
        """Update for tokens (N, L, D) on a grid; the same shape."""
        return self.tokens(x, grid) + self.prompt(prompt)


class PromptedBlock(PromptLayer):
    """Transformer block with updates after attention and after the MLP.

    Between the two residual sums of the host's `forward` there is no module, so the
    first update d enters twice: the second norm gets x + d, and d is added to the
    output, whose residual lacks it. Tokens before the patches (class token, registers)
    pass by.
    """

    stage = 0
    first = False
    pyramid = False

    @classmethod
    def why_unfit(cls, module: nn.Module) -> str | None:
        """See `HostLayer`."""
        return None if _second_norm(module) else f'it has no {" or ".join(NORMS)}'

    def new_adapter(self, options: Options) -> nn.Module:
        """The two updates."""
        return Steps(_second_norm(self).normalized_shape[0], options)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run the block on tokens (N, L, D), or on a map (N, H, W, D)."""
        if not self.active():
            return super().forward(x, *args, **kwargs)
        prompt, grid = self._prompt(x, args), self._grid(x, args, kwargs)
        recompute = getattr(self, 'with_cp', False) and self.training
        if recompute:  # the host's would not see the gradients of the adapters
            return checkpoint(
                self._run, x, prompt, grid, *args, use_reentrant=False, **kwargs
            )
        return self._run(x, prompt, grid, *args, **kwargs)

    def _run(
        self, x: Tensor, prompt: Tensor, grid: Grid, *args: Any, **kwargs: Any
    ) -> Tensor:
        adapter, added = self.active()[0], []

        def update(place: int, x: Tensor) -> Tensor:
            """Update of all tokens; zero for those before the patches."""
            tokens = x.flatten(1, 2) if x.ndim == 4 else x
            extra = tokens.shape[1] - grid[0] * grid[1]
            change = adapter(place, tokens[:, extra:], prompt, grid)
            return nn.functional.pad(change, (0, 0, extra, 0)).view(x.shape)

        def after_attention(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
            added.append(update(0, inputs[0]))
            return (inputs[0] + added[0], *inputs[1:])

        handle = _second_norm(self).register_forward_pre_hook(after_attention)
        with_cp = self.__dict__.get('with_cp')
        try:
            if with_cp:
                self.with_cp = False
            out = super().forward(x, *args, **kwargs) + added[0]
        finally:
            handle.remove()
            if with_cp:
                self.with_cp = True
        return out + update(1, out)

    def _grid(self, x: Tensor, args: tuple, kwargs: dict) -> Grid:
        """Grid of the patches: of the map, given to the block, or of the embedding."""
        if x.ndim == 4:
            return tuple(x.shape[1:3])
        for value in (*args, *kwargs.values()):
            if isinstance(value, tuple) and len(value) == 2:
                return value
        return self.shared_board().grid

    def _prompt(self, x: Tensor, args: tuple) -> Tensor:
        """Prompt tokens (N, L, D) for this block, see `IVTuning`."""
        board, update = self.shared_board(), self.active()[0].options.prompt_update
        per_stage = self.pyramid if update is None else update == 'stage'
        generated = self.first and self.stage == 0
        if generated or (per_stage and not self.first):
            return board.prompts[self.stage]
        tokens = x.flatten(1, 2) if x.ndim == 4 else x
        rows, columns = self._grid(x, args, {})
        prompt = tokens[:, tokens.shape[1] - rows * columns :]
        if per_stage:
            board.prompts[self.stage] = prompt
        return prompt


def _second_norm(block: nn.Module) -> nn.Module | None:
    """The norm between attention and MLP."""
    return next((m for k, m in block.named_children() if k in NORMS), None)
