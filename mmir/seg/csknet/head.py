"""Head of CSK-Net: a decoder per modality, a gated unit between them, M + 1 outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.model import BaseModule, ModuleDict
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.utils import SampleList
from torch import Tensor, nn

from mmir.layers import GatedSpectralUnit
from mmir.layers.presence import Presence, Rows, in_order, select
from mmir.registry import MODELS

FUSED = 'fused'
"""Name of the output that reads all modalities."""


def classify(decoder: BaseDecodeHead, features: Tensor) -> Tensor:
    """Classify the features of a decoder as its host does: dropout, 1x1 convolution."""
    return type(decoder).cls_seg(decoder, features)


def open_(decoder: BaseDecodeHead) -> BaseDecodeHead:
    """Make a decode head of mmseg return the features that it would classify, in place.

    Every head of mmseg that classifies pixels ends in its method `cls_seg`.
    """
    decoder.cls_seg = _unclassified
    return decoder


def _unclassified(features: Tensor) -> Tensor:
    return features


@dataclass
class Decoded:
    """What the head makes of the features of the encoder.

    Attributes:
        features: Modality -> features (its samples, C, h, w) before the classifier.
        logits: Modality -> logits (its samples, classes, h, w).
        fused: Logits of the samples with several modalities; None without any.
        fused_rows: Indices of these samples.
    """

    features: dict[str, Tensor]
    logits: dict[str, Tensor]
    fused: Tensor | None = None
    fused_rows: Rows = ()


@MODELS.register_module()
class CSKHead(BaseModule):
    """Decode head of CSK-Net, around any decode head of mmseg.

    Each modality has a decoder and a classifier of its own, which are a plain decode
    head. A fusion module joins the features before the classifiers; a further
    classifier reads them (arXiv 2312.02240, figure a).

    Args:
        modalities (Sequence[str]): Names, in channel order. `mmir.CSKNet` sets them.
        decoder (dict): Config of a decode head of mmseg.
        fusion (dict): Config of a module that is built with `modalities` (their number)
            and `channels`, and called with a list of maps, such as
            :class:`mmir.fusion.AddFusion`. Default: `GatedSpectralUnit`. Only that one
            can fuse some of three and more modalities.
        weights (Mapping[str, float], optional): Weights of the losses of the outputs,
            by modality and 'fused'. Default: 1 each. The paper states none.
        init_cfg (dict, optional): Initialization, see `mmengine.model.BaseModule`.

    Raises:
        ValueError: A name in `weights` is not that of an output.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        decoder: Mapping[str, Any],
        fusion: Mapping[str, Any] | None = None,
        weights: Mapping[str, float] | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.modalities = tuple(modalities)
        self.decoders = ModuleDict(
            {name: open_(MODELS.build(dict(decoder))) for name in self.modalities}
        )
        first = self.first
        # resizing, losses and thresholds are the same for all outputs
        self.align_corners, self.threshold = first.align_corners, first.threshold
        self.num_classes, self.out_channels = first.num_classes, first.out_channels
        channels = first.conv_seg.in_channels
        options = dict(fusion or dict(type='mmir.GatedSpectralUnit'))
        self.fusion = MODELS.build(
            dict(options, modalities=len(self.modalities), channels=channels)
        )
        self.dropout = nn.Dropout2d(first.dropout_ratio)
        self.conv_seg = nn.Conv2d(channels, self.out_channels, 1)
        known = {*self.modalities, FUSED}
        if unknown := set(weights or {}) - known:
            raise ValueError(
                f'weights of {sorted(unknown)}, but outputs {sorted(known)}'
            )
        self.weights = dict.fromkeys(known, 1.0) | dict(weights or {})

    @property
    def first(self) -> BaseDecodeHead:
        """Decoder of the first modality."""
        return self.decoders[self.modalities[0]]

    def init_weights(self) -> None:
        """Initialize as the decode heads of mmseg do."""
        super().init_weights()
        nn.init.normal_(self.conv_seg.weight, std=0.01)
        nn.init.zeros_(self.conv_seg.bias)

    def forward(
        self, feats: Mapping[str, Sequence[Tensor]], presence: Presence
    ) -> Decoded:
        """Decode each modality, and fuse where a sample has several.

        Args:
            feats: Modality -> feature maps of its samples.
            presence: Which samples have which modality.
        """
        features = {name: self._decode(name, feats[name]) for name in feats}
        logits = {n: classify(self.decoders[n], x) for n, x in features.items()}
        decoded = Decoded(features, logits)
        rows = [r for subset, r in presence.groups().items() if len(subset) > 1]
        decoded.fused_rows = tuple(sorted(row for part in rows for row in part))
        if decoded.fused_rows:
            decoded.fused = self._fuse(features, presence, decoded.fused_rows)
        return decoded

    def _decode(self, name: str, maps: Sequence[Tensor]) -> Tensor:
        """Features of the samples of a modality.

        Batch norm over pooled maps, as in ASPP, refuses a single sample in training. A
        mixed batch may hold just one of a modality: its decoder sees it twice.
        """
        if not self.training or len(maps[0]) > 1:
            return self.decoders[name](maps)
        return self.decoders[name]([torch.cat([x, x]) for x in maps])[:1]

    def _fuse(
        self, features: Mapping[str, Tensor], presence: Presence, rows: Rows
    ) -> Tensor:
        """Logits of the samples with several modalities."""
        if presence.complete:
            fused = self._fused(features)
            return self.conv_seg(self.dropout(fused))
        pieces = []
        for subset, group in presence.groups().items():
            if len(subset) > 1:
                where = {name: presence.where(name, group) for name in subset}
                maps = {n: select(features[n], where[n]) for n in subset}
                pieces.append((self._fused(maps), group))
        return self.conv_seg(self.dropout(in_order(pieces)))

    def _fused(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Fuse the maps of samples with the same modalities."""
        if len(maps) == len(self.modalities):
            return self.fusion([*maps.values()])
        if not isinstance(self.fusion, GatedSpectralUnit):
            raise ValueError(
                f'{type(self.fusion).__name__} fuses all modalities {self.modalities}, '
                f'not only {[*maps]}: use fusion=dict(type="mmir.GatedSpectralUnit")'
            )
        present = [self.modalities.index(name) for name in maps]
        return self.fusion([*maps.values()], present)

    def loss(
        self, decoded: Decoded, data_samples: SampleList, presence: Presence
    ) -> dict[str, Tensor]:
        """Cross-entropy (or what the decoder is configured with) of all outputs.

        Returns:
            Losses and accuracies, prefixed with the modality or 'fused' and a dot.
        """
        outputs = {n: (x, presence.rows[n]) for n, x in decoded.logits.items()}
        if decoded.fused is not None:
            outputs[FUSED] = decoded.fused, decoded.fused_rows
        losses = {}
        for name, (logits, rows) in outputs.items():
            head = self.decoders[self.modalities[0] if name == FUSED else name]
            samples = [data_samples[row] for row in rows]
            for key, value in head.loss_by_feat(logits, samples).items():
                factor = self.weights[name] if 'loss' in key else 1.0
                losses[f'{name}.{key}'] = value * factor
        return losses

    def merged(
        self, decoded: Decoded, presence: Presence, output: str = 'auto'
    ) -> Tensor:
        """Logits of all samples, one output each.

        Args:
            decoded: What :meth:`forward` returned.
            presence: Which samples have which modality.
            output: 'auto': the fused output where a sample has several modalities, else
                that of its modality. Or the name of a modality.

        Returns:
            Shape (batch, classes, h, w).

        Raises:
            ValueError: A sample does not have the modality of `output`.
        """
        if output != 'auto':
            if presence.rows.get(output) != tuple(range(presence.batch)):
                raise ValueError(
                    f'output={output!r}, but not every sample has that modality'
                )
            return decoded.logits[output]
        pieces = [] if decoded.fused is None else [(decoded.fused, decoded.fused_rows)]
        for subset, rows in presence.groups().items():
            if len(subset) == 1:
                where = presence.where(subset[0], rows)
                pieces.append((select(decoded.logits[subset[0]], where), rows))
        return in_order(pieces)

    def predict_by_feat(self, logits: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Resize logits to the size of the input, as the decoder does."""
        return self.first.predict_by_feat(logits, batch_img_metas)
