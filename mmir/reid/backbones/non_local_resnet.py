"""`NonLocalResNet`: mmpretrain's ResNet with non-local blocks.

[1] X. Wang, R. Girshick, A. Gupta and K. He, "Non-local neural networks", CVPR 2018.
[2] M. Ye, J. Shen, G. Lin, T. Xiang, L. Shao and S. Hoi, "Deep learning for person
re-identification: a survey and outlook", TPAMI 2021 (AGW).
"""

from collections.abc import Sequence
from typing import Any

from mmpretrain.models import ResNet

from mmir.registry import MODELS
from mmir.reid.layers import add_non_local_, reset_non_local_
from mmir.utils.errors import UserError


@MODELS.register_module()
class NonLocalResNet(ResNet):
    """ResNet with a non-local block after the last blocks of some stages [1, 2].

    The non-local blocks begin as identities, so the network begins as the plain
    ResNet, whose checkpoints load. Their weights have names such as
    `layer2.3.non_local.theta.conv.weight`.

    Args:
        depth (int): Depth of the ResNet.
        non_local (Sequence[int]): Number of blocks at the end of each stage that a
            non-local block follows. The default is that of AGW [2] for depth 50.
        **kwargs: Arguments of mmpretrain's `ResNet`.

    Raises:
        UserError: A stage has fewer blocks, or there is not one number per stage.
    """

    def __init__(
        self, depth: int, non_local: Sequence[int] = (0, 2, 3, 0), **kwargs: Any
    ) -> None:
        super().__init__(depth, **kwargs)
        blocks = [len(getattr(self, name)) for name in self.res_layers]
        if len(non_local) != len(blocks) or any(
            not 0 <= wanted <= there
            for wanted, there in zip(non_local, blocks, strict=True)
        ):
            raise UserError(
                f'non_local={tuple(non_local)} must be at most {tuple(blocks)}, the '
                f'blocks of each stage of ResNet-{depth}'
            )
        for name, count in zip(self.res_layers, non_local, strict=True):
            stage = getattr(self, name)
            for block in [*stage][len(stage) - count :]:
                add_non_local_(block, block.out_channels, self.norm_cfg)
        self._freeze_stages()

    def init_weights(self) -> None:
        """Initialize as ResNet does; non-local blocks begin as identities."""
        super().init_weights()
        cfg = self.init_cfg
        if not (isinstance(cfg, dict) and cfg.get('type') == 'Pretrained'):
            reset_non_local_(self)
