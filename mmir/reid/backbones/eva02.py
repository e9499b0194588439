"""`ViTEVA02`: EVA-02 for images of any size.

[1] "EVA-02: a visual representation for neon genesis", arXiv 2303.11331.
"""

from typing import Any

from mmpretrain.models import ViTEVA02 as HostEVA02
from mmpretrain.models.utils import RotaryEmbeddingFast
from torch import Tensor

from mmir.registry import MODELS
from mmir.utils.timm_vit import rotary_tables


class RotaryPositions(RotaryEmbeddingFast):
    """Rotary position encoding of [1], for any grid of patches.

    The tables are those of :func:`mmir.utils.timm_vit.rotary_tables`. They depend on
    the grid alone, so those of a checkpoint, which may be of another one, are ignored.

    Args:
        embed_dims (int): Channels per attention head.
        patch_resolution (tuple[int, int]): Rows and columns of patches.
    """

    def compute_position_embedding(self) -> tuple[Tensor, Tensor]:
        """Compute cosine and sine for the present grid.

        Returns:
            tuple[Tensor, Tensor]: Each (rows * columns, embed_dims), float32.
        """
        cosine, sine = rotary_tables(self.patch_resolution, 2 * self.half_dim)
        return cosine.float(), sine.float()

    def forward(self, x: Tensor, patch_resolution: tuple[int, int]) -> Tensor:
        """Turn queries or keys by their positions.

        Args:
            x (Tensor): Shape (N, heads, rows * columns, embed_dims).
            patch_resolution (tuple[int, int]): Rows and columns of patches.

        Returns:
            Tensor: Shape and dtype of `x`.
        """
        return super().forward(x, patch_resolution).to(x.dtype)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Ignore the tables of a checkpoint."""
        for name in ('freqs_cos', 'freqs_sin'):
            state_dict.pop(f'{prefix}{name}', None)


@MODELS.register_module()
class ViTEVA02(HostEVA02):
    """mmpretrain's EVA-02 with the rotary positions of [1], for images of any size.

    The host takes the tables of a checkpoint, but computes others itself, without a
    checkpoint and as soon as an image has another grid of patches than `img_size`.
    Weights of the host load, also those of another `img_size`.

    Args:
        **kwargs: Arguments of mmpretrain's `ViTEVA02`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        width = self.embed_dims // self.num_heads
        self.rope = RotaryPositions(width, self.patch_resolution)
        for layer in self.layers:
            layer.attn.rope = self.rope
