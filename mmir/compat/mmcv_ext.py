"""Substitute for the module `mmcv._ext` where mmcv has no compiled operators.

`ops_finder` loads this file under that name (see there for the reason, the host
versions and when to delete it). It provides the operators that common detectors and
segmentors call, in plain torch and torchvision, with the signatures of the compiled
ones. Any other name is a function that raises when called, because `mmcv.ops` looks up
every operator on import.
"""

from collections.abc import Callable
from typing import Any

from mmir.compat.ops.boxes import bbox_overlaps
from mmir.compat.ops.deform_conv import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
)
from mmir.compat.ops.focal_loss import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
)
from mmir.compat.ops.ms_deform_attn import (
    ms_deform_attn_backward,
    ms_deform_attn_forward,
)
from mmir.compat.ops.nms import nms, nms_match, softnms
from mmir.compat.ops.roi_align import roi_align_backward, roi_align_forward

__all__ = [
    'bbox_overlaps',
    'deform_conv_backward_input',
    'deform_conv_backward_parameters',
    'deform_conv_forward',
    'get_compiler_version',
    'get_compiling_cuda_version',
    'modulated_deform_conv_backward',
    'modulated_deform_conv_forward',
    'ms_deform_attn_backward',
    'ms_deform_attn_forward',
    'nms',
    'nms_match',
    'roi_align_backward',
    'roi_align_forward',
    'sigmoid_focal_loss_backward',
    'sigmoid_focal_loss_forward',
    'softnms',
]


def get_compiler_version() -> str:
    """Return the compiler entry of environment reports."""
    return 'none (operators of mmir.compat)'


def get_compiling_cuda_version() -> str:
    """Return the CUDA toolkit entry of environment reports."""
    return 'none (operators of mmir.compat)'


def __getattr__(name: str) -> Callable[..., Any]:
    """Return a stub, which raises when called, for an operator of compiled mmcv.

    Raises:
        AttributeError: `name` is private, hence not an operator.
    """
    if name.startswith('_'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

    def _missing(*args: object, **kwargs: object) -> None:
        raise NotImplementedError(
            f"The operator '{name}' of mmcv.ops exists only in compiled form, and this "
            'mmcv was installed without compiled operators. Build an mmcv with them '
            'for your torch, with a C++ compiler (and the CUDA toolkit for GPUs): '
            '`pip install --no-build-isolation --no-binary '
            'onedl-mmcv --force-reinstall --no-deps onedl-mmcv` (classic: `mim '
            'install mmcv`). mmir then uses it automatically.'
        )

    _missing.__name__ = _missing.__qualname__ = name
    return _missing
