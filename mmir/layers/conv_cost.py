"""What convolutions cost: parameters, multiplications, measured milliseconds."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmir.adapters.geometry import geometry_of

from .tensorfact import TensorFactConv

Forward = Callable[[nn.Module, Tensor], Any]
Calls = dict[nn.Module, list[tuple[int, ...]]]


@dataclass(frozen=True)
class Cost:
    """Cost of a layer or a model; what was not asked for is None.

    Attributes:
        params: Number of parameters.
        macs: Multiply-accumulate operations of one forward pass.
        latency: Milliseconds of one forward pass.
    """

    params: int
    macs: int | None = None
    latency: float | None = None

    def plus(self, after: 'Cost', before: 'Cost') -> 'Cost':
        """This cost when a part of it that cost `before` costs `after`."""

        def moved(name: str) -> float | None:
            """The new value of one attribute."""
            old, new, gone = (getattr(c, name) for c in (self, after, before))
            return None if old is None else old + new - gone

        return Cost(moved('params'), moved('macs'), moved('latency'))


@torch.no_grad()
def record_calls(model: nn.Module, x: Tensor, forward: Forward | None = None) -> Calls:
    """Run a model once in evaluation and note what its convolutions get.

    Args:
        model: Any model; its training flags are as before afterwards.
        x: Input, shape (N, C, H, W).
        forward: How the model is called, `forward(model, x)`; None for `model(x)`.

    Returns:
        Shapes (N, C, H, W) of the inputs of every `nn.Conv2d`, one a call.
    """
    calls: Calls = defaultdict(list)

    def note(conv: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Keep the shape of the input of a call."""
        shape = tuple(inputs[0].shape)
        calls[conv].append(shape if len(shape) == 4 else (1, *shape))

    flags = {module: module.training for module in model.modules()}
    hooks = [
        module.register_forward_pre_hook(note)
        for module in flags
        if isinstance(module, nn.Conv2d)
    ]
    try:
        model.eval()
        model(x) if forward is None else forward(model, x)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in flags.items():
            module.training = training
    return dict(calls)


@torch.no_grad()
def macs_of(layer: nn.Module, shapes: Sequence[tuple[int, ...]]) -> int:
    """Multiply-accumulate operations of a layer, counted by running it on `meta`.

    Args:
        layer: A layer on device `meta`, called with one tensor.
        shapes: Shapes of the inputs (N, C, H, W), one a call.
    """
    dtype = next(layer.parameters()).dtype
    with FlopCounterMode(display=False) as counter:
        for shape in shapes:
            layer(torch.empty(shape, device='meta', dtype=dtype))
    return counter.get_total_flops() // 2


def like(
    conv: nn.Conv2d, rank: int | None, split: str, device: torch.device | str
) -> nn.Module:
    """A layer of the geometry of `conv` with random weights, in evaluation.

    Args:
        conv: Convolution to imitate.
        rank: Of its factors, computed as two convolutions; None for a dense one.
        split: Split of the factors.
        device: Where the new layer lives.
    """
    options = dict(
        **geometry_of(conv),
        bias=conv.bias is not None,
        device=device,
        dtype=conv.weight.dtype,
    )
    if rank is None:
        return nn.Conv2d(**options).eval()
    return TensorFactConv(**options, rank=rank, split=split, mode='two_conv').eval()


@dataclass
class Stopwatch:
    """Measures convolutions; those of one geometry on one input only once.

    Attributes:
        device: Where to measure.
        repeats: Measured runs, after two that are not; the median counts.
        known: What was measured.
    """

    device: torch.device | str = 'cpu'
    repeats: int = 7
    known: dict[tuple, float] = field(default_factory=dict)

    def __call__(
        self,
        conv: nn.Conv2d,
        rank: int | None,
        split: str,
        shapes: Sequence[tuple[int, ...]],
    ) -> float:
        """Milliseconds of all calls of a convolution.

        Args:
            conv: The convolution; only its geometry and dtype matter.
            rank: Of its factors, run as two convolutions; None for dense.
            split: Split of the factors.
            shapes: Shapes of the inputs (N, C, H, W), one a call.
        """
        what = (*geometry_of(conv).values(), conv.bias is None, conv.weight.dtype)
        what = (*what, rank, split)
        for shape in set(shapes):
            if (what, shape) not in self.known:
                layer = like(conv, rank, split, self.device)
                self.known[what, shape] = self.measure(layer, shape)
        return sum(self.known[what, shape] for shape in shapes)

    @torch.no_grad()
    def measure(self, layer: nn.Module, shape: tuple[int, ...]) -> float:
        """Median milliseconds of one call of a layer with an input of `shape`."""
        dtype = next(layer.parameters()).dtype
        x, times = torch.randn(shape, device=self.device).to(dtype), []
        for _ in range(self.repeats + 2):
            self._wait()
            start = time.perf_counter()
            layer(x)
            self._wait()
            times.append(1e3 * (time.perf_counter() - start))
        return statistics.median(times[2:])

    def _wait(self) -> None:
        """Wait until the device has done what it was given."""
        if torch.device(self.device).type == 'cuda':
            torch.cuda.synchronize(self.device)
