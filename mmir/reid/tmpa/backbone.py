"""`TMPABackbone`: MFE, and MFT for the modality that an image lacks."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmir.layers.modality_norm import PerModality
from mmir.registry import MODELS

from .mfe import MFE


@MODELS.register_module()
class TMPABackbone(MFE):
    """MFE and MFT: maps of both modalities for an image of either.

    Two :class:`MFT` with weights of their own generate what is missing: one infrared
    maps from RGB images, the other RGB maps from infrared images.

    Args:
        backbone (Mapping): Config of a ResNet or MobileNetV2 of mmpretrain.
        transfer (Mapping): Config of :class:`MFT`.
        variant (str): 'light' or 'full', see :class:`MFE`.
        init_cfg (Mapping, optional): See mmengine's `BaseModule`.

    Raises:
        UserError: The variant, or where the stages of the backbone are, is unknown.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        transfer: Mapping[str, Any],
        variant: str = 'light',
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, variant, init_cfg)
        self.transfer = PerModality(MODELS.build(transfer), self.route)

    def forward(self, x: Tensor, modalities: list[str]) -> tuple[Tensor, ...]:
        """Compute the maps of each image.

        Args:
            x (Tensor): Images (N, 3, H, W).
            modalities (list[str]): 'rgb' or 'ir' for each image.

        Returns:
            tuple[Tensor, ...]: Shared map, specific map of RGB and specific map of
            infrared, each (N, C, H / 16, W / 16) with a last stride of 1. The one of
            the modality that an image lacks is generated.

        Raises:
            UserError: A modality is unknown, or there is not one per image.
        """
        return super().forward(x, modalities)

    def _levels(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps of images that are sorted by modality."""
        shared, own = super()._levels(x)
        presence = self.route.presence
        content, given = presence.split(shared), presence.split(own)
        made = {
            name: self.transfer.copies[name](content[name], given[name])
            for name in presence.active
        }
        slots = [
            torch.cat([(given if n == slot else made)[n] for n in presence.active])
            for slot in presence.names
        ]
        return shared, *slots
