"""Scale and shift of features (SSF, arXiv 2210.08823): a method from outside of mmir.

A frozen layer is followed by y -> gamma * y + beta, two numbers per channel. This file
is the tutorial of `README.md`: it imports nothing private of mmir, and the comments say
what the contract asks for.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmir.adapters import (
    PLAIN_CONVS,
    PLAIN_LINEARS,
    AdapterLayer,
    Method,
    NameFilter,
    insert_adapters_,
)

Pairs = Sequence[tuple[Tensor, Tensor]]


class ScaleShift(nn.Module):
    """The adapter: gamma and beta, one of each per output channel.

    Args:
        weight: Weight of the layer; its first axis is that of the channels.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        # Device and dtype are those of the layer. 1 and 0: no effect before training.
        self.gamma = nn.Parameter(weight.new_ones(len(weight)))
        self.beta = nn.Parameter(weight.new_zeros(len(weight)))
        self.enabled = True  # asked for by the contract; not in the state dict


class ScaleShiftLayer(AdapterLayer):
    """What the two layers below share.

    A layer is made of a plain one by `from_base` of the contract: its weight, bias and
    geometry become those of the layer and keep their keys.
    """

    # Declared here, so that reports, files and the optimizer need to know nothing.
    adapter_parameters = ('gamma', 'beta')
    no_decay = ('gamma', 'beta')  # decay pulls to 0, which is not where gamma begins
    channels: tuple[int, ...] = (-1,)  # shape in which gamma meets the output

    def add_adapter(self, name: str) -> None:
        """Add an adapter without effect. Options of a method would be arguments."""
        self.check_name(name)
        self.adapters[name] = ScaleShift(self.weight).train(self.training)

    def adapter_options(self, name: str) -> dict[str, Any]:
        """What `add_adapter` takes beside the name: nothing."""
        return {}

    def apply_adapters(self, y: Tensor) -> Tensor:
        """Scale and shift `y` by each adapter that is on; none leaves it untouched."""
        for adapter in self.active():
            # under autocast y is bfloat16, and stays it
            gamma = adapter.gamma.view(self.channels).to(y.dtype)
            y = y * gamma + adapter.beta.view(self.channels).to(y.dtype)
        return y

    def merge(self) -> nn.Module:
        """Fold the adapters that are on into weight and bias of a plain layer."""
        pairs = [(adapter.gamma, adapter.beta) for adapter in self.active()]
        weight, bias = folded(self.weight.detach(), self.bias, pairs)
        if not all(t.isfinite().all() for t in (weight, bias) if t is not None):
            raise ValueError('NaN or infinite weights, refusing to merge')
        module = self.release()
        learns = any(p.requires_grad for p in self.parameters())
        module.weight = nn.Parameter(weight.clone(), learns)
        if bias is not None:
            module.bias = nn.Parameter(bias.detach().clone(), learns)
        return module

    @classmethod
    def merge_state(
        cls,
        state: Mapping[str, Tensor],
        told: Mapping[str, Mapping[str, Any]],
        **options: Any,
    ) -> dict[str, Tensor]:
        """The same for a state dict, where there are keys and no modules."""
        merged, pairs = dict(state), {}
        for key in state:  # in the order in which `forward` applies them
            layer, found, rest = key.rpartition('adapters.')
            beta = f'{key.removesuffix("gamma")}beta'
            # Other classes keep adapters there, too: take only what is surely ours.
            ours = found and rest.endswith('.gamma') and beta in state
            if ours and f'{layer}weight' in state:
                pairs.setdefault(layer, []).append((merged.pop(key), merged.pop(beta)))
        for layer, own in pairs.items():
            weight, bias = f'{layer}weight', f'{layer}bias'
            tensors = folded(state[weight], state.get(bias), own)
            merged[weight], merged[bias] = (t.detach() for t in tensors)
        return merged


class ScaleShiftConv2d(ScaleShiftLayer):
    """A 2D convolution, then gamma * y + beta per channel.

    No subclass of `nn.Conv2d`: hosts fold batch norms into those, and would scale the
    weight without beta.
    """

    stands_on = PLAIN_CONVS  # by exact type: subclasses compute something else
    channels = (-1, 1, 1)
    _conv_forward = nn.Conv2d._conv_forward  # knows padding modes

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` (N, in_channels, H, W), then scale and shift."""
        return self.apply_adapters(self._conv_forward(x, self.weight, self.bias))


class ScaleShiftLinear(ScaleShiftLayer):
    """A linear layer, then gamma * y + beta per feature."""

    stands_on = PLAIN_LINEARS

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` (..., in_features), then scale and shift."""
        return self.apply_adapters(F.linear(x, self.weight, self.bias))


def folded(
    weight: Tensor, bias: Tensor | None, pairs: Pairs
) -> tuple[Tensor, Tensor | None]:
    """Weight and bias with pairs of gamma and beta in them.

    gamma * (W x + b) + beta = (gamma W) x + (gamma b + beta), so a layer without a bias
    gets one. In float32 at least, back in the dtype of the weight.
    """
    if not pairs:
        return weight, bias
    dtype, wide = weight.dtype, torch.promote_types(weight.dtype, torch.float32)
    weight = weight.to(wide)
    bias = weight.new_zeros(len(weight)) if bias is None else bias.to(wide)
    for gamma, beta in ((g.to(wide), b.to(wide)) for g, b in pairs):
        weight = weight * gamma.view(-1, *[1] * (weight.ndim - 1))
        bias = bias * gamma + beta
    return weight.to(dtype), bias.to(dtype)


@MODELS.register_module()  # mmengine's: `adapt=dict(type='ScaleAndShift')` finds it
class ScaleAndShift(Method):
    """Scale and shift the output of every plain 2D convolution and linear layer.

    Args:
        include: Regular expressions searched in the names of layers; None for all.
        exclude: Likewise, none may be found; None for heads.
    """

    # Batch norms in training would undo gamma and beta of the convolution before them.
    norm = 'frozen'

    def __init__(
        self,
        *,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
    ) -> None:
        self.names = NameFilter(include, exclude)

    def insert_(self, model: nn.Module, name: str) -> dict[str, str]:
        """Put the adapters into a model, or raise and leave it unchanged."""
        kinds = (ScaleShiftConv2d, ScaleShiftLinear)
        done = insert_adapters_(model, name, kinds, self.names)
        # what stands in the log: this, and which layers are not plain
        return {'scaled and shifted': f'{len(done.layers)} layers', **done.notes}
