"""Profiling of a training step: time per part, operations that wait for a GPU."""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmir.cli.stages import ROOT


class Stopwatch:
    """Stopwatch for nested parts of a program; each part excludes the ones inside it.

    Args:
        clock: Returns seconds, after waiting for the device.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._children: list[float] = []
        self.reset()

    def reset(self) -> None:
        """Reset all measurements."""
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time in this context, without nested parts, to `name`."""
        start = self.clock()
        self._children.append(0.0)
        try:
            yield
        finally:
            elapsed = self.clock() - start
            self.seconds[name] += elapsed - self._children.pop()
            self.calls[name] += 1
            if self._children:
                self._children[-1] += elapsed

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Time every call of a method of an object as the part `name`."""
        original = getattr(owner, method)

        @wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return original(*args, **kwargs)

        setattr(owner, method, timed)


_WAITS = {
    '_local_scalar_dense': 'value read (item, int, bool)',
    'equal': 'value read (equal)',
    'nonzero': 'nonzero',
    'masked_select': 'masked_select',
    '_unique2': 'unique',
    'unique_dim': 'unique',
    'unique_consecutive': 'unique',
    'repeat_interleave': 'repeat_interleave by a tensor',
    'lift_fresh': 'tensor made of host values',
}


class WaitCounter(TorchDispatchMode):
    """Counts operations that make the host wait for a GPU, by line of code.

    Works on a CPU as well, where nothing waits. These are counted:

    - sizes that depend on values (`nonzero`, boolean masks, `unique`);
    - values that are read (`item`);
    - tensors created from host values;
    - on a CPU, also value checks that only happen there, as in `one_hot`.

    Values that the optimizer keeps on the host are not counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Run the operation and count it if it waits."""
        result = func(*args, **(kwargs or {}))
        reason = self._reason(func, args, result)
        if reason:
            where = _where(sys._getframe(1))
            if where:
                self.found[reason, where] += 1
        return result

    @staticmethod
    def _reason(func: Any, args: tuple, result: Any) -> str | None:
        name = func.overloadpacket.__name__
        if name in ('index', 'index_put', 'index_put_'):
            masks = [i for i in args[1] if i is not None and i.dtype == torch.bool]
            return 'boolean mask' if masks else None
        if name in ('_to_copy', 'copy_'):
            tensors = [t for t in tree_leaves((args, result)) if isinstance(t, Tensor)]
            kinds = {t.device.type for t in tensors}
            return 'copy between host and device' if len(kinds) > 1 else None
        return _WAITS.get(name)


def _where(frame: FrameType | None) -> str | None:
    """Line of mmir or its hosts that a call comes from; None for optimizers."""
    place = None
    while frame:
        path = Path(frame.f_code.co_filename)
        if 'torch' in path.parts and 'optim' in path.parts:
            return None
        inside = path.is_relative_to(ROOT / 'mmir')
        if place is None and (inside or {'mmdet', 'mmengine'} & set(path.parts)):
            short = path.relative_to(ROOT) if inside else _package_path(path)
            place = f'{short}:{frame.f_lineno} ({frame.f_code.co_name})'
        frame = frame.f_back
    return place or 'elsewhere'


def _package_path(path: Path) -> Path:
    """Path relative to the parent of the installed package."""
    parts = path.parts
    first = next(i for i, p in enumerate(parts) if p in ('mmdet', 'mmengine'))
    return Path(*parts[first:])
