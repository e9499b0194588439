"""`CompleteNeck`: one feature of what is shared, of RGB and of infrared."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmir.registry import MODELS
from mmir.utils.errors import UserError

FUSIONS = ('concat', 'weighted')


@MODELS.register_module()
class CompleteNeck(BaseModule):
    """Mean pooling of the maps of :class:`TMPABackbone`, and their fusion.

    Features of RGB and of infrared images have the same order: shared, RGB, infrared.

    - 'concat' (ours): the three, 3C channels.
    - 'weighted': the shared one and `w_1 rgb + w_2 ir`, 2C channels, with learned
      weights that begin at 0.5 (Zhang et al., "FMCNet", CVPR 2022, eq. 15 and 16).

    Args:
        fusion (str): 'concat' or 'weighted'.

    Raises:
        UserError: The fusion is unknown.
    """

    def __init__(self, fusion: str = 'concat') -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise UserError(f'fusion={fusion!r}: choose one of {FUSIONS}')
        self.fusion = fusion
        if fusion == 'weighted':
            self.weights = nn.Parameter(torch.full((2,), 0.5))

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Pool and fuse.

        Args:
            maps (Sequence[Tensor]): Shared, RGB and infrared map, each (N, C, H, W).

        Returns:
            tuple[Tensor, ...]: Shared, RGB and infrared feature, each (N, C), and the
            fused one, (N, 3C) or (N, 2C).
        """
        shared, rgb, ir = (x.mean((2, 3)) for x in maps)
        if self.fusion == 'weighted':
            parts = [shared, self.weights[0] * rgb + self.weights[1] * ir]
        else:
            parts = [shared, rgb, ir]
        return shared, rgb, ir, torch.cat(parts, 1)
