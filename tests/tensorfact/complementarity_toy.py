"""mmengine model for tests of the complementarity loss."""

import gc
from functools import partial

import torch
from mmengine.model import (
    BaseModel,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmir.adapters import freeze_, record_of
from mmir.tensorfact import TensorFactConv, augment_, factorize_
from mmir.tensorfact.complementarity import Complementarity, complementarity_loss
from mmir.tensorfact.complementarity_hook import (
    attach_complementarity_,
)

HOOKS = (
    '_forward_hooks',
    '_forward_pre_hooks',
    '_forward_hooks_with_kwargs',
    '_forward_pre_hooks_with_kwargs',
    '_forward_hooks_always_called',
)
NEW = 'loss_comp'


class Toy(BaseModel):
    """Two convolutions, with losses in the style of the hosts."""

    def __init__(self, reentrant: bool | None = None) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 2, 1)
        self.reentrant, self.fault = reentrant, False

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if isinstance(inputs, list):
            inputs = torch.stack(inputs)
        x = self.bn(self.first(inputs)).relu()
        if self.reentrant is None:
            x = self.second(x)
        else:
            x = checkpoint(self.second, x, use_reentrant=self.reentrant)
        if self.fault:
            raise ArithmeticError('of the model')
        y = self.head(x.relu())
        return {'loss_task': y.square().mean()} if mode == 'loss' else y


class SumToy(Toy):
    """A model whose losses are sums over the batch."""

    losses_sum_over_batch = True


class Twice(Toy):
    def forward(self, inputs, data_samples=None, mode='tensor'):
        x = self.second(self.second(self.first(inputs)))
        return {'loss_task': self.head(x).mean()}


class Nested(Toy):
    """A model that calls itself while it computes its losses."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'loss':
            with torch.no_grad():
                self.eval()(inputs)
            self.train()
        return super().forward(inputs, data_samples, mode)


def toy(kind=Toy, **kwargs) -> Toy:
    torch.manual_seed(0)
    model = kind(**kwargs)
    factorize_(model, 3)
    augment_(model, 'ir', 1)
    freeze_(model, 'ir')
    for layer in (model.first, model.second):
        nn.init.normal_(layer.deltas.ir.A, std=0.3)
    return model.train()


def toy_with_loss(kind=Toy, **options) -> Toy:
    model = toy(kind)
    attach_complementarity_(model, **options)
    return model


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    return model(x, mode='loss')[NEW]


def inputs_of(model: Toy, x: Tensor) -> dict[str, Tensor]:
    """Return the inputs of both convolutions."""
    seen = {}

    def keep(name: str, layer: nn.Module, args: tuple) -> None:
        seen[name] = args[0].detach()

    hooks = [
        getattr(model, name).register_forward_pre_hook(partial(keep, name))
        for name in ('first', 'second')
    ]
    model(x, mode='tensor')
    for hook in hooks:
        hook.remove()
    return seen


def term(layer: TensorFactConv, x: Tensor, form: str, **options) -> Tensor:
    """Return the loss of one layer, written out."""
    delta = layer.deltas.ir
    if form == 'weight':
        pairs = [(delta.A, delta.B)]
        return Complementarity(form).of_factors((layer.A, layer.B), pairs)
    kernels = [torch.einsum('tsq,qji->tsji', m.A, m.B) for m in (layer, delta)]
    u, v = (layer._conv_forward(x, kernel, None) for kernel in kernels)
    return complementarity_loss(u, v, form, **options)


def delta_grads(model: nn.Module) -> dict[str, Tensor | None]:
    return {n: p.grad for n, p in model.named_parameters() if '.deltas.' in n}


def has_hooks(model: nn.Module) -> bool:
    attached = 'complementarity' in record_of(model).extras
    assert all(bool(getattr(model, name)) == attached for name in HOOKS)
    return attached


def leftovers(model: nn.Module) -> list:
    """Tensors with a history and observers that any part of the model holds."""
    found, todo, known = [], [model], set()
    while todo:
        thing = todo.pop()
        if id(thing) in known:
            continue
        known.add(id(thing))
        if isinstance(thing, Tensor):
            found += [thing] * (thing.grad_fn is not None)
        elif isinstance(thing, nn.Module) or type(thing).__module__.startswith('mmir'):
            found += [thing] * (getattr(thing, 'observer', None) is not None)
            todo += vars(thing).values()
        elif isinstance(thing, (dict, list, tuple, set)):
            todo += gc.get_referents(thing)
    return found
