"""YOLOv5 backbone (N, S, M, L, X)."""

import torch
from mmdet.models.layers import CSPLayer
from mmdet.utils import OptMultiConfig
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmir.det.yolo.backbone import YOLOBackbone
from mmir.det.yolo.layers import ChainedPools, ConvFactory
from mmir.det.yolov5.arch import ACT, get_arch
from mmir.registry import MODELS


class SPPF(BaseModule):
    """Spatial pyramid pooling between two 1x1 convolutions, with chained pools.

    Args:
        conv (ConvFactory): Factory of the convolutions.
        channels (int): Channels C of input and output.
    """

    def __init__(self, conv: ConvFactory, channels: int) -> None:
        super().__init__()
        self.reduce_conv = conv(channels, channels // 2)
        self.pools = ChainedPools()
        self.final_conv = conv(channels * 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return self.final_conv(torch.cat(self.pools(self.reduce_conv(x)), dim=1))


@MODELS.register_module()
class YOLOv5Backbone(YOLOBackbone):
    """YOLOv5 v6 backbone: stem and four CSP stages at strides 4, 8, 16 and 32.

    Source: Jocher et al., YOLOv5 v6.0, 2021.

    Args:
        arch (str): `'n'`, `'s'`, `'m'`, `'l'` or `'x'`.
        in_channels (int): Channels of the input image.
        out_indices (tuple[int]): Stages (1 to 4) whose features are returned.
        frozen_stages (int): Number of frozen stages besides the stem, batch norm
            statistics included; -1 freezes nothing.
        conv_cfg, norm_cfg, act_cfg (dict, optional): Layer configs. Default: those of
            YOLOv5.
        init_cfg (dict, optional): Initialization, see `mmengine.model.BaseModule`.

    Raises:
        ValueError: `arch` or `frozen_stages` is invalid.
    """

    def __init__(
        self,
        arch: str = 's',
        in_channels: int = 3,
        out_indices: tuple[int, ...] = (2, 3, 4),
        frozen_stages: int = -1,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(out_indices, frozen_stages, init_cfg)
        spec = get_arch(arch)
        conv = ConvFactory(act_cfg or ACT, norm_cfg, conv_cfg)
        channels = spec.channels
        # an even kernel with less padding than usual, so that the size is halved
        self.stem = conv(in_channels, channels[0], 6, 2, padding=2)
        for i, depth in enumerate(spec.depths, 1):
            stage = nn.Sequential(
                conv(channels[i - 1], channels[i], 3, 2),
                CSPLayer(channels[i], channels[i], num_blocks=depth, **conv.cfgs),
            )
            self.add_module(f'stage{i}', stage)
        self.stage4.append(SPPF(conv, channels[-1]))
        self.freeze_stages()
