"""`SODHead`: progressive decoder for salient-object detection."""

from collections.abc import Mapping, Sequence

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from mmseg.utils import ConfigType, OptMultiConfig, SampleList
from torch import Tensor, cat, nn

from mmir.registry import MODELS

from .decoder import ConvNeXtBlock, UpStage


@MODELS.register_module()
class SODHead(BaseDecodeHead):
    """Progressive decoder with side outputs for salient-object detection.

    The decoder starts at the deepest feature map. A stage (convolution 3x3, batch
    norm, GELU, bilinear upsampling) gives a map of the size of the next shallower
    feature map, and the two are concatenated for the next stage. The stages halve
    their channels: with 4 maps of C channels and `channels=96` they are C to 768,
    768+C to 384, 384+C to 192, 192+C to 96. A ConvNeXt block follows each stage but
    the first. Two more layers predict one logit per pixel. In training, every stage
    but the last has a side output, and the loss is the sum over all outputs.

    This is the CPNet-style decoder of the published IV-tuning code (arXiv 2412.16654).
    The prediction there is `96 to 48, upsample, 48 to 1`; that these are a stage and a
    3x3 convolution is our reading.

    The head predicts one channel; mmseg's `postprocess_result` gives its sigmoid as
    `seg_logits` and compares it with `threshold` for `pred_sem_seg`. mmseg feeds maps
    of strides such as 4, 8, 16, 32, but any sizes will do.

    Args:
        in_channels (Sequence[int]): Channels of the feature maps, shallow to deep. At
            least two.
        channels (int): Channels of the last stage. Each stage before has twice as many.
        in_index (Sequence[int], optional): Indices of the maps in the features.
            Default: the first ones.
        num_classes (int): 2, background and salient; for the tools of the host.
        out_channels (int): 1.
        threshold (float): Probability above which a pixel counts as salient.
        norm_cfg (dict): Normalization of the stages.
        loss_decode (dict | Sequence[dict]): Loss of each output. Takes logits (N, 1,
            H, W) and labels (N, H, W).
        ignore_index (int): Label of pixels to leave out of the loss.
        align_corners (bool): How outputs are resized to the labels or the image. The
            upsampling inside the decoder aligns corners, as published.
        init_cfg (dict, optional): Initialization, see `mmengine.model.BaseModule`.
            Default: that of PyTorch.

    Raises:
        ValueError: There are fewer than two maps, `channels` is odd, or
            `num_classes` or `out_channels` differ from the values above.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 96,
        *,
        in_index: Sequence[int] | None = None,
        num_classes: int = 2,
        out_channels: int = 1,
        threshold: float = 0.5,
        norm_cfg: Mapping = dict(type='BN'),
        loss_decode: dict | Sequence[dict] = dict(type='mmir.SODLoss'),  # noqa: B006
        ignore_index: int = 255,
        align_corners: bool = False,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        depth = len(in_channels)
        if depth < 2:
            raise ValueError(f'SODHead needs at least 2 maps, got {depth}')
        if channels % 2:
            raise ValueError(f'SODHead: channels must be even, got {channels}')
        if (num_classes, out_channels) != (2, 1):
            raise ValueError(
                'SODHead has num_classes=2 and out_channels=1, got '
                f'{num_classes} and {out_channels}'
            )
        super().__init__(
            list(in_channels),
            channels,
            num_classes=num_classes,
            out_channels=out_channels,
            threshold=threshold,
            dropout_ratio=0,
            norm_cfg=dict(norm_cfg),
            in_index=list(range(depth) if in_index is None else in_index),
            input_transform='multiple_select',
            loss_decode=loss_decode,
            ignore_index=ignore_index,
            align_corners=align_corners,
            init_cfg=init_cfg,
        )
        # deep to shallow
        widths = [channels * 2**level for level in reversed(range(depth))]
        inputs = [
            deep + wide
            for deep, wide in zip(reversed(in_channels), [0, *widths], strict=False)
        ]
        self.stages = nn.ModuleList(
            UpStage(*pair, self.norm_cfg) for pair in zip(inputs, widths, strict=True)
        )
        self.blocks = nn.ModuleList(ConvNeXtBlock(width) for width in widths[1:])
        self.sides = nn.ModuleList(
            nn.Conv2d(width, 1, 3, padding=1) for width in widths[:-1]
        )
        self.last = UpStage(channels, channels // 2, self.norm_cfg)
        self.conv_seg = nn.Conv2d(channels // 2, 1, 3, padding=1)

    def decode(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run the stages.

        Args:
            inputs (Sequence[Tensor]): Features of the backbone.

        Returns:
            list[Tensor]: Output of each stage, deep to shallow.
        """
        maps = self._transform_inputs(inputs)[::-1]
        sizes = [tuple(x.shape[-2:]) for x in maps[1:]]
        found: list[Tensor] = []
        for level, (stage, x) in enumerate(zip(self.stages, maps, strict=True)):
            x = cat((found[-1], x), 1) if found else x
            x = stage(x, sizes[level] if level < len(sizes) else None)
            found.append(self.blocks[level - 1](x) if level else x)
        return found

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Predict.

        Args:
            inputs (Sequence[Tensor]): Features of the backbone, (N, C, h, w) each.

        Returns:
            Tensor: Logits (N, 1, 4h, 4w) for a shallowest map of h x w.
        """
        return self.conv_seg(self.last(self.decode(inputs)[-1]))

    def loss(
        self,
        inputs: Sequence[Tensor],
        batch_data_samples: SampleList,
        train_cfg: ConfigType,
    ) -> dict[str, Tensor]:
        """Compute the losses of the prediction and of the side outputs.

        Args:
            inputs (Sequence[Tensor]): Features of the backbone.
            batch_data_samples (list[SegDataSample]): Samples with `gt_sem_seg`.
            train_cfg (dict): Unused.

        Returns:
            dict[str, Tensor]: `loss_sod` and, shallow to deep, `loss_sod_side1`, ...
        """
        maps = self.decode(inputs)
        sides = [side(x) for side, x in zip(self.sides, maps[:-1], strict=True)]
        outputs = [self.conv_seg(self.last(maps[-1])), *sides[::-1]]
        label = self._stack_batch_gt(batch_data_samples)
        terms = self.loss_decode
        terms = terms if isinstance(terms, nn.ModuleList) else [terms]
        losses = {}
        for number, output in enumerate(outputs):
            logits = resize(
                output,
                size=label.shape[2:],
                mode='bilinear',
                align_corners=self.align_corners,
            )
            for term in terms:
                name = term.loss_name + (f'_side{number}' if number else '')
                losses[name] = term(
                    logits, label.squeeze(1), ignore_index=self.ignore_index
                )
        return losses
