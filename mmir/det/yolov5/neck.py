"""YOLOv5 neck (N, S, M, L, X): top-down and bottom-up paths."""

from mmdet.models.necks import YOLOXPAFPN
from mmdet.utils import OptMultiConfig
from torch import nn

from mmir.det.yolo.layers import ConvFactory
from mmir.det.yolov5.arch import ACT, get_arch
from mmir.registry import MODELS


@MODELS.register_module()
class YOLOv5Neck(YOLOXPAFPN):
    """Path aggregation network of YOLOv5 v6: YOLOX's without its output convolutions.

    Source: Jocher et al., YOLOv5 v6.0, 2021.

    Args:
        arch (str): `'n'`, `'s'`, `'m'`, `'l'` or `'x'`.
        in_channels (tuple[int], optional): Channels of the three inputs, and of the
            outputs. Default: those of the backbone of the same size.
        conv_cfg, norm_cfg, act_cfg (dict, optional): Layer configs. Default: those of
            YOLOv5.
        init_cfg (dict, optional): Initialization, see `mmengine.model.BaseModule`.

    Raises:
        ValueError: Unknown `arch`.
    """

    def __init__(
        self,
        arch: str = 's',
        in_channels: tuple[int, int, int] | None = None,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        spec = get_arch(arch)
        channels = tuple(in_channels or spec.out)
        super().__init__(
            channels,
            out_channels=channels[0],
            num_csp_blocks=spec.depth,
            init_cfg=init_cfg,
            **ConvFactory(act_cfg or ACT, norm_cfg, conv_cfg).cfgs,
        )
        self.out_channels = channels
        self.out_convs = nn.ModuleList()
