"""`block_maps`: outputs of transformer blocks as feature maps."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from .tokens import patches_of, to_map
from .transformers import Grid, Transformer, grid_given, grid_of_embedding


@contextmanager
def block_maps(
    model: nn.Module,
    found: Transformer,
    names: Iterable[str] | None = None,
    detach: bool = False,
) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of transformer blocks while a model runs.

    Hooks are registered on entry, since adapting replaces modules, and removed on exit,
    also after an error, so the model can be copied or pickled afterwards.

    Args:
        model: The model in which the transformer was found.
        found: The transformer, see `mmir.adapters.transformers.find_transformers`.
        names: Names of the blocks. Default: all.
        detach: Whether to drop the graph of the maps.

    Yields:
        Name of a block -> map (N, C, H, W) of its latest call, without class token and
        registers. Empty until the model runs.

    Raises:
        RuntimeError: In the forward pass: the block has fewer tokens than patches, as
            in the pretraining of masked autoencoders.
    """
    maps: dict[str, Tensor] = {}
    grid: list[Grid] = []

    def embedded(module: nn.Module, inputs: tuple, out: Any) -> None:
        grid[:] = [grid_of_embedding(module, inputs[0], out)]

    def tap(name: str, _: nn.Module, args: tuple, kwargs: dict, out: Tensor) -> None:
        given = grid_given((*args, *kwargs.values()))
        maps[name] = tokens_to_map(out.detach() if detach else out, given or grid[0])

    with ExitStack() as hooks:
        module = model.get_submodule
        hooks.enter_context(module(found.embed).register_forward_hook(embedded))
        for name in dict.fromkeys(found.blocks if names is None else names):
            hook = partial(tap, name)
            hooks.enter_context(
                module(name).register_forward_hook(hook, with_kwargs=True)
            )
        yield maps


def tokens_to_map(tokens: Tensor, grid: Grid) -> Tensor:
    """Convert tokens (N, L, C), or a map (N, H, W, C), to a map (N, C, H, W).

    Args:
        tokens: Tokens in row-major order; those before the patches are dropped.
        grid: Rows and columns of the patches; not used for a map.

    Raises:
        RuntimeError: Fewer tokens than patches.
    """
    if tokens.ndim == 4:
        grid = tuple(tokens.shape[1:3])
    return to_map(patches_of(tokens, grid), grid).contiguous()
