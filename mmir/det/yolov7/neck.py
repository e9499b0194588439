"""YOLOv7 neck (tiny, L, X): pyramid pooling, top-down and bottom-up paths."""

import torch
from mmcv.cnn import ConvModule
from mmdet.utils import OptMultiConfig
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmir.det.yolo.layers import ConvFactory, RepConv
from mmir.det.yolov7.arch import Arch, get_arch
from mmir.det.yolov7.layers import ELAN, SPPCSPC, MaxPoolDownsample, SPPTiny
from mmir.registry import MODELS


@MODELS.register_module()
class YOLOv7Neck(BaseModule):
    """Path aggregation network of YOLOv7.

    Source: Wang et al., YOLOv7, CVPR 2023.

    Args:
        arch (str): `'tiny'`, `'l'` or `'x'`.
        in_channels (tuple[int], optional): Channels of the three inputs. Default: those
            of the backbone of the same size.
        conv_cfg, norm_cfg, act_cfg (dict, optional): Layer configs. Default: those of
            the size.
        init_cfg (dict, optional): Initialization, see `mmengine.model.BaseModule`.

    Raises:
        ValueError: Unknown `arch`.
    """

    def __init__(
        self,
        arch: str = 'l',
        in_channels: tuple[int, int, int] | None = None,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg)
        spec = get_arch(arch)
        conv = ConvFactory(act_cfg or spec.act_cfg, norm_cfg, conv_cfg)
        c3, c4, c5 = in_channels or [out for _, out in spec.stages[1:]]
        p3, p4, p5 = spec.pyramid
        self.spp = (SPPTiny if spec.pool_only else SPPCSPC)(conv, c5, p5)
        self.lateral_layers = nn.ModuleList([conv(c3, p3), conv(c4, p4)])
        self.reduce_layers = nn.ModuleList([conv(p4, p3), conv(p5, p4)])
        self.upsample = nn.Upsample(scale_factor=2, mode='nearest')
        self.top_down_layers = nn.ModuleList(
            [_block(conv, spec, 2 * p3, p3), _block(conv, spec, 2 * p4, p4)]
        )
        self.downsample_layers = nn.ModuleList(
            [_downsample(conv, spec, p3), _downsample(conv, spec, p4)]
        )
        # the level above has twice the channels of the level that is downsampled
        self.bottom_up_layers = nn.ModuleList(
            [_block(conv, spec, 2 * p3 + p4, p4), _block(conv, spec, 2 * p4 + p5, p5)]
        )
        self.out_layers = nn.ModuleList(
            _out_layer(conv, spec, p, o)
            for p, o in zip(spec.pyramid, spec.out, strict=True)
        )

    def forward(self, feats: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
        """Map features at strides 8, 16, 32 to the inputs of the head.

        Args:
            feats (tuple[Tensor]): Shapes (N, C_i, H / s_i, W / s_i).

        Returns:
            tuple[Tensor]: Shapes (N, out_i, H / s_i, W / s_i).
        """
        c3, c4, c5 = feats
        top = self.spp(c5)
        mid = self._top_down(1, c4, top)
        low = self._top_down(0, c3, mid)
        mid = self._bottom_up(0, low, mid)
        top = self._bottom_up(1, mid, top)
        levels = (low, mid, top)
        return tuple(layer(x) for layer, x in zip(self.out_layers, levels, strict=True))

    def _top_down(self, i: int, lateral: Tensor, above: Tensor) -> Tensor:
        up = self.upsample(self.reduce_layers[i](above))
        both = torch.cat([self.lateral_layers[i](lateral), up], dim=1)
        return self.top_down_layers[i](both)

    def _bottom_up(self, i: int, below: Tensor, same: Tensor) -> Tensor:
        both = torch.cat([self.downsample_layers[i](below), same], dim=1)
        return self.bottom_up_layers[i](both)


def _block(conv: ConvFactory, spec: Arch, channels: int, out: int) -> ELAN:
    block = dict(spec.neck_block)
    hidden = round(channels * block.pop('hidden'))
    width = round(channels * block.pop('width'))
    return ELAN(conv, channels, hidden, out, width=width, **block)


def _downsample(conv: ConvFactory, spec: Arch, channels: int) -> nn.Module:
    if spec.pool_only:
        return conv(channels, 2 * channels, 3, 2)
    return MaxPoolDownsample(conv, channels, channels)


def _out_layer(
    conv: ConvFactory, spec: Arch, channels: int, out: int
) -> RepConv | ConvModule:
    if spec.rep_out:
        return RepConv(channels, out, conv.act_cfg, conv.norm_cfg, conv.conv_cfg)
    return conv(channels, out, 3)
