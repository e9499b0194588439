"""`CSKNet`: RGB+infrared segmentation that keeps working on one modality.

[1] A. Sikdar, J. Teotia and S. Sundaram, "Contrastive learning-based spectral
knowledge distillation for multi-modality and missing modality scenarios in semantic
segmentation", arXiv 2312.02240, 2023.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from mmengine.config import ConfigDict
from mmengine.logging import MessageHub, print_log
from mmseg.models.segmentors import EncoderDecoder
from mmseg.utils import OptSampleList, SampleList
from torch import Tensor, nn

from mmir.layers import SoloStatistics, share_
from mmir.layers.modality_norm import idle_parameters
from mmir.layers.modality_shared import modalities_of, sparsity_penalty
from mmir.layers.presence import Presence, in_order, select
from mmir.registry import MODELS
from mmir.structures import modality_order

from .head import Decoded
from .teacher import Teacher
from .terms import ContrastTerm, DistillTerm


@MODELS.register_module()
class CSKNet(EncoderDecoder):
    """CSK-Net [1] around the backbone and the decode head of an mmseg config.

    One encoder with norms per modality and exchange between them, a decoder per
    modality, and a fused output. With a single modality it is exactly the plain
    network, at the cost of the plain network::

        model=dict(
            type='mmir.CSKNet',
            data_preprocessor=dict(type='mmir.PairedSegDataPreprocessor', ...),
            backbone=...,   # as before
            decode_head=dict(type='mmir.CSKHead', decoder=...),  # as before
            shared=dict(channel_exchange=dict(), spatial_exchange=dict()),
            teacher=dict(modality='rgb', checkpoint='teacher.pth'))

    Which modalities a sample has is read from `absent` in its metainfo; a batch may
    mix them. An output of a joint pass is no result of one modality: exchange carries
    the other into it. Test with `test_cfg=dict(modalities=('ir',))` for that.

    Args:
        backbone (dict): Convolutional backbone of any host.
        decode_head (dict): A :class:`CSKHead`.
        shared (dict, optional): Arguments of :func:`mmir.layers.share_`.
        teacher (dict, optional): Arguments of :class:`Teacher`. Without its
            `checkpoint`, there is no distillation.
        distill (dict, optional): Arguments of :class:`DistillTerm`.
        contrast (dict, optional): Arguments of :class:`ContrastTerm`. Default: no
            contrast.
        p_solo (float): Probability that all samples of a training batch lose all
            modalities but one. It is drawn from the number of the iteration, so all
            ranks draw the same. A batch in which not every sample has the one that is
            drawn stays as it is.
        test_cfg (dict, optional): That of mmseg, and

            - `modalities`: Modalities to use. Default: all that are present.
            - `output`: See :meth:`CSKHead.merged`.

    Raises:
        ValueError: An option does not fit; says which.
    """

    def __init__(
        self,
        backbone: dict,
        decode_head: dict,
        data_preprocessor: dict,
        shared: Mapping[str, Any] | None = None,
        teacher: Mapping[str, Any] | None = None,
        distill: Mapping[str, Any] | None = None,
        contrast: Mapping[str, Any] | None = None,
        p_solo: float = 0.0,
        test_cfg: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get('auxiliary_head'):
            raise ValueError(
                'CSKNet trains no auxiliary head: leave auxiliary_head out'
            )
        names = modality_order(data_preprocessor['modalities'])
        super().__init__(
            backbone,
            dict(decode_head, modalities=names),
            data_preprocessor=data_preprocessor,
            test_cfg=ConfigDict(test_cfg or dict(mode='whole')),
            **kwargs,
        )
        if not 0 <= p_solo <= 1:
            raise ValueError(f'p_solo must be a probability, got {p_solo}')
        self.modalities, self.p_solo = modalities_of(self), p_solo
        self.route = share_(self.backbone, self.modalities, **(shared or {}))
        self.solo_statistics = SoloStatistics()  # empty without recalibration
        self.teacher = self.distill = self.contrast = None
        if teacher is not None and teacher.get('checkpoint') is None:
            print_log('CSKNet: no checkpoint of a teacher, no distillation', 'current')
        elif teacher is not None:
            decoder = decode_head['decoder']
            self.teacher = Teacher(backbone, decoder, self.modalities, **teacher)
            self.distill = DistillTerm(**(distill or {}))
        if contrast is not None:
            self.contrast = ContrastTerm(self.route, **contrast)
        self._steps = 0

    def init_weights(self) -> None:
        """Initialize as the host does; then from the teacher, if it says so."""
        super().init_weights()
        if self.teacher is not None and self.teacher.starts:
            parts = self.teacher.state_dict()
            for network in (self.backbone, *self.decode_head.decoders.values()):
                prefix = 'backbone.' if network is self.backbone else 'decode_head.'
                own = {k: v for k, v in parts.items() if k.startswith(prefix)}
                network.load_state_dict(
                    {k.removeprefix(prefix): v for k, v in own.items()}
                )

    def extract_feat(
        self, inputs: Tensor, presence: Presence | None = None
    ) -> dict[str, tuple[Tensor, ...]]:
        """Compute the feature maps of each modality.

        Args:
            inputs (Tensor): Shape (N, 3 M, H, W), the modalities along the channels.
            presence (Presence, optional): Default: all modalities are present.

        Returns:
            dict[str, tuple[Tensor]]: Modality -> maps of the samples that have it.
        """
        presence = presence or Presence.of(self.modalities, len(inputs))
        encoder = super().extract_feat
        return self.route.run(encoder, self._images(inputs), presence)

    def loss(self, inputs: Tensor, data_samples: SampleList) -> dict[str, Tensor]:
        """Compute all losses of a batch.

        Args:
            inputs (Tensor): Shape (N, 3 M, H, W).
            data_samples (list[SegDataSample]): Samples with labels, and `absent`.

        Returns:
            dict[str, Tensor]: Losses and accuracies; see :meth:`CSKHead.loss`.
        """
        iteration = self._iteration()
        metas = [sample.metainfo for sample in data_samples]
        presence = Presence.of(self.modalities, len(inputs), metas)
        solo = drawn_solo(self.modalities, self.p_solo, iteration)
        if solo is not None and len(presence.rows.get(solo, ())) == len(inputs):
            presence = Presence.of(self.modalities, len(inputs), metas, solo)
        feats = self.extract_feat(inputs, presence)
        decoded = self.decode_head(feats, presence)
        losses = self.decode_head.loss(decoded, data_samples, presence)
        if self.teacher is not None:
            images = self._images(inputs)
            losses |= self.distill(self.teacher, images, feats, decoded, presence)
        if self.contrast is not None:
            labels = self.decode_head.first._stack_batch_gt(data_samples)[:, 0]
            losses['loss_contrast'] = self.contrast(
                feats, decoded, labels, presence, iteration
            )
        if (penalty := sparsity_penalty(self.backbone)) is not None:
            losses['loss_sparsity'] = penalty
        if idle := [*self._idle(presence, decoded)]:
            # distributed training needs a gradient of every parameter
            losses['loss_idle'] = 0 * sum(p.sum() for p in idle)
        return losses

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Compute logits of the size of the input; see :meth:`CSKHead.merged`."""
        logits = self._logits(inputs, batch_img_metas)
        return self.decode_head.predict_by_feat(logits, batch_img_metas)

    def _forward(self, inputs: Tensor, data_samples: OptSampleList = None) -> Tensor:
        """Compute logits (N, classes, h, w) at the size of the decoder."""
        metas = data_samples and [sample.metainfo for sample in data_samples]
        return self._logits(inputs, metas)

    def _logits(self, inputs: Tensor, metas: Sequence[Mapping] | None = None) -> Tensor:
        only = self.test_cfg.get('modalities')
        presence = Presence.of(self.modalities, len(inputs), metas, only)
        store, groups = self.solo_statistics, presence.groups()
        if not any(store.holds(subset[0]) for subset in groups if len(subset) == 1):
            return self._merged(inputs, presence)
        pieces = []  # group by group: the norms have other statistics in some
        for subset, rows in groups.items():
            part = Presence(
                presence.names, {n: tuple(range(len(rows))) for n in subset}, len(rows)
            )
            solo = store.alone(self, subset[0]) if len(subset) == 1 else nullcontext()
            with solo:
                pieces.append((self._merged(select(inputs, rows), part), rows))
        return in_order(pieces)

    def _merged(self, inputs: Tensor, presence: Presence) -> Tensor:
        decoded = self.decode_head(self.extract_feat(inputs, presence), presence)
        output = self.test_cfg.get('output') or 'auto'
        return self.decode_head.merged(decoded, presence, output)

    def _images(self, inputs: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, H, W) of each modality."""
        parts = inputs.chunk(len(self.modalities), 1)
        return dict(zip(self.modalities, parts, strict=True))

    def _iteration(self) -> int:
        """Number of the training iteration: that of the runner, else counted here."""
        self._steps += 1
        hub = MessageHub.get_current_instance()
        return hub.get_info('iter', self._steps - 1)

    def _idle(self, presence: Presence, decoded: Decoded) -> Iterator[nn.Parameter]:
        """Yield the parameters that this batch does not use."""
        parts = [self.decode_head.fusion, self.decode_head.conv_seg]
        missing = [name for name in self.modalities if name not in presence.rows]
        idle = parts if missing or decoded.fused is None else []
        idle += [self.decode_head.decoders[name] for name in missing]
        yield from idle_parameters(self, presence)
        for module in idle:
            yield from (p for p in module.parameters() if p.requires_grad)


def drawn_solo(names: Sequence[str], p_solo: float, iteration: int) -> str | None:
    """Draw the modality that a training batch keeps; None for all.

    Args:
        names: All modalities.
        p_solo: Probability of a single one; each is as likely.
        iteration: Number of the iteration. The same on all ranks, so that no rank waits
            for statistics of a modality that another has not.
    """
    draw = random.Random(f'solo {iteration}')
    return draw.choice([*names]) if draw.random() < p_solo else None
