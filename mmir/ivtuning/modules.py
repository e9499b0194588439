"""Modules of IV-tuning (arXiv 2412.16654): enhancer, prompt generator, adapters.

Tokens are (N, L, C) in row-major order of a grid (h, w), without class token.
"""

from collections.abc import Mapping
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.functional import layer_norm
from torch.nn.functional import linear as linear_

from mmir.adapters.precision import own_precision
from mmir.adapters.projection import Init, Projection
from mmir.adapters.tokens import PromptSource, to_map, to_tokens
from mmir.adapters.transformers import Grid


@MODELS.register_module()
class SplitFuseEnhancer(nn.Module):
    """Split-fuse enhancer (SFE): partial depthwise convolution, then channel mixing.

    u = [DW3x3(first quarter of the channels), rest] + x, and
    y = Conv1x1(ReLU(norm(Conv1x1(u)))) + u; figure 5 of the paper.

    Args:
        channels: Number of channels.
        divisor: The first `channels // divisor` channels are convolved.
        norm_cfg: Normalization, as in mmcv; `SyncBN` or `GN` for small batches.
            Default: batch norm.

    Raises:
        ValueError: Fewer channels than `divisor`.
    """

    def __init__(
        self,
        channels: int,
        divisor: int = 4,
        norm_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if channels < divisor:
            raise ValueError(
                f'SplitFuseEnhancer: {channels} channels cannot be split by {divisor}'
            )
        self.spatial = channels // divisor
        self.depthwise = nn.Conv2d(
            self.spatial, self.spatial, 3, padding=1, groups=self.spatial
        )
        self.expand = nn.Conv2d(channels, channels, 1)
        self.norm = build_norm_layer(dict(norm_cfg or {'type': 'BN'}), channels)[1]
        self.fuse = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Enhance a feature map (N, C, H, W)."""
        first, rest = x.tensor_split([self.spatial], 1)
        u = torch.cat([self.depthwise(first), rest], 1) + x
        return self.fuse(self.norm(self.expand(u)).relu()) + u


class SimAM(nn.Module):
    """SimAM attention (ICML 2021), without parameters.

    y = x sigmoid(d / (4 (sum(d) / (n - 1) + lambda)) + 0.5), where d is the squared
    deviation from the mean over the n positions of a channel.

    Args:
        regularization: Lambda.
    """

    def __init__(self, regularization: float = 1e-4) -> None:
        super().__init__()
        self.regularization = regularization

    def forward(self, x: Tensor) -> Tensor:
        """Weight tokens (N, L, C), channel by channel over the L positions."""
        # d / (sum(d) / (n - 1) + lambda) = (n - 1) / n z^2, where z is x normalized
        # over the positions with epsilon lambda (n - 1) / n: a single kernel
        number = x.shape[1]
        eps = self.regularization * max(1, number - 1) / number
        z = layer_norm(x.transpose(1, 2), (number,), eps=eps).transpose(1, 2)
        energy = z.square() * ((number - 1) / (4 * number)) + 0.5
        return x * energy.sigmoid()


class ScaleShift(nn.Module):
    """Learnable scale and shift of each channel, after an optional layer norm (SFT).

    Both are folded into what comes before: the layer norm, or the linear layer
    (`after`). This spares a tensor of the size of the tokens.

    Args:
        channels: Number of channels.
        norm: Whether a layer norm, with weight and bias of its own, comes first.
    """

    def __init__(self, channels: int, norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels) if norm else nn.Identity()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift `x` (..., C)."""
        norm = self.norm
        if not isinstance(norm, nn.LayerNorm):
            return torch.addcmul(self.beta, x, self.gamma)
        shift = torch.addcmul(self.beta, norm.bias, self.gamma)
        scale = norm.weight * self.gamma
        return layer_norm(x, norm.normalized_shape, scale, shift, norm.eps)

    def after(self, linear: Projection, x: Tensor) -> Tensor:
        """Compute `self(linear(x))` for `x` (..., r), without a norm."""
        bias = torch.addcmul(self.beta, linear.bias, self.gamma)
        return linear_(x, linear.weight * self.gamma[:, None], bias)


class PromptGenerator(PromptSource):
    """Prompts from the tokens of both modalities: EMPG, or MP-alpha without SimAM.

    P = Up(SFE(Down_rgb(LN(rgb))) + SimAM(Down_ir(LN(ir)))), with one layer norm for
    both modalities.

    Args:
        channels: Number of channels D of the tokens.
        rank: Number of channels in between.
        attention: Whether SimAM weights the infrared branch (EMPG).
        norm_cfg: See `SplitFuseEnhancer`.
        zero_init: Whether the prompts are zero at first.
    """

    def __init__(
        self,
        channels: int,
        rank: int = 8,
        attention: bool = True,
        norm_cfg: Mapping[str, Any] | None = None,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.down_rgb = Projection(channels, rank, 'xavier')
        self.down_ir = Projection(channels, rank, 'xavier')
        self.enhance = SplitFuseEnhancer(rank, norm_cfg=norm_cfg)
        for conv in (self.enhance.depthwise, self.enhance.expand, self.enhance.fuse):
            nn.init.xavier_uniform_(conv.weight)
        self.attention = SimAM() if attention else nn.Identity()
        self.up = Projection(rank, channels, 'zero' if zero_init else 'xavier')

    @own_precision
    def forward(self, rgb: Tensor, ir: Tensor, grid: Grid) -> Tensor:
        """Generate prompts (N, L, D) from tokens (N, L, D) on a grid."""
        visible = to_map(self.down_rgb(self.norm(rgb)), grid)
        visible = to_tokens(self.enhance(visible))
        return self.up(visible + self.attention(self.down_ir(self.norm(ir))))


class HybridAdapter(nn.Module):
    """Hybrid adapter (HA): enhances the tokens at low rank. Returns the update only.

    Up(Dropout(GELU(SFE(Down(SFT(x)))))), to be added to x.

    Args:
        channels: Number of channels D.
        rank: Number of channels in between.
        norm_cfg: See `SplitFuseEnhancer`.
        zero_init: Whether the update is zero at first.
        dropout: Dropout probability.
    """

    def __init__(
        self,
        channels: int,
        rank: int = 64,
        norm_cfg: Mapping[str, Any] | None = None,
        zero_init: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.scale = ScaleShift(channels, norm=True)
        self.down = Projection(channels, rank)
        self.enhance = SplitFuseEnhancer(rank, norm_cfg=norm_cfg)
        self.act = nn.GELU()
        self.dropout = nn.Dropout(dropout)
        self.up = Projection(rank, channels, _up(zero_init))

    @own_precision
    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Update (N, h w, D) for tokens (N, L, D) on a grid, see `to_map`."""
        low = self.enhance(to_map(self.down(self.scale(x)), grid))
        return self.up(self.dropout(self.act(to_tokens(low))))


class InternalPromptAdapter(nn.Module):
    """Internal prompt adapter (IPA): prompts of a block from its prompt tokens.

    GELU(SFT(Up(GELU(SimAM(Down(SFT(P)))))))

    Args:
        channels: Number of channels D.
        rank: Number of channels in between.
        zero_init: Whether the prompts are zero at first.
    """

    def __init__(self, channels: int, rank: int = 8, zero_init: bool = False) -> None:
        super().__init__()
        self.scale = ScaleShift(channels, norm=True)
        self.down = Projection(channels, rank)
        self.attention = SimAM()
        self.act = nn.GELU()
        self.up = Projection(rank, channels, _up(zero_init))
        self.rescale = ScaleShift(channels, norm=False)

    @own_precision
    def forward(self, prompt: Tensor) -> Tensor:
        """Prompts (N, L, D) from prompt tokens (N, L, D)."""
        low = self.act(self.attention(self.down(self.scale(prompt))))
        return self.act(self.rescale.after(self.up, low))


class PromptMixer(nn.Module):
    """MP-beta, reconstructed: update of the tokens from tokens and prompts.

    Up(GELU(SFE(Down(LN(x))) + Down(LN(P)))). The paper names its constraints (rank 64;
    convolution for the visible, a plain projection for the infrared), the authors have
    not published the module.

    Args:
        channels: Number of channels D.
        rank: Number of channels in between.
        norm_cfg: See `SplitFuseEnhancer`.
        zero_init: Whether the update is zero at first.
    """

    def __init__(
        self,
        channels: int,
        rank: int = 64,
        norm_cfg: Mapping[str, Any] | None = None,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.norm_prompt = nn.LayerNorm(channels)
        self.down = Projection(channels, rank)
        self.down_prompt = Projection(channels, rank)
        self.enhance = SplitFuseEnhancer(rank, norm_cfg=norm_cfg)
        self.act = nn.GELU()
        self.up = Projection(rank, channels, _up(zero_init))

    @own_precision
    def forward(self, x: Tensor, prompt: Tensor, grid: Grid) -> Tensor:
        """Update (N, h w, D) for tokens (N, L, D) on a grid, see `to_map`."""
        low = to_tokens(self.enhance(to_map(self.down(self.norm(x)), grid)))
        return self.up(self.act(low + self.down_prompt(self.norm_prompt(prompt))))


def _up(zero_init: bool) -> Init:
    return 'zero' if zero_init else 'trunc_normal'
