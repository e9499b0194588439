"""The complementarity loss beside the losses of any model of any host.

It keeps the trainable deltas of a model from repeating what the frozen factors beside
them compute already (TensorFact, arXiv 2309.16592), see `Complementarity`. In
evaluation, and with weight 0, a model computes exactly what it did before.

Activation checkpointing (`with_cp=True`) hides features: all forms but `'weight'` raise
an error with it. Under `torch.compile`, `model.forward` needs no graph break for the
loss; when the whole model or `train_step` is compiled, the graph may break around the
hooks, with the same values.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmir.adapters import NameFilter, names_of, record_of, unwrap

from .complementarity import Complementarity
from .layer import TensorFactConv

_KEY = 'complementarity'


class ComplementarityLoss:
    """What `attach_complementarity_` hangs on a model: two hooks and a short memory.

    Layers are observed from the begin to the end of one forward pass with
    `mode='loss'` in training. Each observation becomes a scalar at once, and the
    scalars leave with the losses of that pass, so that between passes nothing here
    holds a tensor, and the model can be copied and pickled.

    Args:
        form: How complementarity is measured.
        weight: See `attach_complementarity_`, as the others.
        layers: See there.

    Raises:
        TypeError: If `layers` is a string.
        ValueError: For a wrong weight.
    """

    def __init__(
        self, form: Complementarity, weight: float, layers: Sequence[str] | None
    ) -> None:
        if not 0 <= weight < float('inf'):
            raise ValueError(f'weight must be finite and not negative, not {weight!r}')
        self.form, self.weight = form, weight
        self.layers = NameFilter(layers, exclude=())
        self._handles: list[RemovableHandle] = []
        # The layers that are observed, and what each call of them gave.
        self._seen: dict[TensorFactConv, list[Tensor]] = {}

    def attach(self, model: nn.Module) -> None:
        """Register both hooks on `model`; nothing else of it changes.

        Raises:
            ValueError: See `attach_complementarity_`.
        """
        self._check(model)
        before = model.register_forward_pre_hook(self._before, with_kwargs=True)
        after = model.register_forward_hook(
            self._after, with_kwargs=True, always_call=True
        )
        self._handles = [before, after]

    def _check(self, model: nn.Module) -> None:
        """Raise an error if there is nothing to observe, or somebody does already."""
        if _attached(model) is not None:
            raise ValueError(
                'a complementarity loss is attached already, detach_complementarity_ '
                'it first'
            )
        known = [n for _, names in names_of(model, TensorFactConv) for n in names]
        for pattern in self.layers.include or ():
            if not any(re.search(pattern, name) for name in known):
                raise ValueError(f'layers {pattern!r} is found in no factorized layer')
        if not self.learning_layers(model):
            among = ' among the selected ones' if self.layers.include else ''
            raise ValueError(
                'the complementarity loss needs a layer with a delta that is switched '
                f'on and trains, and the model has none{among}: call augment_ first, '
                'or give delta=dict(...) to TensorFact'
            )

    def detach(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def learning_layers(self, model: nn.Module) -> list[TensorFactConv]:
        """Selected layers with a delta that is switched on and trains."""
        return [
            layer
            for layer, names in names_of(model, TensorFactConv)
            if self.layers.reason(names) is None
            and any(
                delta.enabled and any(p.requires_grad for p in delta.parameters())
                for delta in layer.deltas.values()
            )
        ]

    def _before(self, model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        """Begin to observe, if this pass is one that computes losses to learn from."""
        if not _computes_losses(model, args, kwargs):
            return
        self._stop()  # what an interrupted pass may have left
        self._seen = {layer: [] for layer in self.learning_layers(model)}
        if self.form.type != 'weight':
            for layer in self._seen:
                layer.observer = self._observe

    def _observe(self, layer: TensorFactConv, x: Tensor, u: Tensor, v: Tensor) -> None:
        """Turn the branches of one call of one layer into a scalar."""
        if not torch.is_grad_enabled():
            raise RuntimeError(
                f'the complementarity loss {self.form.type!r} cannot see through '
                'activation checkpointing or no_grad: switch them off for layers with '
                'deltas (with_cp=False), choose others by layers=[...], or use '
                "type='weight', which reads no features"
            )
        if x.requires_grad:  # only this layer's deltas are to learn from its loss
            v = layer.by_factors(x.detach(), layer.factors()[1:])
        self._seen[layer].append(self.form.of_features(u, v))

    def _after(
        self, model: nn.Module, args: tuple, kwargs: dict[str, Any], losses: Any
    ) -> dict[str, Any] | None:
        """Stop observing, whatever happened, and add `loss_comp` to the losses."""
        if not _computes_losses(model, args, kwargs):
            return None
        seen = self._stop()
        if losses is None:  # the pass raised an error
            return None
        if self.form.type == 'weight':
            pairs = [layer.factors() for layer in seen]
            values = [self.form.of_factors(base, deltas) for base, *deltas in pairs]
        else:
            # A layer that is used several times counts once.
            values = [torch.stack(calls).mean() for calls in seen.values() if calls]
        if not values:
            return None
        if not isinstance(losses, Mapping):
            raise TypeError(
                f'{type(model).__name__} returned {type(losses).__name__} in mode '
                "'loss', a dict of losses is needed to add loss_comp"
            )
        factor = self.weight * _images_summed(model, args, kwargs)
        return {**losses, 'loss_comp': torch.stack(values).mean() * factor}

    def _stop(self) -> dict[TensorFactConv, list[Tensor]]:
        """Stop observing; return the layers that were, and what they gave."""
        seen, self._seen = self._seen, {}
        for layer in seen:
            layer.observer = None
        return seen

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_seen': {}}


def attach_complementarity_(
    model: nn.Module,
    weight: float = 0.1,
    type: str = 'cos2',
    *,
    layers: Sequence[str] | None = None,
    **form: Any,
) -> ComplementarityLoss | None:
    """Add `loss_comp` to the losses a model returns in training, in place.

    It is the mean over all layers with deltas that train, times `weight`, and times
    the size of the batch over all ranks where a module of the model declares
    `losses_sum_over_batch`, as heads do whose losses are sums over all images. The
    gradient reaches the deltas of each layer only, none of the layers before. The model
    needs the interface of mmengine, `model(inputs, data_samples, mode='loss')`
    returning a dict; its code, state dict and parameters stay as they are, and copies
    carry the loss along. Call it after `augment_`, before or after the model is
    wrapped. Layers in evaluation (frozen stages) do not contribute. Limits: see the
    top of this module.

    Args:
        model: Model with deltas, see `augment_`.
        weight: omega_c; 0 registers nothing at all.
        type: `'cos2'`, `'paper'` or `'weight'`, see `Complementarity`.
        layers: Regular expressions searched in the names of the layers to regularize;
            None for all.
        **form: Further fields of `Complementarity`: `p`, `max_ratio`.

    Returns:
        What was attached; None for weight 0.

    Raises:
        TypeError: For an unknown option, or if `layers` is a string.
        ValueError: For a wrong value, if an expression finds no layer, no layer has
            an active delta that trains, or a loss is attached already.
    """
    loss = ComplementarityLoss(Complementarity(type, **form), weight, layers)
    if weight == 0:
        return None
    model = unwrap(model)
    loss.attach(model)
    record_of(model).extras[_KEY] = loss
    return loss


def detach_complementarity_(model: nn.Module) -> None:
    """Remove what `attach_complementarity_` added, in place.

    Args:
        model: Model with a complementarity loss; may be wrapped, or a copy of the one
            it was attached to.

    Raises:
        ValueError: If there is none.
    """
    model = unwrap(model)
    loss = _attached(model)
    if loss is None:
        raise ValueError('no complementarity loss is attached to the model')
    loss.detach()
    del record_of(model).extras[_KEY]


def _attached(model: nn.Module) -> ComplementarityLoss | None:
    """The loss a model carries in its record."""
    return record_of(model).extras.get(_KEY)


def _computes_losses(model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether a call of the model computes losses to learn from."""
    mode = kwargs.get('mode', args[2] if len(args) > 2 else None)
    return mode == 'loss' and model.training and torch.is_grad_enabled()


def _images_summed(model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> int:
    """Images, over all ranks, that the losses of a model are sums over; 1 for means."""
    if not any(getattr(m, 'losses_sum_over_batch', False) for m in model.modules()):
        return 1
    inputs = kwargs['inputs'] if 'inputs' in kwargs else args[0]
    if isinstance(inputs, Mapping):  # one batch for each modality
        inputs = next(iter(inputs.values()))
    return len(inputs) * get_world_size()
