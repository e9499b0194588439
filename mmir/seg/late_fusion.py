"""Late fusion for segmentation: one segmentor per modality, outputs averaged."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import torch
from mmengine.structures import BaseDataElement
from mmseg.models.segmentors import BaseSegmentor
from mmseg.utils import OptMultiConfig, OptSampleList, SampleList
from torch import Tensor, nn

from mmir.fusion.late import LateFusion, chosen, present
from mmir.registry import MODELS

Mean = Literal['arithmetic', 'geometric']


@MODELS.register_module()
class LateFusionSegmentor(LateFusion, BaseSegmentor):
    """Late fusion of one mmseg segmentor per modality, averaged at each pixel.

    ::

        model=dict(
            type='mmir.LateFusionSegmentor',
            data_preprocessor=dict(type='mmir.PairedSegDataPreprocessor', ...),
            segmentors=dict(rgb=dict(type='EncoderDecoder', ...), ir=dict(...)),
            checkpoints=dict(rgb='rgb.pth', ir='ir.pth'))

    For training see :class:`mmir.fusion.late.LateFusion`.

    Args:
        segmentors (Mapping[str, dict]): Modality -> config of its segmentor, without
            `data_preprocessor`. All have the same classes. Sliding-window inference is
            up to the `test_cfg` of each.
        data_preprocessor (dict): Paired data preprocessor, shared by all.
        fuse (str): Mean of the class probabilities: 'arithmetic', or 'geometric', which
            is the mean of the logits.
        checkpoints (Mapping[str, str], optional): Modality -> checkpoint of its
            segmentor trained alone, loaded without running code in it.
        train_cfg (dict, optional): Unused: each segmentor has its own. The hosts' tools
            set it.
        test_cfg (dict, optional): Unused, likewise.
        init_cfg (dict, optional): Initialization, see `mmengine.model.BaseModule`.

    Raises:
        ValueError: A name is not a modality of the data preprocessor, or `fuse` is
            unknown.
        RuntimeError: A checkpoint cannot be loaded safely or does not match.
    """

    def __init__(
        self,
        segmentors: Mapping[str, dict],
        data_preprocessor: dict,
        fuse: Mean = 'arithmetic',
        checkpoints: Mapping[str, str | Path | None] | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        if fuse not in get_args(Mean):
            raise ValueError(f'fuse must be one of {get_args(Mean)}, got {fuse!r}')
        self.fuse = fuse
        self._set_members(segmentors, checkpoints)

    @property
    def align_corners(self) -> bool:
        """bool: Whether the segmentors align corners when resizing logits."""
        return self._first().align_corners

    @property
    def decode_head(self) -> nn.Module:
        """nn.Module: First head; its threshold applies to a single class."""
        return self._first().decode_head

    def predict(self, inputs: Tensor, data_samples: OptSampleList = None) -> SampleList:
        """Segment each modality that is present, and fuse.

        Args:
            inputs (Tensor): Shape (N, C, H, W), all modalities.
            data_samples (list[SegDataSample], optional): Samples with `absent`.

        Returns:
            list[SegDataSample]: The samples with `pred_sem_seg` and `seg_logits`, whose
            softmax (sigmoid with a single class) is the mean. If no segmentor's
            modality is present, all classes are equally likely.
        """
        size = tuple(inputs.shape[2:])
        keys = dict.fromkeys(('ori_shape', 'img_shape', 'pad_shape'), size)
        samples = data_samples or [
            BaseDataElement(metainfo=dict(keys, padding_size=[0, 0, 0, 0]))
            for _ in inputs
        ]
        logits = self._fused('inference', inputs, samples)
        return self.postprocess_result(logits, data_samples)

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Compute fused logits (N, classes, H, W) of inputs (N, C, H, W)."""
        samples = [BaseDataElement(metainfo=dict(meta)) for meta in batch_img_metas]
        return self._fused('encode_decode', inputs, samples)

    def _first(self) -> nn.Module:
        return next(iter(self.members.values()))

    def _fused(
        self, method: str, inputs: Tensor, samples: list[BaseDataElement]
    ) -> Tensor:
        """Mean over the members whose modality is present, as logits."""
        total, count = None, inputs.new_zeros(len(inputs), 1, 1, 1)
        for name, part in self._parts(inputs).items():
            rows = present(samples, name)
            if not rows:
                continue
            part, there = chosen(part, samples, rows)
            logits = getattr(self.members[name], method)(
                part, [sample.metainfo for sample in there]
            )
            if total is None:
                total = logits.new_zeros(len(inputs), *logits.shape[1:])
            total[rows] += self._vote(logits)
            count[rows] += 1
        if total is None:
            total = inputs.new_zeros(
                len(inputs), self._first().out_channels, *inputs.shape[2:]
            )
        return self._as_logits(total / count.clamp(min=1), count == 0)

    def _vote(self, logits: Tensor) -> Tensor:
        """Convert logits to the quantity that is averaged."""
        if self.fuse == 'geometric':
            return logits
        return logits.softmax(1) if logits.shape[1] > 1 else logits.sigmoid()

    def _as_logits(self, mean: Tensor, nobody: Tensor) -> Tensor:
        """Convert the mean vote to logits; zeros where nobody voted."""
        limits = torch.finfo(mean.dtype)
        if self.fuse == 'arithmetic' and mean.shape[1] > 1:
            mean = mean.clamp(min=limits.tiny).log()
        elif self.fuse == 'arithmetic':
            mean = mean.logit(eps=limits.eps)
        return mean.masked_fill(nobody, 0)
