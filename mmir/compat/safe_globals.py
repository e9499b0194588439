"""Let training checkpoints of either mmengine load with `weights_only=True`.

Why: the checkpoint of a runner holds its message hub, whose `HistoryBuffer` pickles
numpy arrays and, through `getattr`, four of its own methods. torch >= 2.6 loads only
what is allowed. mmengine 0.10.7 then cannot resume; onedl-mmengine 0.10.12 allows the
bare `getattr`, with which a file reaches any attribute of any allowed object, and
falls back to the unsafe load (`mmir.utils.checkpoint` closes that one).

Delete when: mmengine saves its message hub as plain types. The exchange of its list,
when mmengine stops allowing the bare `getattr`.
"""

from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer

_STATISTICS = ('min', 'max', 'mean', 'current')
_NUMBERS = '?bBhHiIlLqQefd'  # codes of numpy's booleans, integers and floats


def history_getattr(owner: object, name: str) -> Callable[..., Any]:
    """Stand for `getattr` in a checkpoint: the statistics of HistoryBuffer only.

    Raises:
        UnpicklingError: Any other object or name is asked for.
    """
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise UnpicklingError(
            f'builtins.getattr of {name!r} is not allowed in a checkpoint, only of '
            f'{", ".join(_STATISTICS)} of HistoryBuffer'
        )
    return getattr(HistoryBuffer, name)


def _allowed() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Return what a runner's checkpoint pickles besides tensors and plain types."""
    reconstruct = np.empty(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    # numpy 1 and 2 write the two functions under different modules.
    return [
        HistoryBuffer,
        (history_getattr, 'builtins.getattr'),
        np.ndarray,
        np.dtype,
        *{type(np.dtype(code)) for code in _NUMBERS},
        *(
            (function, f'numpy.{core}.multiarray.{function.__name__}')
            for function in (reconstruct, scalar)
            for core in ('core', '_core')
        ),
    ]


ALLOWED = _allowed()


def install() -> None:
    """Allow those globals in this process; doing so twice is harmless."""
    torch.serialization.add_safe_globals(ALLOWED)
    from mmengine.runner import checkpoint

    if hasattr(checkpoint, 'get_torch_safe_globals'):
        # Its list would replace the restricted getattr by the bare one during a load,
        # and afterwards take back from the process what both lists allow.
        checkpoint.get_torch_safe_globals = list
