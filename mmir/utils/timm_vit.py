"""Vision transformers of timm under the names of mmpretrain: ViT, EVA-02, Swin."""

import re
from collections.abc import Callable, Mapping
from math import isqrt

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from .files import few

Weights = dict[str, Tensor]
Names = Mapping[str, str | None]
"""Beginning of a name in timm -> in mmpretrain; None for what is left out."""

OUTSIDE: Names = {
    'cls_token': 'cls_token',
    'pos_embed': 'pos_embed',
    'patch_embed.proj': 'patch_embed.projection',
    'norm_pre': 'pre_norm',
    'norm': 'ln1',
    'fc_norm': 'ln2',
    'head': None,
}
"""Outside the blocks of ViT and EVA-02."""

VIT: Names = {
    'norm1': 'ln1',
    'attn.qkv': 'attn.qkv',
    'attn.proj': 'attn.proj',
    'ls1.gamma': 'attn.gamma1.weight',
    'norm2': 'ln2',
    'mlp.fc1': 'ffn.layers.0.0',
    'mlp.fc2': 'ffn.layers.1',
    'ls2.gamma': 'ffn.gamma2.weight',
}
EVA02: Names = {
    'norm1': 'norm1',
    'attn.qkv': 'attn.qkv',
    'attn.proj': 'attn.proj',
    'norm2': 'norm2',
    'mlp.fc1': 'mlp.w12',
    'mlp.norm': 'mlp.norm',
    'mlp.fc2': 'mlp.w3',
}
SWIN: Names = {
    'norm1': 'norm1',
    'attn.relative_position_bias_table': 'attn.w_msa.relative_position_bias_table',
    'attn.relative_position_index': None,  # computed
    'attn_mask': None,
    'attn.qkv': 'attn.w_msa.qkv',
    'attn.proj': 'attn.w_msa.proj',
    'norm2': 'norm2',
    'mlp.fc1': 'ffn.layers.0.0',
    'mlp.fc2': 'ffn.layers.1',
}


def convert_vit(state: Mapping[str, Tensor]) -> Weights:
    """Convert a ViT, also one with layer scale or CLIP's norm before the blocks.

    Args:
        state: State dict of timm's `VisionTransformer`.

    Returns:
        State dict of mmpretrain's `VisionTransformer`. Half precision becomes float32.

    Raises:
        ValueError: It holds no ViT, or one that mmpretrain does not have.
    """
    found = _renamed(_single(state), 'ViT', r'(blocks)\.(\d+)\.', VIT, OUTSIDE)
    _check_mlp(found, 'ffn.layers.0.0', 'ffn.layers.1', 1, 'ViT')
    return found


def convert_eva02(
    state: Mapping[str, Tensor],
    grid: tuple[int, int] | None = None,
    head_dims: int = 64,
) -> Weights:
    """Convert an EVA-02, with the tables of its rotary position encoding.

    mmpretrain keeps these tables in its state dict and cannot compute them: its formula
    has other positions (up to half the channels of a head, not 16) and frequencies in
    another order than the channels it rotates. It replaces loaded tables as soon as an
    image has another grid of patches than `img_size`, so run images of that size only.

    Args:
        state: State dict of timm's `Eva` with rotary positions and SwiGLU.
        grid: Rows and columns of patches that the tables are made for. Default: those
            of the position embedding, which must be square.
        head_dims: Channels per attention head; 64 in all published sizes.

    Returns:
        State dict of mmpretrain's `ViTEVA02`. Half precision becomes float32. timm has
        no bias of the keys, as it changes nothing in a softmax; here it is zero.

    Raises:
        ValueError: It holds no EVA-02, one that mmpretrain does not have, or a position
            embedding that is not square without `grid`.
    """
    joined = _single(state)
    for key in state:
        _join(joined, key)
    found = _renamed(joined, 'EVA-02', r'(blocks)\.(\d+)\.', EVA02, OUTSIDE)
    _check_mlp(found, 'mlp.w12', 'mlp.w3', 2, 'EVA-02')
    positions = found['pos_embed']
    if grid is None:
        number = positions.shape[1] - ('cls_token' in found)
        grid = (isqrt(number),) * 2
        if grid[0] * grid[1] != number:
            raise ValueError(f'{number} positions are not square: give the grid')
    tables = rotary_tables(grid, head_dims)
    owners = ['', *(f'{name}.attn.' for name in _blocks(found))]
    for table, name in zip(tables, ('cos', 'sin'), strict=True):
        for owner in owners:
            found[f'{owner}rope.freqs_{name}'] = table.to(positions)
    return found


