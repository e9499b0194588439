"""Let training checkpoints of either mmengine load with `weights_only=True`.

Why: the checkpoint of a runner holds its message hub, whose `HistoryBuffer` pickles
numpy arrays and, through `getattr`, four of its own methods. torch >= 2.6 loads only
allowed globals. As a result, mmengine 0.10.7 cannot resume. onedl-mmengine 0.10.12
allows the bare `getattr`, which gives a file access to any attribute of any allowed
object, and falls back to the unsafe load (prevented by `mmir.utils.host_loading`).

Delete it when mmengine saves its message hub as plain types. Delete the replacement of
its list when mmengine no longer allows the bare `getattr`.
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
    """Replace `getattr` in checkpoints; only statistics of HistoryBuffer are allowed.

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
    """Return the globals of a runner's checkpoint besides tensors and plain types."""
    reconstruct = np.empty(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    # numpy 1 and 2 pickle the two functions under different module names.
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
    """Allow these globals in this process. Repeated calls are harmless."""
    torch.serialization.add_safe_globals(ALLOWED)
    from mmengine.runner import checkpoint

    if hasattr(checkpoint, 'get_torch_safe_globals'):
        # Its list would replace the restricted getattr with the bare one during a load,
        # and afterwards remove from the process what both lists allow.
        checkpoint.get_torch_safe_globals = list
