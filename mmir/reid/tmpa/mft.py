"""`MFT`: the specific map of a modality that was not seen.

[1] "Transferring modality-aware pedestrian attentive learning for visible-infrared
person re-identification" (TMPA), arXiv 2312.07021, 2023.
"""

from typing import Any

from torch import Tensor, nn

from mmir.registry import MODELS

from .transfer_block import TransferBlock


@MODELS.register_module()
class MFT(nn.Module):
    """Modality feature transfer [1], from the maps of an image in one modality.

    The shared map asks, and the specific map of the modality at hand answers, by
    attention and convolution with common 1x1 convolutions::

        made = shared + BN(W block(R_1 shared, R_2 specific))

    Both maps come from the same image, so a single modality is enough at test time.
    The paper names cross attention, convolution and their common 1x1 convolutions. The
    widths, who asks, and the residual are ours.

    Args:
        in_channels (int): Channels C of the maps.
        channels (int): Channels of the block, to which R_1 and R_2 reduce.
        **block: Further arguments of :class:`TransferBlock`: `heads`, `paths` and
            `reach`.

    Raises:
        UserError: An argument has no such value.
    """

    def __init__(
        self, in_channels: int = 2048, channels: int = 512, **block: Any
    ) -> None:
        super().__init__()
        self.reduce_shared = nn.Conv2d(in_channels, channels, 1)
        self.reduce_specific = nn.Conv2d(in_channels, channels, 1)
        self.block = TransferBlock(channels, **block)
        # the norm cancels a bias
        self.expand = nn.Conv2d(channels, in_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(in_channels)

    def forward(self, shared: Tensor, specific: Tensor) -> Tensor:
        """Generate the specific map of the other modality.

        Args:
            shared (Tensor): Shared map (N, C, H, W).
            specific (Tensor): Specific map of the modality at hand (N, C, H, W).

        Returns:
            Tensor: Specific map of the other modality (N, C, H, W).

        Raises:
            UserError: The map is too small for local attention.
        """
        out = self.block(self.reduce_shared(shared), self.reduce_specific(specific))
        return shared + self.norm(self.expand(out))
