"""Layers of the YOLO head, separate from its losses so they can be exported."""

import logging
import math
from typing import Any

import torch
from mmdet.utils import OptMultiConfig
from mmengine.logging import print_log
from mmengine.model import BaseModule, PretrainedInit
from torch import Tensor, nn

from mmir.det.yolo.layers import Implicit
from mmir.registry import MODELS

ANCHORS = (
    ((12, 16), (19, 36), (40, 28)),
    ((36, 75), (76, 55), (72, 146)),
    ((142, 110), (192, 243), (459, 401)),
)
"""Anchors (width, height) of the released YOLOv7, in pixels; strides 8, 16, 32."""

_PRETRAINED = ('Pretrained', PretrainedInit)


@MODELS.register_module()
class YOLOHeadModule(BaseModule):
    """Layers of the YOLO head: a 1x1 convolution per level.

    Args:
        num_classes (int): Number of classes C.
        in_channels (tuple[int]): Input channels per level.
        implicit (bool): Add a learned vector to the input of each convolution, and
            multiply its output with another, as YOLOv7 does. The structure without them
            is also the one after folding.
        num_anchors (int): Number of anchors A per cell.
        strides (tuple[int]): Stride per level in pixels.
        init_cfg (dict, optional): Initialization, see `mmengine.model.BaseModule`.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: tuple[int, ...],
        implicit: bool = True,
        num_anchors: int = 3,
        strides: tuple[int, ...] = (8, 16, 32),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_classes = num_classes
        self.num_anchors = num_anchors
        self.strides = strides
        out = num_anchors * (5 + num_classes)
        self.convs_pred = nn.ModuleList(
            _with_implicit(c, out) if implicit else nn.Conv2d(c, out, 1)
            for c in in_channels
        )
        self._init_bias()

    @property
    def convs(self) -> list[nn.Module]:
        """The convolution of each level, without its implicit layers."""
        return [
            layer[1] if isinstance(layer, nn.Sequential) else layer
            for layer in self.convs_pred
        ]

    def init_weights(self) -> None:
        """Initialize the weights, and set the biases to the expected scores.

        Pretrained weights take precedence. A second call has no effect.
        """
        cfgs = [self.init_cfg] if isinstance(self.init_cfg, dict) else self.init_cfg
        pretrained = any(c['type'] in _PRETRAINED for c in cfgs or ())
        again = self.is_init
        super().init_weights()
        if not (again or pretrained):
            self._init_bias()

    @torch.no_grad()
    def _init_bias(self) -> None:
        """Set biases for 8 objects per 640 px image and equally likely classes."""
        for conv, stride in zip(self.convs, self.strides, strict=True):
            bound = 1 / math.sqrt(conv.in_channels)
            nn.init.uniform_(conv.bias, -bound, bound)
            bias = conv.bias.view(self.num_anchors, -1)
            bias[:, 4] += math.log(8 / (640 / stride) ** 2)
            bias[:, 5:] += math.log(0.6 / (self.num_classes - 0.99))

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any
    ) -> None:
        """Keep the output layers if the checkpoint has another number of classes."""
        inner = '1.' if isinstance(self.convs_pred[0], nn.Sequential) else ''
        theirs = state_dict.get(f'{prefix}convs_pred.0.{inner}weight')
        out = self.num_anchors * (5 + self.num_classes)
        if theirs is not None and len(theirs) != out:
            classes = len(theirs) // self.num_anchors - 5
            print_log(
                f'the checkpoint detects {classes} classes, the model '
                f'{self.num_classes}: its output layers are not loaded',
                logger='current',
                level=logging.WARNING,
            )
            for key, own in self.state_dict().items():
                if f'{prefix}{key}' in state_dict and not key.endswith('0.implicit'):
                    state_dict[f'{prefix}{key}'] = own
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Map features (N, C_i, H_i, W_i) to raw maps (N, A * (5 + C), H_i, W_i).

        Channels are ordered anchor by anchor: x, y, w, h, objectness, classes.
        """
        return tuple(conv(x) for conv, x in zip(self.convs_pred, feats, strict=True))


def _with_implicit(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        Implicit(channels, 0.0), nn.Conv2d(channels, out, 1), Implicit(out, 1.0)
    )
