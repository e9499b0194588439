"""Training terms of CSK-Net: distillation from the teacher, contrast of pixels."""

from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmir.layers.modality_norm import ModalityNorm
from mmir.layers.presence import ModalityRoute, Presence, select

from .contrast import PixelContrastHead, contrast_weight
from .distill import SpectralDistillLoss
from .head import Decoded
from .modality_contrast import ModalityContrast
from .teacher import Teacher

Feats = Mapping[str, Sequence[Tensor]]


class DistillTerm(nn.Module):
    """Distillation from the teacher into the encoder and a decoder.

    It reads the maps of the stages after exchange, which are those the decoder reads.

    Args:
        kind: Distance of maps, see :class:`SpectralDistillLoss`.
        encoder: Weight of the mean over the stages.
        decoder: Weight of the features before the classifier.
        output: Weight of the divergence of the class probabilities; the paper has none.
        temperature: That of the class probabilities.
    """

    def __init__(
        self,
        kind: str = 'cos',
        encoder: float = 1.0,
        decoder: float = 1.0,
        output: float = 0.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        soft = dict(kind='kl', temperature=temperature)
        losses = dict(
            encoder=SpectralDistillLoss(kind=kind, weight=encoder),
            decoder=SpectralDistillLoss(kind=kind, weight=decoder),
            output=SpectralDistillLoss(weight=output, **soft),
        )
        weights = dict(encoder=encoder, decoder=decoder, output=output)
        self.losses = nn.ModuleDict({k: v for k, v in losses.items() if weights[k]})

    def forward(
        self,
        teacher: Teacher,
        images: Mapping[str, Tensor],
        feats: Feats,
        decoded: Decoded,
        presence: Presence,
    ) -> dict[str, Tensor]:
        """Compute the losses of all students.

        A sample teaches if it has the modality of the teacher and of the student.
        """
        source = presence.rows.get(teacher.modality, ())
        taught = {
            name: tuple(row for row in presence.rows.get(name, ()) if row in source)
            for name in teacher.students
        }
        if not self.losses or not any(taught.values()):
            return {}
        maps, *ends = teacher(select(images[teacher.modality], source))
        losses = {}
        for name, rows in taught.items():
            if not rows:
                continue
            own = presence.where(name, rows)
            there = presence.where(teacher.modality, rows)
            features, logits = (select(x, there) for x in ends)
            pairs = dict(
                encoder=(
                    [select(x, own) for x in feats[name]],
                    [select(x, there) for x in maps],
                ),
                decoder=(select(decoded.features[name], own), features),
                output=(select(decoded.logits[name], own), logits),
            )
            for key, loss in self.losses.items():
                losses[f'{name}.loss_distill_{key}'] = loss(*pairs[key])
        return losses


class ContrastTerm(BaseModule):
    """Contrast of pixels in the stages of the encoder.

    Args:
        route: Route of the encoder; the norms of the projection are per modality too.
        channels: Channels of each stage.
        weight: Factor of the loss.
        warmup: Iterations with a factor of zero.
        **options: Arguments of :class:`ModalityContrast`.
    """

    def __init__(
        self,
        route: ModalityRoute,
        channels: Sequence[int],
        weight: float = 0.1,
        warmup: int = 0,
        **options: object,
    ) -> None:
        super().__init__()
        self.head = PixelContrastHead(channels)
        self.losses = nn.ModuleList(  # each stage has a memory of its own, if any
            [ModalityContrast(route.names, **options) for _ in channels]
        )
        self.weight, self.warmup, self.route = weight, warmup, route
        for name, layer in [*self.head.named_modules()]:
            if isinstance(layer, nn.BatchNorm2d):
                self.head.set_submodule(name, ModalityNorm(layer, route))

    def forward(
        self,
        feats: Feats,
        decoded: Decoded,
        labels: Tensor,
        presence: Presence,
        iteration: int,
    ) -> Tensor:
        """Compute the loss, the mean over the stages.

        Args:
            feats: Modality -> maps of the stages.
            decoded: For the predictions that tell hard pixels from easy ones.
            labels: Shape (batch, H, W).
            presence: Which samples have which modality.
            iteration: Number of the training iteration.
        """
        stacks = [torch.cat(level) for level in zip(*feats.values(), strict=True)]
        self.route.enter(presence)
        try:
            stages = [presence.split(x) for x in self.head(stacks)]
        finally:
            self.route.leave()
        found = {n: x.detach().argmax(1) for n, x in decoded.logits.items()}
        rows = {name: list(kept) for name, kept in presence.rows.items()}
        losses = [
            loss(x, labels, found, rows)
            for loss, x in zip(self.losses, stages, strict=True)
        ]
        factor = contrast_weight(iteration, self.weight, self.warmup)
        return torch.stack(losses).mean() * factor
