"""Modules that fuse the feature maps of several modalities into one."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class AddFusion(BaseModule):
    """Mean or sum of the feature maps.

    The mean keeps the scale that a neck or head trained on one modality expects.

    Args:
        modalities (int): Number of feature maps.
        channels (int): Channels per feature map.
        mean (bool): Whether to divide the sum by the number of maps.
    """

    def __init__(self, modalities: int, channels: int, mean: bool = True) -> None:
        super().__init__()
        self.factor = 1 / modalities if mean else 1.0

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Fuse maps of shape (N, channels, H, W) into one of that shape."""
        return sum(feats[1:], start=feats[0]) * self.factor


@MODELS.register_module()
class ConcatFusion(BaseModule):
    """Concatenation followed by a 1x1 convolution back to the channels of one map.

    Initialized as the mean, so pretrained streams, neck and head work from the start.
    It has M C C + C parameters.

    Args:
        modalities (int): Number M of feature maps.
        channels (int): Channels C per feature map.
    """

    def __init__(self, modalities: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(modalities * channels, channels, 1)
        self.init_weights()

    def init_weights(self) -> None:
        """Initialize as the mean, whatever the `init_cfg` of a parent module says."""
        channels, total = self.conv.weight.shape[:2]
        same = torch.eye(channels).repeat(1, total // channels) * channels / total
        with torch.no_grad():
            self.conv.weight.copy_(same[..., None, None])
            self.conv.bias.zero_()

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Fuse maps of shape (N, channels, H, W) into one of that shape."""
        return self.conv(torch.cat(list(feats), 1))


@MODELS.register_module()
class CrossAttentionFusion(BaseModule):
    """Cross-attention between modalities.

    Each feature map attends to the pooled maps of the others; the results are averaged.
    The attention output is scaled per channel by a parameter initialized to zero, so
    the module starts as the mean.

    Args:
        modalities (int): Number of feature maps.
        channels (int): Channels per feature map.
        heads (int): Maximum number of attention heads; the number used divides
            `channels`.
        tokens (int): Maps to attend to are pooled to at most `tokens` x `tokens`, so
            the cost is linear in the number of pixels.
    """

    def __init__(
        self, modalities: int, channels: int, heads: int = 8, tokens: int = 16
    ) -> None:
        super().__init__()
        heads = max(n for n in range(1, heads + 1) if channels % n == 0)
        self.attentions = ModuleList(
            [PooledCrossAttention(channels, heads, tokens) for _ in range(modalities)]
        )
        self.mean = AddFusion(modalities, channels)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Fuse maps of shape (N, channels, H, W) into one of that shape."""
        feats = list(feats)
        changed = [
            feat + attend(feat, feats[:k] + feats[k + 1 :])
            for k, (feat, attend) in enumerate(zip(feats, self.attentions, strict=True))
        ]
        return self.mean(changed)


class PooledCrossAttention(BaseModule):
    """Multi-head attention from each pixel of a map to the pooled pixels of others.

    Args:
        channels (int): Channels C of all maps.
        heads (int): Number of attention heads; divides C.
        tokens (int): Maximum side length of the pooled maps.
    """

    def __init__(self, channels: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.heads, self.tokens = heads, tokens
        self.norm_query = nn.GroupNorm(1, channels)
        self.norm_key = nn.GroupNorm(1, channels)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key_value = nn.Conv2d(channels, 2 * channels, 1)
        self.project = nn.Conv2d(channels, channels, 1)
        self.scale = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, feat: Tensor, others: Sequence[Tensor]) -> Tensor:
        """Attend from `feat` (N, C, H, W) to the other maps; returns the same shape."""
        query = self.query(_placed(self.norm_query(feat)))
        asked = [self._pooled(other) for other in others]
        keys, values = torch.cat(asked, -1).chunk(2, 1)
        answer = F.scaled_dot_product_attention(
            *(self._by_head(x) for x in (query.flatten(2), keys, values))
        )
        answer = answer.transpose(2, 3).reshape(feat.shape)
        return self.scale * self.project(answer)

    def _pooled(self, other: Tensor) -> Tensor:
        """Keys and values (N, 2 C, T) of a map."""
        size = [min(n, self.tokens) for n in other.shape[-2:]]
        pooled = F.adaptive_avg_pool2d(self.norm_key(other), size)
        return self.key_value(_placed(pooled)).flatten(2)

    def _by_head(self, x: Tensor) -> Tensor:
        """Reshape (N, C, T) to (N, heads, T, C / heads)."""
        # on CPU, torch's attention is up to 4 times slower on a view
        return x.unflatten(1, (self.heads, -1)).transpose(2, 3).contiguous()


def _placed(x: Tensor) -> Tensor:
    """Add 2-D sinusoidal positional encodings to a feature map (N, C, H, W).

    Positions are relative to the map, so maps of any size share one encoding.
    """
    bands = x.shape[1] // 4
    octaves = torch.linspace(0, 5, bands, device=x.device, dtype=x.dtype)
    codes = []
    for axis in (-2, -1):
        n = x.shape[axis]
        place = (torch.arange(n, device=x.device, dtype=x.dtype) + 0.5) / n
        angle = math.pi * torch.exp2(octaves)[:, None] * place
        wave = torch.cat([angle.sin(), angle.cos()])
        wave = wave[:, :, None] if axis == -2 else wave[:, None, :]
        codes.append(wave.expand(-1, *x.shape[-2:]))
    code = torch.cat(codes)
    return x + F.pad(code, (0, 0, 0, 0, 0, x.shape[1] - len(code)))
