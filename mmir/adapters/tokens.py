"""Tokens of a vision transformer and feature maps."""

from torch import Tensor, nn

from .transformers import Grid


def to_map(tokens: Tensor, grid: Grid) -> Tensor:
    """Reshape tokens (N, L, C), in row-major order, to a feature map (N, C, h, w).

    Tokens before those of the patches, such as the class token, are left out.
    """
    return patches_of(tokens, grid).transpose(1, 2).unflatten(2, grid)


def to_tokens(x: Tensor) -> Tensor:
    """Reshape a feature map (N, C, h, w) to tokens (N, h w, C)."""
    return x.flatten(2).transpose(1, 2)


def patches_of(tokens: Tensor, grid: Grid) -> Tensor:
    """Tokens of the patches, without those before them: class token, registers.

    Args:
        tokens: Tokens (N, L, C), or a map (N, h, w, C).
        grid: Rows and columns of the patches.

    Returns:
        Tokens (N, h w, C).

    Raises:
        RuntimeError: Fewer tokens than patches.
    """
    if tokens.ndim == 4:
        return tokens.flatten(1, 2)
    rows, columns = grid
    extra = tokens.shape[1] - rows * columns
    if extra < 0:
        raise RuntimeError(
            f'{tokens.shape[1]} tokens for a grid of {rows} x {columns} patches'
        )
    return tokens[:, extra:]


class PromptSource(nn.Module):
    """Base of modules that make prompts from the tokens of two modalities.

    Called with the tokens (N, h w, D) of the first and of the second modality and the
    grid, they return prompts (N, h w, D). What shows features finds them by this class.
    """
