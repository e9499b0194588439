"""Change modules of the hosts when they are imported, without importing them."""

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

Patch = Callable[[ModuleType], None]

_PATCHES: dict[str, Patch] = {}


class _Loader(SourceFileLoader):
    """Loader that changes the module after it has run."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, then change it."""
        super().exec_module(module)
        _PATCHES[module.__name__](module)


class ImportHook:
    """Finder of the modules to change."""

    @staticmethod
    def find_spec(
        name: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return the spec of a module to change, None for any other."""
        spec = PathFinder.find_spec(name, path) if name in _PATCHES else None
        if spec is not None and spec.origin:
            spec.loader = _Loader(name, spec.origin)
        return spec


def on_import(name: str, patch: Patch) -> None:
    """Change a module once it is imported, or now if it has been.

    Args:
        name (str): Full name of the module. A second patch of a module is ignored.
        patch (Callable): Takes the module and changes it.
    """
    if name in _PATCHES:
        return
    _PATCHES[name] = patch
    if ImportHook not in sys.meta_path:
        sys.meta_path.insert(0, ImportHook)
    if name in sys.modules:
        patch(sys.modules[name])
