"""YOLOv7 backbone (tiny, L, X)."""

from mmdet.utils import OptMultiConfig
from torch import nn

from mmir.det.yolo.backbone import YOLOBackbone
from mmir.det.yolo.layers import ConvFactory
from mmir.det.yolov7.arch import get_arch
from mmir.det.yolov7.layers import ELAN, MaxPoolDownsample
from mmir.registry import MODELS


@MODELS.register_module()
class YOLOv7Backbone(YOLOBackbone):
    """YOLOv7 backbone: stem and four ELAN stages at strides 4, 8, 16 and 32.

    Source: Wang et al., YOLOv7, CVPR 2023.

    Args:
        arch (str): `'tiny'`, `'l'` or `'x'`.
        in_channels (int): Channels of the input image.
        out_indices (tuple[int]): Stages (1 to 4) whose features are returned.
        frozen_stages (int): Number of frozen stages besides the stem, batch norm
            statistics included; -1 freezes nothing.
        conv_cfg, norm_cfg, act_cfg (dict, optional): Layer configs. Default: those of
            the size.
        init_cfg (dict, optional): Initialization, see `mmengine.model.BaseModule`.

    Raises:
        ValueError: `arch` or `frozen_stages` is invalid.
    """

    def __init__(
        self,
        arch: str = 'l',
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
        conv = ConvFactory(act_cfg or spec.act_cfg, norm_cfg, conv_cfg)
        self.stem = nn.Sequential()
        channels = in_channels
        for width, stride in spec.stem:
            self.stem.append(conv(channels, width, 3, stride))
            channels = width
        for i, (hidden, out) in enumerate(spec.stages, 1):
            stage = nn.Sequential()
            if i > 1:
                stage.append(
                    nn.MaxPool2d(2, 2)
                    if spec.pool_only
                    else MaxPoolDownsample(conv, channels, channels // 2)
                )
            elif not spec.pool_only:
                stage.append(conv(channels, 2 * channels, 3, 2))
                channels *= 2
            elan = ELAN(conv, channels, hidden, out, width=hidden, **spec.stage_block)
            stage.append(elan)
            self.add_module(f'stage{i}', stage)
            channels = out
        self.freeze_stages()
