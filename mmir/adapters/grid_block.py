"""Adapter layers that see the tokens of a transformer on the grid of its patches."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from .block import BlockLayer
from .board import PromptBoard
from .host_layer import HostLayer
from .recompute import recomputed
from .transformers import (
    Grid,
    Transformer,
    find_transformers,
    grid_given,
    grid_of_embedding,
)

Update = Callable[[int, Tensor], Tensor]
"""Place (0: after attention, 1: MLP), tokens (N, L, D) -> update (N, h w, D)."""


class BoardLayer(HostLayer):
    """Adapter layer that shares a board with the other layers of its backbone.

    Attributes:
        board: The board; None before `connect`.
        shared: Names of the attributes that `connect` sets.
    """

    board: PromptBoard | None = None
    shared: ClassVar[tuple[str, ...]] = ('board',)

    def release(self) -> nn.Module:
        """See `AdapterLayer`."""
        module = super().release()
        for key in self.shared:
            module.__dict__.pop(key, None)
        return module

    def shared_board(self) -> PromptBoard:
        """The board of the backbone.

        Raises:
            RuntimeError: The layer is not connected to a patch embedding.
        """
        if self.board is None:
            raise RuntimeError(
                f'this {type(self).__name__} is used without the patch embedding of '
                'its backbone; adapt the backbone as a whole'
            )
        return self.board


class GridEmbedding(BoardLayer):
    """Patch embedding that tells the blocks of the backbone the grid of the patches.

    Its adapters have no parameters: the blocks of a ViT are not given the grid, and a
    number of tokens has several.
    """

    @classmethod
    def why_unfit(cls, module: nn.Module) -> str | None:
        """See `HostLayer`."""
        if isinstance(module, HostLayer):
            return 'it has adapters of another method: unload them first'
        return None

    def add_adapter(self, name: str, **options: Any) -> None:
        """Add an adapter without parameters; it has the options of the blocks."""
        self.check_name(name)
        made = nn.Identity()
        made.enabled, made.options = True, options
        self.adapters[name] = made.train(self.training)

    def adapter_options(self, name: str) -> dict[str, Any]:
        """See `AdapterLayer`."""
        return dict(self.adapters[name].options)

    def backbone_in(self, model: nn.Module) -> Transformer:
        """The transformer of a model whose patch embedding this is."""
        found = find_transformers(model)
        return next(t for t in found if model.get_submodule(t.embed) is self)

    def connect(self, model: nn.Module) -> None:
        """Share a new board with the blocks of the backbone."""
        self.board = PromptBoard()
        for name in self.backbone_in(model).blocks:
            block = model.get_submodule(name)
            if isinstance(block, BoardLayer):
                block.board = self.board

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Embed an image (N, C, H, W) as the plain patch embedding does."""
        out = super().forward(x, *args, **kwargs)
        if self.board is not None:
            self.board.grid = grid_of_embedding(self, x, out)
        return out


class GridBlock(BoardLayer, BlockLayer):
    """Transformer block with updates of the patches after attention and after the MLP.

    Tokens before the patches (class token, registers) pass by. The backbone's patch
    embedding is a `GridEmbedding`.
    """

    def grid(self, x: Tensor, *args: Any, **kwargs: Any) -> Grid:
        """Grid of the patches: of the map, given to the block, or of the embedding.

        Args:
            x: Tokens (N, L, D), or a map (N, H, W, D).
            *args: Further arguments of the block.
            **kwargs: As `args`.
        """
        if x.ndim == 4:
            return tuple(x.shape[1:3])
        return grid_given((*args, *kwargs.values())) or self.shared_board().grid

    def given(self, x: Tensor, args: tuple, kwargs: dict) -> tuple[Any, ...]:
        """Grid of the patches; see `BlockLayer`."""
        return (self.grid(x, *args, **kwargs),)

    def run_updated(
        self, x: Tensor, *args: Any, update: Update, grid: Grid, **kwargs: Any
    ) -> Tensor:
        """Run the host's block; add an update after attention and one after the MLP.

        In training, the updates are computed again in the backward pass, together with
        the norm and the sum that follow. So a block saves two more tensors of the size
        of its tokens than a frozen block without adapters, less the input of the norm.

        Args:
            x: Tokens (N, L, D), or a map (N, H, W, D).
            *args: Further arguments of the host's `forward`.
            update: Place and tokens (N, L, D) -> what is added to the patches.
            grid: Rows and columns of the patches.
            **kwargs: As `args`.

        Returns:
            Output of the block, of the shape of `x`.
        """
        trains = any(a.training for a in self.active()) and torch.is_grad_enabled()
        recompute = trains and not self.checkpoints()

        def change(tokens: Tensor, place: int = 0) -> Tensor:
            """Update of all tokens; zero for those before the patches."""
            flat = tokens.flatten(1, 2) if tokens.ndim == 4 else tokens
            added = update(place, flat)
            if extra := flat.shape[1] - added.shape[1]:
                added = pad(added, (0, 0, extra, 0))
            return added.view(tokens.shape)

        def updated(tokens: Tensor) -> Tensor:
            return tokens + change(tokens, 1)

        out, _ = self.run_host(x, *args, change=change, recompute=recompute, **kwargs)
        return recomputed(self, updated, out) if recompute else updated(out)
