"""`DualPathBackbone`: blocks 1 to 4 of a network for each path, the rest shared.

[1] "TOPLight: lightweight neural networks with task-oriented pretraining for
visible-infrared recognition", CVPR 2023.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mmir.registry import MODELS
from mmir.reid.backbones import TwoStemBackbone
from mmir.utils.errors import UserError

from .partition import dual_path_networks, partition_of
from .soup import SoupReport, uniform_soup


@MODELS.register_module()
class DualPathBackbone(TwoStemBackbone):
    """Network of task-oriented pretraining [1]: two paths of blocks 1 to 4.

    Path 'rgb' sees images with changed colors, path 'ir' gray images with changed
    texture. Both begin with the same weights, those of the plain network, whose
    checkpoints load. Blocks 5 to 7 are shared. After pretraining,
    :func:`mmir.reid.uniform_soup` averages blocks 2 to 4 of the paths, and the result
    loads into a :class:`mmir.reid.TwoStemBackbone`.

    Args:
        backbone (Mapping): Config of the network.
        network (str): Row of :data:`mmir.reid.toplight.PARTITIONS` with its blocks.
        init_cfg (Mapping, optional): See mmengine's `BaseModule`.

    Raises:
        UserError: The row is unknown, a transformer, or of another network.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        network: str,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        partition = partition_of(network)
        if len(partition.blocks) != 7:
            raise UserError(
                f'{network} has no blocks at strides 2 to 32, so it has no dual-path '
                f'form; choose one of {[*dual_path_networks()]}'
            )
        super().__init__(backbone, partition.paths, init_cfg)
        self.network, self._end = network, partition.paths[-1]
        self._cfg = copy.deepcopy({**backbone, 'init_cfg': None})
        self.backbone.get_submodule(self._end).register_forward_hook(_keep)

    def forward(self, x: Tensor, modalities: Sequence[str]) -> tuple[Tensor, ...]:
        """Compute the maps of each image.

        Args:
            x (Tensor): Images (N, 3, H, W).
            modalities (Sequence[str]): Path of each image, 'rgb' or 'ir'.

        Returns:
            tuple[Tensor, ...]: Map after block 4, (N, C, H / 8, W / 8), of LightCNN
            H / 4 and W / 4, and map after block 7, in the order of `x`.

        Raises:
            UserError: A modality is unknown, or there is not one per image.
        """
        return super().forward(x, modalities)

    def init_weights(self) -> None:
        """Initialize the network; both paths begin alike, also with random weights."""
        first = not self.is_init
        super().init_weights()
        loaded = (self.init_cfg or {}).get('type') == 'Pretrained'
        if first and not loaded:
            for name in partition_of(self.network).paths:
                copies = self.backbone.get_submodule(name).copies
                copies['ir'].load_state_dict(copies['rgb'].state_dict())

    def soup(self, variance: str = 'total') -> tuple[TwoStemBackbone, SoupReport]:
        """Average blocks 2 to 4 of the paths, see :func:`mmir.reid.uniform_soup`.

        Args:
            variance (str): How variances of norms are averaged: 'total' or 'mean'.

        Returns:
            tuple[TwoStemBackbone, SoupReport]: A network of its own on the same device,
            and what was averaged.
        """
        found, report = uniform_soup(self.state_dict(), self.network, variance)
        result = TwoStemBackbone(self._cfg, partition_of(self.network).stem)
        result.load_state_dict(found)
        return result.to(next(self.parameters()).device), report

    def _levels(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute both maps of images that are sorted by path."""
        end = self.backbone.get_submodule(self._end)
        last = super()._levels(x)[-1]
        kept, end.kept = end.kept, None
        return kept, last


def _keep(block: nn.Module, args: tuple, out: Tensor) -> None:
    """Keep the output until `_levels` takes it; a function, so that copies have it."""
    block.kept = out
