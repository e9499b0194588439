"""Add the complementarity loss to the losses of any model of any host.

It keeps the trainable deltas from repeating what the frozen factors already compute
(TensorFact, arXiv 2309.16592), see `Complementarity`. In evaluation, and with weight 0,
the model computes exactly what it did before.

Limits:

- Activation checkpointing (`with_cp=True`) hides the features: all forms except
  `'weight'` raise an error.
- Under `torch.compile`, compiling `model.forward` causes no graph break. Compiling the
  whole model or `train_step` may break the graph around the hooks; the values are the
  same.
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
    """Pair of forward hooks that adds the complementarity loss to a model.

    Layers are observed during each forward pass with `mode='loss'` in training. Each
    observation is reduced to a scalar immediately, and the scalars are returned with
    the losses of that pass. No tensor is held between passes, so the model can be
    copied and pickled.

    Args:
        form: Form of the loss.
        weight: See `attach_complementarity_`.
        layers: See `attach_complementarity_`.

    Raises:
        TypeError: `layers` is a string.
        ValueError: Invalid weight.
    """

    def __init__(
        self, form: Complementarity, weight: float, layers: Sequence[str] | None
    ) -> None:
        if not 0 <= weight < float('inf'):
            raise ValueError(f'weight must be finite and not negative, not {weight!r}')
        self.form, self.weight = form, weight
        self.layers = NameFilter(layers, exclude=())
        self._handles: list[RemovableHandle] = []
        # Observed layers, with one value per call.
        self._seen: dict[TensorFactConv, list[Tensor]] = {}

    def attach(self, model: nn.Module) -> None:
        """Register both hooks on `model`; nothing else is changed.

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
        """Raise if there is nothing to observe or a loss is attached already."""
        if _attached(model) is not None:
            raise ValueError(
                'a complementarity loss is attached already, detach_complementarity_ '
                'it first'
            )
        known = [n for _, names in names_of(model, TensorFactConv) for n in names]
        for pattern in self.layers.include or ():
            if not any(re.search(pattern, name) for name in known):
                raise ValueError(f'layers {pattern!r} matches no factorized layer')
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
        """Start observing if this pass computes losses for training."""
        if not _computes_losses(model, args, kwargs):
            return
        self._stop()  # clean up after an interrupted pass
        self._seen = {layer: [] for layer in self.learning_layers(model)}
        if self.form.type != 'weight':
            for layer in self._seen:
                layer.observer = self._observe

    def _observe(self, layer: TensorFactConv, x: Tensor, u: Tensor, v: Tensor) -> None:
        """Reduce the branch outputs of one call of a layer to a scalar."""
        if not torch.is_grad_enabled():
            raise RuntimeError(
                f'the complementarity loss {self.form.type!r} cannot see through '
                'activation checkpointing or no_grad: switch them off for layers with '
                'deltas (with_cp=False), choose others by layers=[...], or use '
                "type='weight', which reads no features"
            )
        if x.requires_grad:  # the loss of a layer must only reach its own deltas
            v = layer.by_factors(x.detach(), layer.factors()[1:])
        self._seen[layer].append(self.form.of_features(u, v))

    def _after(
        self, model: nn.Module, args: tuple, kwargs: dict[str, Any], losses: Any
    ) -> dict[str, Any] | None:
        """Stop observing, even after an error, and add `loss_comp` to the losses."""
        if not _computes_losses(model, args, kwargs):
            return None
        seen = self._stop()
        if losses is None:  # the forward pass raised
            return None
        if self.form.type == 'weight':
            pairs = [layer.factors() for layer in seen]
            values = [self.form.of_factors(base, deltas) for base, *deltas in pairs]
        else:
            # A layer that is called several times counts once.
            values = [torch.stack(calls).mean() for calls in seen.values() if calls]
        if not values:
            return None
        if not isinstance(losses, Mapping):
            raise TypeError(
                f'{type(model).__name__} returned {type(losses).__name__} in mode '
                "'loss', but adding loss_comp needs a dict of losses"
            )
        factor = self.weight * _images_summed(model, args, kwargs)
        return {**losses, 'loss_comp': torch.stack(values).mean() * factor}

    def _stop(self) -> dict[TensorFactConv, list[Tensor]]:
        """Stop observing; return the observed layers and their values."""
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

    `loss_comp` is the mean over all layers with trainable deltas, times `weight`. If a
    module declares `losses_sum_over_batch`, as heads do whose losses are sums over all
    images, it is also multiplied by the batch size over all ranks.

    - The gradient of a layer's loss reaches only the deltas of that layer.
    - The model needs the mmengine interface: `model(inputs, data_samples, mode='loss')`
      returns a dict.
    - Code, state dict and parameters of the model stay the same. Copies keep the loss.
    - Layers in evaluation mode (frozen stages) do not contribute.

    Call it after `augment_`, before or after the model is wrapped. For the limits see
    the docstring of this module.

    Args:
        model: Model with deltas, see `augment_`.
        weight: omega_c; with 0 nothing is registered.
        type: `'cos2'`, `'paper'` or `'weight'`, see `Complementarity`.
        layers: Regular expressions; only layers whose names match one are regularized.
            Default: all layers.
        **form: Other fields of `Complementarity`: `p`, `max_ratio`.

    Returns:
        The attached loss; None for weight 0.

    Raises:
        TypeError: Unknown option, or `layers` is a string.
        ValueError: Invalid value, an expression matches no layer, no layer has an
            active trainable delta, or a loss is attached already.
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
        model: Model with a complementarity loss, or a copy of it; may be wrapped.

    Raises:
        ValueError: No loss is attached.
    """
    model = unwrap(model)
    loss = _attached(model)
    if loss is None:
        raise ValueError('no complementarity loss is attached to the model')
    loss.detach()
    del record_of(model).extras[_KEY]


def _attached(model: nn.Module) -> ComplementarityLoss | None:
    """The attached loss, from the record of the model."""
    return record_of(model).extras.get(_KEY)


def _computes_losses(model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Check whether a call of the model computes losses for training."""
    mode = kwargs.get('mode', args[2] if len(args) > 2 else None)
    return mode == 'loss' and model.training and torch.is_grad_enabled()


def _images_summed(model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> int:
    """Number of images, over all ranks, that the losses sum over; 1 for means."""
    if not any(getattr(m, 'losses_sum_over_batch', False) for m in model.modules()):
        return 1
    inputs = kwargs['inputs'] if 'inputs' in kwargs else args[0]
    if isinstance(inputs, Mapping):  # one batch per modality
        inputs = next(iter(inputs.values()))
    return len(inputs) * get_world_size()
