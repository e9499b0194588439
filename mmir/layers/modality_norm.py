"""`ModalityNorm`: a norm per modality in a network with shared convolutions.

[1] Y. Wang, W. Huang, F. Sun, T. Xu, Y. Rong and J. Huang, "Deep multimodal fusion by
channel exchanging", NeurIPS 2020.
[2] A. Sikdar, J. Teotia and S. Sundaram, "Contrastive learning-based spectral
knowledge distillation for multi-modality and missing modality scenarios in semantic
segmentation", arXiv 2312.02240, 2023.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.model import ModuleDict
from torch import Tensor, nn

from .exchange import ChannelExchange
from .presence import ModalityRoute, Presence


class PerModality(nn.Module):
    """One copy of a layer per modality.

    A checkpoint of the plain network loads: each copy gets its weights.

    Args:
        layer: Layer to copy, such as a convolution.
        route: Which images of the stacked batch are of which modality. All layers of a
            network share it.
    """

    def __init__(self, layer: nn.Module, route: ModalityRoute) -> None:
        super().__init__()
        copies = [layer, *(copy.deepcopy(layer) for _ in route.names[1:])]
        self.copies = ModuleDict(zip(route.names, copies, strict=True))
        self.route = route

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Apply to each image of a stack (N, ...) the layer of its modality."""
        outs = list(self._apart(x, *args, **kwargs).values())
        return outs[0] if len(outs) == 1 else torch.cat(outs)

    def _apart(self, x: Tensor, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Apply the layers: modality -> output of its images."""
        parts = self.route.presence.split(x)
        return {n: self.copies[n](p, *args, **kwargs) for n, p in parts.items()}

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Give each copy the weights of a plain layer."""
        own = f'{prefix}copies.'
        for key in [k for k in state_dict if k.startswith(prefix)]:
            if not key.startswith(own):
                value, rest = state_dict.pop(key), key.removeprefix(prefix)
                for name in self.copies:
                    state_dict.setdefault(f'{own}{name}.{rest}', value)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class ModalityNorm(PerModality):
    """One norm per modality, with separate statistics, scale and shift [1, 2].

    In training, the statistics of a modality come from its images only.

    Args:
        norm: Norm to copy.
        route: See :class:`PerModality`.
        exchange: Exchange of channels after the norms. It acts on samples with several
            modalities.

    Raises:
        ValueError: `exchange` with a norm that has no scale.
    """

    def __init__(
        self,
        norm: nn.Module,
        route: ModalityRoute,
        exchange: ChannelExchange | None = None,
    ) -> None:
        super().__init__(norm, route)
        if exchange is not None and getattr(norm, 'weight', None) is None:
            raise ValueError(
                f'channels are exchanged by the scale of a norm, but '
                f'{type(norm).__name__} has none (affine=False?)'
            )
        self.exchange = exchange

    def _apart(self, x: Tensor, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Normalize maps (N, C, H, W), or (N, H, W, C) if the norm can; exchange."""
        outs = super()._apart(x, *args, **kwargs)
        if self.exchange is None or len(outs) == 1:
            return outs
        masks = dict(zip(self.route.names, self.masks(), strict=True))
        if kwargs.get('data_format') != 'channel_last':
            masks = {name: mask.view(-1, 1, 1) for name, mask in masks.items()}
        return self.route.presence.together(
            outs, lambda maps: self.exchange(maps, masks)
        )

    def masks(self) -> list[Tensor]:
        """Channels that each modality takes from the others.

        Returns:
            Per modality, in channel order, a mask (C,).
        """
        assert self.exchange is not None
        return self.exchange.masks([norm.weight for norm in self.copies.values()])


def idle_parameters(model: nn.Module, presence: Presence) -> Iterator[nn.Parameter]:
    """Yield the trainable parameters of layers of modalities that a batch lacks.

    They get no gradient from it, and distributed training waits for one of every
    parameter: add their sum times zero to what is derived.

    Args:
        model: A model with shared convolutions.
        presence: Which samples of the batch have which modality.
    """
    missing = [name for name in presence.names if name not in presence.rows]
    for layer in model.modules() if missing else ():
        if isinstance(layer, PerModality):
            for name in missing:
                parameters = layer.copies[name].parameters()
                yield from (p for p in parameters if p.requires_grad)


def with_idle(
    levels: tuple[Tensor, ...], model: nn.Module, presence: Presence
) -> tuple[Tensor, ...]:
    """Give parameters that a batch does not use a gradient of zero, in training.

    Args:
        levels: Feature maps of the model. Each carries the zero: what reads them may
            skip some.
        model: A model with shared convolutions.
        presence: Which samples of the batch have which modality.

    Returns:
        Maps of the same values.
    """
    if not (model.training and torch.is_grad_enabled()):
        return levels
    idle = [p.sum() for p in idle_parameters(model, presence)]
    if not idle:
        return levels
    zero = 0 * sum(idle)
    return tuple(level + zero.to(level.dtype) for level in levels)