def convert_swin(state: Mapping[str, Tensor]) -> Weights:
    """Convert a Swin transformer, of version 1.

    Args:
        state: State dict of timm's `SwinTransformer`, or of a file of the official code
            or of timm before 0.9, which count the downsampling layers differently.

    Returns:
        State dict of mmpretrain's `SwinTransformer` whose only output is the last
        stage. mmdet and mmseg have the same names. Half precision becomes float32.

    Raises:
        ValueError: It holds no Swin, or another version of it.
    """
    state = _single(state)
    first = 1 - any(key.startswith('layers.0.downsample.') for key in state)
    stages = 1 + max((int(k.split('.')[1]) for k in state if _in_stage(k)), default=0)
    outside: dict[str, str | None] = {
        'patch_embed.proj': 'patch_embed.projection',
        'patch_embed.norm': 'patch_embed.norm',
        'norm': f'norm{stages - 1}',
        'head': None,
    }
    for stage in range(stages - 1):  # timm downsamples before a stage, mmpretrain after
        old = f'layers.{stage + first}.downsample'
        outside[old] = f'stages.{stage}.downsample'
    found = _renamed(state, 'Swin', r'(layers)\.(\d+\.blocks\.\d+)\.', SWIN, outside)
    for key, value in list(found.items()):
        if '.downsample.' in key:
            found[key] = _unfold_order(value)
        elif key.endswith('relative_position_bias_table'):
            index = key.replace('bias_table', 'index')
            found[index] = relative_index((isqrt(len(value)) + 1) // 2)
    return found


FAMILIES: Mapping[str, Callable[[Mapping[str, Tensor]], Weights]] = {
    'vit': convert_vit,
    'eva02': convert_eva02,
    'swin': convert_swin,
}
"""Name of a family -> its conversion."""


def resize_patches(weights: Weights, size: int) -> Weights:
    """Resize the kernel of the patch embedding to patches of another size.

    Bicubic, from 14 to 16 px for EVA-02-L. The values are not rescaled: the response to
    a uniform image grows with the area of the patch.

    Args:
        weights: Converted state dict of a ViT or an EVA-02; not modified.
        size: New side of a patch in pixels.

    Returns:
        State dict with the resized kernel; other entries are the same tensors.
    """
    key = 'patch_embed.projection.weight'
    kernel = interpolate(weights[key], size=(size, size), mode='bicubic')
    return {**weights, key: kernel}


def rotary_tables(
    grid: tuple[int, int], dims: int, reference: int = 16
) -> tuple[Tensor, Tensor]:
    """Compute cosine and sine of the 2-D rotary position encoding of EVA-02.

    The first half of the channels turns with the row, the second with the column.
    Channels 2k and 2k + 1 of a half form a pair with frequency 10000^(-2k / (dims/2)).
    Positions of any grid run over the 16 of pretraining. EVA-02 (arXiv 2303.11331).

    Args:
        grid: Rows and columns of patches.
        dims: Channels per attention head.
        reference: Positions per side in pretraining.

    Returns:
        Cosine and sine, each (rows * columns, dims), float64.
    """
    half = dims // 2
    powers = torch.arange(0, half, 2, dtype=torch.float64) / half
    rows, columns = (
        torch.outer(
            torch.arange(number, dtype=torch.float64) * reference / number,
            10000**-powers,
        ).repeat_interleave(2, 1)
        for number in grid
    )
    both = (
        rows[:, None].expand(-1, grid[1], -1),
        columns[None].expand(grid[0], -1, -1),
    )
    angles = torch.cat(both, 2).flatten(0, 1)
    return angles.cos(), angles.sin()


def relative_index(window: int) -> Tensor:
    """Rows of Swin's table of relative positions, for each pair of window positions.

    Args:
        window: Side of the window.

    Returns:
        Shape (window^2, window^2), long. Query q and key k read the row of the offset
        q - k, whose first coordinate counts `2 * window - 1` times.
    """
    places = torch.arange(window**2)
    rows, columns = (
        part[:, None] - part[None] + window - 1
        for part in (places // window, places % window)
    )
    return rows * (2 * window - 1) + columns


def _single(state: Mapping[str, Tensor]) -> Weights:
    """Copy a state dict, with half precision as float32: hosts resize positions."""
    return {
        key: value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
        for key, value in state.items()
    }


def _renamed(
    state: Weights, family: str, blocks: str, inside: Names, outside: Names
) -> Weights:
    """Rename all tensors; raise a ValueError if one has no counterpart."""
    found, unknown, names = {}, [], {'blocks': 'layers', 'layers': 'stages'}
    for key, value in state.items():
        match = re.match(blocks, key)
        start = f'{names[match[1]]}.{match[2]}.' if match else ''
        rest = key[match.end() :] if match else key
        table = inside if match else outside
        old = next((n for n in table if f'{rest}.'.startswith(f'{n}.')), None)
        if old is None:
            unknown.append(key)
        elif table[old] is not None:
            found[start + table[old] + rest.removeprefix(old)] = value
    if not _blocks(found):
        raise ValueError(f'no {family} of timm: it has no block of one')
    if unknown:
        raise ValueError(
            f'no {family} that mmpretrain has: no counterpart of {few(unknown)}'
        )
    return found


def _blocks(found: Weights) -> list[str]:
    """Names of the blocks of a converted state dict."""
    names = (re.match(r'(layers\.\d+|stages\.\d+\.blocks\.\d+)\.', k) for k in found)
    return list(dict.fromkeys(match[1] for match in names if match))


def _in_stage(key: str) -> bool:
    return re.match(r'layers\.\d+\.', key) is not None


def _join(state: Weights, key: str) -> None:
    """Join what timm has apart in a block of EVA-02, if a key begins such a group."""
    block, _, name = key.rpartition('.')
    start = block.rpartition('.')[0]
    if name == 'q_bias':
        query, value = state.pop(key), _take(state, f'{block}.v_bias')
        bias = torch.cat((query, torch.zeros_like(query), value))
        state[f'{block}.qkv.bias'] = bias
    elif block.endswith('attn.q_proj'):
        query, value = state.pop(key), _take(state, f'{start}.v_proj.{name}')
        middle = state.pop(f'{start}.k_proj.{name}', torch.zeros_like(query))
        state[f'{start}.qkv.{name}'] = torch.cat((query, middle, value))
    elif block.endswith('mlp.fc1_g'):
        parts = state.pop(key), _take(state, f'{start}.fc1_x.{name}')
        state[f'{start}.fc1.{name}'] = torch.cat(parts)


def _take(state: Weights, key: str) -> Tensor:
    """Remove and return a tensor; raise a ValueError if there is none."""
    if key not in state:
        raise ValueError(f'no EVA-02 of timm: {key} is missing')
    return state.pop(key)


def _check_mlp(
    found: Weights, first: str, second: str, factor: int, family: str
) -> None:
    """Tell a plain MLP from a gated one, whose first layer is twice as wide."""
    for block in _blocks(found):
        one, two = (found.get(f'{block}.{name}.weight') for name in (first, second))
        if one is None or two is None or len(one) != factor * two.shape[1]:
            shapes = [None if w is None else tuple(w.shape) for w in (one, two)]
            raise ValueError(
                f'no {family} that mmpretrain has: the weights of an MLP have the '
                f'shapes {shapes}'
            )


def _unfold_order(value: Tensor) -> Tensor:
    """Reorder the inputs of a downsampling layer of Swin.

    timm concatenates the 2x2 neighbors, column by column; `nn.Unfold` in mmpretrain
    has the neighbors of a channel side by side, row by row.

    Args:
        value: Shape (out, 4 * C) of the reduction, or (4 * C) of the norm.
    """
    parts = value.unflatten(-1, (2, 2, -1))  # column, row, channel
    return parts.transpose(-1, -3).flatten(-3).contiguous()
