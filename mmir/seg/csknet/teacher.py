"""Frozen teacher of CSK-Net: a plain segmentor of one modality."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmir.layers.presence import as_levels
from mmir.registry import MODELS
from mmir.utils.checkpoint import load_checkpoint, weights_of

from .head import classify, open_

PARTS = 'backbone', 'decode_head'


class Teacher(BaseModule):
    """Frozen network that was trained on one modality; it stays in evaluation mode.

    Its weights are not part of the checkpoints of the student: they come from its own.

    Args:
        backbone: Config of the student's backbone.
        decoder: Config of the student's decoder.
        modalities: Modalities of the student.
        modality: Modality that the teacher reads.
        checkpoint: Checkpoint of an mmseg `EncoderDecoder` with that backbone and that
            decoder, such as one trained by `mmir.SingleModality`.
        students: Modalities whose branches learn from it. Default: its own, as in the
            paper.
        starts: Whether the student starts from the weights of the teacher.

    Raises:
        ValueError: Unknown modality.
        RuntimeError: The checkpoint cannot be read safely or does not fit.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        decoder: Mapping[str, Any],
        modalities: Sequence[str],
        modality: str,
        checkpoint: str | Path,
        students: Sequence[str] | None = None,
        starts: bool = False,
    ) -> None:
        super().__init__()
        self.students = (modality,) if students is None else tuple(students)
        if unknown := {modality, *self.students} - set(modalities):
            raise ValueError(
                f'teacher: unknown modalities {sorted(unknown)}, known: {[*modalities]}'
            )
        self.modality, self.checkpoint, self.starts = modality, checkpoint, starts
        plain = {k: v for k, v in backbone.items() if k != 'init_cfg'}
        self.backbone = MODELS.build(plain)
        self.decode_head = open_(MODELS.build(dict(decoder)))
        self.requires_grad_(False)
        self.load()
        self.register_state_dict_post_hook(_drop_own)
        self.train()

    def load(self) -> None:
        """Load the checkpoint."""
        weights = weights_of(load_checkpoint(self.checkpoint), self.checkpoint)
        own = {k: v for k, v in weights.items() if k.partition('.')[0] in PARTS}
        try:
            self.load_state_dict(own)
        except RuntimeError as error:
            raise RuntimeError(
                f'{self.checkpoint} does not fit the teacher, which has the backbone '
                f'and the decoder of the student: {error}'
            ) from error

    def init_weights(self) -> None:
        """Load the checkpoint again, whatever a parent module initialized."""
        self.load()

    def train(self, mode: bool = True) -> 'Teacher':
        """Stay in evaluation mode."""
        return super().train(False)

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Fill in what checkpoints of the student do not hold."""
        if prefix and not any(key.startswith(prefix) for key in state_dict):
            for name, value in self._own_state():
                state_dict[prefix + name] = value
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _own_state(self) -> list[tuple[str, Tensor]]:
        names = [*self.named_parameters(), *self.named_buffers()]
        return [(name, value.detach()) for name, value in names]

    @torch.no_grad()
    def forward(self, x: Tensor) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """Compute the maps of the stages, the decoder's features, and logits.

        Args:
            x: Images (N, 3, H, W) of its modality.
        """
        maps = as_levels(self.backbone(x))
        features = self.decode_head(maps)
        return maps, features, classify(self.decode_head, features)


def _drop_own(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, _: object
) -> None:
    """Remove the teacher's weights from what the student saves."""
    if prefix:  # not when its own state is asked for
        for key in [key for key in state_dict if key.startswith(prefix)]:
            del state_dict[key]
