"""Late fusion: one whole model per modality. The host's part combines the results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.model import ModuleDict
from mmengine.registry import MODELS
from torch import Tensor

from mmir.structures import ABSENT
from mmir.utils.checkpoint import load_checkpoint, weights_of

from .single_modality import adapt_stem_, layout_of


class LateFusion:
    """Mixin for a host's model that holds one such model (a member) per modality.

    The paired data preprocessor belongs to the top model. Data preprocessors in the
    configs of the members are ignored, since they would process the batch twice.

    The training loss is the sum of the losses of all members, under names such as
    `rgb.loss_cls`. An image that lacks a modality does not train that member. If a
    whole batch lacks it, the loss of the member is multiplied by zero, which keeps the
    graph complete for distributed training.
    """

    members: ModuleDict

    def _set_members(
        self,
        members: Mapping[str, dict],
        checkpoints: Mapping[str, str | Path | None] | None,
    ) -> None:
        """Build the members and load their checkpoints.

        Args:
            members: Modality -> config of its model.
            checkpoints: Modality -> checkpoint of that model.

        Raises:
            ValueError: A name is not a modality of the data preprocessor, or there are
                no members.
            RuntimeError: A checkpoint cannot be read safely or does not fit.
        """
        layout = layout_of(self)
        self._checkpoints = {k: v for k, v in (checkpoints or {}).items() if v}
        strange = set(members) - layout.keys()
        if strange or not members:
            raise ValueError(
                f'{type(self).__name__}: models of {sorted(strange)} for the '
                f'modalities {[*layout]}'
            )
        if strange := set(self._checkpoints) - set(members):
            raise ValueError(
                f'{type(self).__name__}: checkpoints of {sorted(strange)}, but models '
                f'of {[*members]}'
            )
        built = {}
        for name in (name for name in layout if name in members):
            cfg = members[name]
            alone = {k: v for k, v in cfg.items() if k != 'data_preprocessor'}
            built[name] = MODELS.build(alone)
            adapt_stem_(built[name], layout[name])
        self.members = ModuleDict(built)
        self._load_members()

    def _load_members(self) -> None:
        for name, path in self._checkpoints.items():
            weights = weights_of(load_checkpoint(path), path)
            try:
                self.members[name].load_state_dict(weights)
            except RuntimeError as error:
                raise RuntimeError(
                    f'{path} does not fit the model of {name!r}: {error}'
                ) from error

    def init_weights(self) -> None:
        """Initialize as the host does, then reload the checkpoints of the members."""
        super().init_weights()
        self._load_members()

    def _parts(self, inputs: Tensor) -> dict[str, Tensor]:
        """Input (N, C, H, W) of each member."""
        layout = layout_of(self)
        parts = zip(layout, inputs.split(list(layout.values()), 1), strict=True)
        return {name: part for name, part in parts if name in self.members}

    def extract_feat(self, inputs: Tensor) -> dict[str, Any]:
        """Extract the features of each member, by modality, from (N, C, H, W)."""
        parts = self._parts(inputs)
        return {k: self.members[k].extract_feat(part) for k, part in parts.items()}

    def loss(self, inputs: Tensor, data_samples: Sequence[Any]) -> dict[str, Any]:
        """Compute the losses of all members.

        Args:
            inputs (Tensor): Shape (N, C, H, W), all modalities.
            data_samples (Sequence): Data samples of the host with labels and `absent`.

        Returns:
            dict: Losses of all members, prefixed with the modality and a dot.
        """
        losses = {}
        for name, part in self._parts(inputs).items():
            rows = present(data_samples, name)
            share = 1.0 if rows else 0.0
            part, samples = chosen(part, data_samples, rows or range(len(part)))
            for key, value in self.members[name].loss(part, samples).items():
                if isinstance(value, Tensor):
                    losses[f'{name}.{key}'] = value * share
                else:
                    losses[f'{name}.{key}'] = [each * share for each in value]
        return losses

    def _forward(
        self, inputs: Tensor, data_samples: Sequence[Any] | None = None
    ) -> dict[str, Any]:
        """Raw outputs of each member, by modality."""
        parts = self._parts(inputs)
        return {
            k: self.members[k]._forward(part, data_samples) for k, part in parts.items()
        }


def present(data_samples: Sequence[Any], name: str) -> list[int]:
    """Indices of the samples of a batch that have a modality."""
    return [
        k for k, s in enumerate(data_samples) if name not in s.metainfo.get(ABSENT, ())
    ]


def chosen(
    inputs: Tensor, data_samples: Sequence[Any], rows: Sequence[int]
) -> tuple[Tensor, list[Any]]:
    """Select images of a batch, and copies of their samples, which members may modify.

    Args:
        inputs: Shape (N, C, H, W).
        data_samples: N samples.
        rows: Indices to select, ascending.

    Returns:
        Images (len(rows), C, H, W) and data samples.
    """
    inputs = inputs if len(rows) == len(inputs) else inputs[list(rows)]
    return inputs, [data_samples[k].clone() for k in rows]
