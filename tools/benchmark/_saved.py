"""What autograd saves in a forward pass for the backward pass, counted in bytes."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

_SKIPPED = str(Path(torch.__file__).parent), str(Path(__file__))


@dataclass
class Saved:
    """Storages that autograd saved, each counted once.

    Attributes:
        by_line: Bytes by the line of code that saved the storage first.
    """

    by_line: Counter[str] = field(default_factory=Counter)

    @property
    def bytes(self) -> int:
        """Bytes of all storages."""
        return sum(self.by_line.values())


@contextmanager
def count_saved(model: nn.Module) -> Iterator[Saved]:
    """Count what autograd saves in the block, without the tensors of a model.

    Views and tensors that several operations save share a storage, which counts once.
    Weights cast by autocast are not tensors of the model and count. Of a function that
    is checkpointed, the inputs count.

    Args:
        model: Its parameters and buffers do not count.

    Yields:
        The count, complete when the block ends. It works on any device, `meta`
        excepted, whose storages have no address.
    """
    own = {
        t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())
    }
    saved, alive = Saved(), {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
        if place not in own and place not in alive:
            alive[place] = tensor.detach()  # or its address would be given away again
            saved.by_line[_line()] += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved


def _line() -> str:
    """Innermost line outside of torch that is running, as `file.py:line function`."""
    frame = sys._getframe(2)
    while frame.f_back and frame.f_code.co_filename.startswith(_SKIPPED):
        frame = frame.f_back
    code = frame.f_code
    return f'{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name}'
