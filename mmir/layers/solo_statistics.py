"""`SoloStatistics`: statistics of norms for passes with one modality alone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from mmengine.model import ModuleDict
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Statistics = tuple[Tensor, Tensor]
"""Mean (C,) and unbiased variance (C,) of the input of a norm."""

_CONTAINERS = {'copies', 'decoders'}
"""Attributes that hold what each modality has of its own, by its name."""


def modality_norms(model: nn.Module, modality: str) -> dict[str, _BatchNorm]:
    """Find the batch norms with running statistics that only one modality uses.

    Those are its copies in :class:`mmir.layers.ModalityNorm`, and the norms of its
    decoder in `mmir.seg.CSKNet`.

    Args:
        model: A model with shared convolutions.
        modality: Name of the modality.

    Returns:
        Name of a norm -> the norm.
    """
    found = {}
    for name, module in model.named_modules():
        parts = name.split('.')
        own = any(
            part in _CONTAINERS and follower == modality
            for part, follower in pairwise(parts)
        )
        if own and isinstance(module, _BatchNorm) and module.running_mean is not None:
            found[name] = module
    return found


class SoloStatistics(nn.Module):
    """Running statistics of the norms of a modality in passes with it alone.

    With exchange, the running statistics of a joint network are those of mixed
    features, but a pass with one modality has none. This module holds a second set for
    such passes, recorded by :func:`mmir.engine.recalibrate_norms`; the norms
    themselves, and so joint passes, are not changed. It is empty at first.

    The statistics are buffers, saved in the checkpoint. A checkpoint replaces them:
    those that it holds are created on loading, and without any, none are left, since
    others would belong to former weights.

    A model keeps it in its attribute `solo_statistics`. To export the network of one
    modality, read the weights inside of `model.solo_statistics.alone(model, 'ir')`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sets = ModuleDict()
        self.register_buffer('_place', torch.empty(0), persistent=False)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities with statistics."""
        return tuple(self.sets)

    def record(self, modality: str, statistics: Mapping[str, Statistics]) -> None:
        """Store the statistics of a modality, in place of former ones.

        Args:
            modality: Name of the modality.
            statistics: Name of a norm in the model -> mean and variance, copied.
        """
        own = self.sets[modality] = nn.Module()
        for name, values in statistics.items():
            for kind, value in zip(('mean', 'var'), values, strict=True):
                own.register_buffer(_key(name, kind), value.detach().clone())

    @contextmanager
    def alone(self, model: nn.Module, modality: str) -> Iterator[None]:
        """Let the norms of a modality use its statistics, within a `with` block.

        Without any for this modality, nothing changes. Norms in training mode keep
        their running statistics, which they would write to.

        Args:
            model: The model that the names of the norms belong to.
            modality: The only modality of the pass.
        """
        former: list[tuple[_BatchNorm, Statistics]] = []
        own = dict(self.sets[modality].named_buffers()) if self.holds(modality) else {}
        try:
            for name in dict.fromkeys(_name(key) for key in own):
                norm = model.get_submodule(name)
                if not norm.training:
                    former.append((norm, (norm.running_mean, norm.running_var)))
                    norm.running_mean = own[_key(name, 'mean')]
                    norm.running_var = own[_key(name, 'var')]
            yield
        finally:
            for norm, (mean, var) in former:
                norm.running_mean, norm.running_var = mean, var

    def holds(self, modality: str) -> bool:
        """Whether there are statistics of a modality."""
        return modality in self.sets

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Create the buffers that the checkpoint holds, and no others."""
        self.sets = ModuleDict()
        start = f'{prefix}sets.'
        for key, value in state_dict.items():
            if key.startswith(start):
                modality, _, name = key.removeprefix(start).partition('.')
                if modality not in self.sets:
                    self.sets[modality] = nn.Module()
                empty = torch.empty_like(value, device=self._place.device)
                self.sets[modality].register_buffer(name, empty)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _key(name: str, kind: str) -> str:
    """Name of a buffer: they must not contain dots."""
    return f'{name.replace(".", "/")}/{kind}'


def _name(key: str) -> str:
    """Name of the norm of a buffer."""
    return key.rpartition('/')[0].replace('/', '.')
