"""Cache of a kernel that is computed from parameters."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class KernelCache(nn.Module):
    """Layer that computes its kernel and caches it in evaluation mode.

    Any change of a parameter invalidates the cache, except through `.data`, which
    cannot be detected; call `train()` or `eval()` afterwards.

    Attributes:
        uncopied: Names of attributes that are left out of copies and pickles.
    """

    uncopied: ClassVar[tuple[str, ...]] = ('_cache',)
    _cache: tuple[tuple[Any, ...], Tensor] | None = None

    def kernel_parts(self) -> list[Tensor]:
        """Tensors the kernel is computed from."""
        raise NotImplementedError

    def kernel(self) -> Tensor:
        """Compute the kernel, differentiable in the parts that require a gradient."""
        raise NotImplementedError

    def effective_kernel(self) -> Tensor:
        """The kernel; cached in evaluation mode while no part changes."""
        parts = self.kernel_parts()
        learns = torch.is_grad_enabled() and any(t.requires_grad for t in parts)
        if (
            self.training
            or learns
            or torch.compiler.is_compiling()
            or torch.jit.is_tracing()
            or any(t.is_inference() for t in parts)
        ):
            return self.kernel()
        # A kernel made in inference mode cannot be used outside of it.
        key = (
            torch.is_inference_mode_enabled(),
            *((t.data_ptr(), t._version, t.dtype, t.device) for t in parts),
        )
        if self._cache is None or self._cache[0] != key:
            self._cache = key, self.kernel()
        return self._cache[1]

    def forget(self) -> None:
        """Drop the cache."""
        self._cache = None

    def train(self, mode: bool = True) -> 'KernelCache':
        """Set the training mode and drop the cache."""
        self.forget()
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> 'KernelCache':
        self.forget()
        return super()._apply(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in self.uncopied}
