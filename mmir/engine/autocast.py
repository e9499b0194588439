"""Mixed precision in bfloat16, on GPUs and on CPUs, where the hardware has it."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


def has_bfloat16(device: str) -> bool:
    """Check whether a device computes in bfloat16 rather than emulates it.

    Emulated, a training step takes longer than in float32: four times as long on a CPU
    with AVX-512, ten times with AVX2.

    Args:
        device (str): Type of the device, 'cpu' or 'cuda'; others are taken to have it.

    Returns:
        bool: For CPUs, whether there are AVX-512 BF16 or AMX instructions, and torch
        was not told to leave AVX-512 unused (`ATEN_CPU_CAPABILITY`).
    """
    if device == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device != 'cpu':
        return True
    if not torch.backends.cpu.get_cpu_capability().startswith('AVX512'):
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Optimizer wrapper that runs the forward pass in bfloat16 where it pays.

    mmengine's `AmpOptimWrapper` rejects CPUs, although CPUs with bfloat16 instructions
    train about twice as fast with it. On a device without them (:func:`has_bfloat16`),
    this wrapper warns once and computes in float32. bfloat16 has the range of float32,
    so the loss needs no scaling. Parameters, gradients and optimizer state keep their
    dtype.

    Args:
        **kwargs: Arguments of `mmengine.optim.OptimWrapper`.
    """

    _pays: bool | None = None  # known from the first step on

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Context of the forward pass of one step.

        Args:
            model: The model; the device is that of its first parameter.
        """
        device = next(model.parameters()).device.type
        if self._pays is None:
            self._pays = has_bfloat16(device)
            if not self._pays:
                print_log(
                    f'{type(self).__name__}: this {device} has no bfloat16 '
                    'instructions, so training runs in float32, which is faster here',
                    'current',
                    level=30,  # logging.WARNING
                )
        cast = torch.autocast(device, torch.bfloat16) if self._pays else nullcontext()
        with super().optim_context(model), cast:
            yield
