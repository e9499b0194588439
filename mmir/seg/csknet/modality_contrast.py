"""`ModalityContrast`: which pixels of which modalities are contrasted.

[1] A. Sikdar, J. Teotia and S. Sundaram, "Contrastive learning-based spectral knowledge
distillation for multi-modality and missing modality scenarios in semantic
segmentation", arXiv 2312.02240, 2023.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from mmir.registry import MODELS
from mmir.utils.errors import UserError

from .contrast import PixelContrastLoss
from .contrast_memory import Samples

Scope = Literal['intra', 'cross', 'all']


@MODELS.register_module()
class ModalityContrast(nn.Module):
    """Mean over the modalities of the contrastive loss of one stage.

    Args:
        modalities (Sequence[str]): Names of the modalities.
        scope (str): What the anchors of a modality are compared with.

            - 'intra': samples of the same modality, as in [1].
            - 'cross': samples of the other modalities.
            - 'all': both.
        loss (Mapping, optional): Arguments of :class:`PixelContrastLoss`. Each modality
            has a memory of its own, if any.

    Raises:
        ValueError: `scope` is unknown.
    """

    def __init__(
        self,
        modalities: Sequence[str] = ('rgb', 'ir'),
        scope: Scope = 'intra',
        loss: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if scope not in get_args(Scope):
            raise ValueError(f'scope must be one of {get_args(Scope)}, got {scope!r}')
        self.scope = scope
        self.losses = nn.ModuleDict(
            {name: PixelContrastLoss(**(loss or {})) for name in modalities}
        )

    def forward(
        self,
        embeddings: Mapping[str, Tensor],
        labels: Tensor,
        predictions: Mapping[str, Tensor],
        rows: Mapping[str, Tensor | None] | None = None,
    ) -> Tensor:
        """Compute the loss, in at least float32.

        Args:
            embeddings (Mapping[str, Tensor]): Of length 1 along the channels, shape
                (N_m, D, h, w) by modality. Modalities may be absent, but not all.
            labels (Tensor): Class indices of all samples (N, H, W).
            predictions (Mapping[str, Tensor]): Predicted class indices (N_m, H', W')
                of each modality in `embeddings`.
            rows (Mapping[str, Tensor | None], optional): Indices (N_m,) of the samples
                that have the modality; None for all of them.

        Returns:
            Tensor: Scalar, the mean over the modalities in `embeddings`.

        Raises:
            UserError: The modalities or the shapes do not fit.
        """
        self._check_names(embeddings, predictions)
        own, samples = {}, {}
        for name, x in embeddings.items():
            chosen = (rows or {}).get(name)
            own[name] = labels if chosen is None else labels[chosen]
            samples[name] = self.losses[name].sample(x, own[name], predictions[name])
        losses = [
            self.losses[name].compare(anchors, self._others(name, samples))
            for name, anchors in samples.items()
        ]
        for name, x in embeddings.items():
            self.losses[name].remember(x, own[name])
        return torch.stack(losses).mean()

    def _others(self, name: str, samples: Mapping[str, Samples]) -> list[Samples]:
        """Collect what the anchors of a modality are compared with."""
        found = []
        for other, loss in self.losses.items():
            if self.scope == 'all' or (other == name) == (self.scope == 'intra'):
                found += [samples[other]] if other in samples else []
                found += loss.remembered()
        return found

    def _check_names(
        self, embeddings: Mapping[str, Tensor], predictions: Mapping[str, Tensor]
    ) -> None:
        """Raise if modalities are unknown, or none or not the same are given."""
        unknown = embeddings.keys() - self.losses.keys()
        missing = embeddings.keys() - predictions.keys()
        if unknown or missing or not embeddings:
            raise UserError(
                f'embeddings of {[*embeddings]}, predictions of {[*predictions]}: each '
                f'embedding needs predictions, and a name of {[*self.losses]}'
            )
