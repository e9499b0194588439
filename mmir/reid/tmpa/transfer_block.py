"""`TransferBlock`: attention and convolution that share their 1x1 convolutions.

[1] X. Pan, C. Ge, R. Lu, S. Song, G. Chen, Z. Huang and G. Huang, "On the integration
of self-attention and convolution" (ACmix), CVPR 2022.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from mmir.utils.errors import UserError

PATHS, REACHES = ('attention', 'convolution'), ('global', 'local')
KERNEL, WINDOW = 3, 7  # of the convolution and of local attention, as in [1]


class TransferBlock(nn.Module):
    """ACmix [1] between two maps: the first asks, the second answers.

    Query, key and value come from 1x1 convolutions, which two paths use::

        out = rate_1 * attention(q, k, v) + rate_2 * convolution(q, k, v)

    - Attention with several heads, over all positions, or over a window of 7x7 around
      each with a term for relative positions.
    - Convolution: a linear map from the 3 * heads maps of q, k and v to nine, followed
      by a grouped 3x3 convolution. It begins as the sum of the nine maps, each shifted
      by its place in the kernel.

    Args:
        channels (int): Channels D.
        heads (int): Number of heads; D is a multiple of it.
        paths (Sequence[str]): 'attention', 'convolution' or both. Their rates are
            learned and begin at 1 / number of paths.
        reach (str): 'global' or 'local' attention.

    Raises:
        UserError: An argument has no such value.
    """

    def __init__(
        self,
        channels: int,
        heads: int = 4,
        paths: Sequence[str] = PATHS,
        reach: str = 'global',
    ) -> None:
        super().__init__()
        if channels % heads:
            raise UserError(f'channels={channels} must be a multiple of heads={heads}')
        if not paths or not {*paths} <= {*PATHS} or reach not in REACHES:
            raise UserError(
                f'paths={[*paths]} must be of {PATHS}, reach={reach!r} of {REACHES}'
            )
        self.heads, self.width, self.reach = heads, channels // heads, reach
        self.query, self.key, self.value = (
            nn.Conv2d(channels, channels, 1) for _ in range(3)
        )
        self.attends, self.convolves = (path in paths for path in PATHS)
        self.rates = nn.Parameter(torch.full((len({*paths}),), 1 / len({*paths})))
        if self.attends and reach == 'local':
            self.position = nn.Conv2d(2, self.width, 1)
        if self.convolves:
            taps = KERNEL**2
            self.mix = nn.Conv2d(3 * heads, taps, 1, bias=False)
            self.shift = nn.Conv2d(
                taps * self.width,
                channels,
                KERNEL,
                padding=KERNEL // 2,
                groups=self.width,
                bias=False,
            )
            shifts = torch.eye(taps).unflatten(1, (KERNEL, KERNEL))
            self.shift.weight.data.copy_(shifts.expand_as(self.shift.weight))

    def forward(self, asking: Tensor, answering: Tensor) -> Tensor:
        """Combine two maps.

        Args:
            asking (Tensor): Map that queries come from (N, D, H, W).
            answering (Tensor): Map that keys and values come from (N, D, H, W).

        Returns:
            Tensor: Shape (N, D, H, W).

        Raises:
            UserError: The map is too small for local attention.
        """
        maps = self.query(asking), self.key(answering), self.value(answering)
        outs = []
        if self.attends:
            attend = self._everywhere if self.reach == 'global' else self._nearby
            outs.append(attend(*maps))
        if self.convolves:
            outs.append(self._convolve(*maps))
        return sum(rate * out for rate, out in zip(self.rates, outs, strict=True))

    def received(self, asking: Tensor, answering: Tensor) -> Tensor:
        """Attention that each position receives, the mean over queries and heads.

        Args:
            asking (Tensor): Map that queries come from (N, D, H, W).
            answering (Tensor): Map that keys and values come from (N, D, H, W).

        Returns:
            Tensor: Shape (N, H, W), which sums to 1 over the positions.

        Raises:
            UserError: The block has no attention, or the map is too small for it.
        """
        if not self.attends:
            raise UserError("this block has no attention: paths=['convolution']")
        q, k = self.query(asking), self.key(answering)
        rows, cols = q.shape[-2:]
        if self.reach == 'global':
            q, k = self._by_head(q), self._by_head(k)
            weights = (q @ k.transpose(2, 3) * self.width**-0.5).softmax(-1)
            return weights.mean((1, 2)).unflatten(1, (rows, cols))
        weights = self._near_weights(q, k)[:, :, 0].mean(1)  # (N, H, W, 49)
        places = torch.arange(rows * cols, device=q.device, dtype=torch.float32)
        seen = _windows(places.view(1, 1, rows, cols))[0, 0].long().flatten()
        total = weights.new_zeros(len(q), rows * cols)
        total.index_add_(1, seen, weights.flatten(1))
        return (total / (rows * cols)).unflatten(1, (rows, cols))

    def _by_head(self, x: Tensor) -> Tensor:
        """Split channels into heads: (N, D, H, W) to (N, heads, H W, D / heads)."""
        split = x.flatten(2).unflatten(1, (self.heads, self.width))
        return split.transpose(2, 3)

    def _everywhere(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention over all positions."""
        out = scaled_dot_product_attention(*(self._by_head(x) for x in (q, k, v)))
        return out.transpose(2, 3).reshape(q.shape)

    def _nearby(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention over a window, with a term for relative positions."""
        weights = self._near_weights(q, k)
        values = _windows(v).unflatten(1, (self.heads, self.width))
        return (weights * values).sum(-1).flatten(1, 2)

    def _near_weights(self, q: Tensor, k: Tensor) -> Tensor:
        """Weights of the window around each position (N, heads, 1, H, W, 49)."""
        rows, cols = q.shape[-2:]
        if min(rows, cols) <= WINDOW // 2:
            raise UserError(
                f'local attention needs maps larger than {WINDOW // 2}, got {rows}x'
                f"{cols}; use larger images or reach='global'"
            )
        shape = (len(q), self.heads, self.width, rows, cols)
        grid = torch.stack(
            torch.meshgrid(
                torch.linspace(-1, 1, rows, device=q.device, dtype=q.dtype),
                torch.linspace(-1, 1, cols, device=q.device, dtype=q.dtype),
                indexing='ij',
            )[::-1]
        )
        place = self.position(grid[None])  # (1, D / heads, H, W), of (x, y)
        near = _windows(k).unflatten(1, shape[1:3])
        # q * (k + p_q - p_k), where p_q is that of the middle of the window
        relative = place[..., None] - _windows(place)
        queries = q.view(shape)[..., None] * self.width**-0.5
        scores = (queries * (near + relative[:, None])).sum(2, keepdim=True)
        return scores.softmax(-1)

    def _convolve(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Shift and sum nine mixtures of the heads."""
        maps = torch.cat([q, k, v], 1).flatten(2)
        taps = self.mix(maps.unflatten(1, (3 * self.heads, self.width)))
        # (N, 9, D / heads, H W): the convolution sees the nine of a channel together
        taps = taps.transpose(1, 2).flatten(1, 2).unflatten(-1, q.shape[-2:])
        return self.shift(taps)


def _windows(x: Tensor) -> Tensor:
    """Window around each position: (N, C, H, W) to (N, C, H, W, 49)."""
    reach = WINDOW // 2
    padded = pad(x, (reach,) * 4, mode='reflect')
    return padded.unfold(2, WINDOW, 1).unfold(3, WINDOW, 1).flatten(-2)
