"""Base class of the YOLO backbones: a stem and four stages, some of them frozen."""

from mmdet.utils import OptMultiConfig
from mmengine.model import BaseModule
from torch import Tensor, nn

STAGES = 4


class YOLOBackbone(BaseModule):
    """Backbone of a stem and four stages, with features at strides 4, 8, 16 and 32.

    A subclass builds `stem` and `stage1` to `stage4`, and then calls
    `freeze_stages`.

    Args:
        out_indices (tuple[int]): Stages (1 to 4) whose features are returned.
        frozen_stages (int): Number of frozen stages besides the stem, batch norm
            statistics included; -1 freezes nothing.
        init_cfg (dict, optional): Initialization, see `mmengine.model.BaseModule`.

    Raises:
        ValueError: `frozen_stages` is invalid.
    """

    stem: nn.Module

    def __init__(
        self,
        out_indices: tuple[int, ...] = (2, 3, 4),
        frozen_stages: int = -1,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg)
        if not -1 <= frozen_stages <= STAGES:
            raise ValueError(
                f'frozen_stages={frozen_stages}, choose from -1 (none) to {STAGES}'
            )
        self.out_indices = out_indices
        self.frozen_stages = frozen_stages

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images (N, in_channels, H, W) to the features of `out_indices`.

        H and W are multiples of 32. The features of stage i have shape
        (N, C_i, H / 2**(i + 1), W / 2**(i + 1)).
        """
        x = self.stem(x)
        outs = []
        for i in range(1, STAGES + 1):
            x = getattr(self, f'stage{i}')(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def train(self, mode: bool = True) -> 'YOLOBackbone':
        """Set training or evaluation mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def freeze_stages(self) -> None:
        """Freeze the stem and the first `frozen_stages` stages."""
        for module in self._frozen_modules():
            module.eval().requires_grad_(False)

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        stages = range(1, self.frozen_stages + 1)
        return [self.stem, *(getattr(self, f'stage{i}') for i in stages)]
