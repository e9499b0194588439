"""Patch a module of a host right after it is imported.

Why: importing mmir must not import a host, which takes seconds, and what needs a patch
is used while the host is imported, or right afterwards.

Delete it with the last shim that uses it.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

Patch = Callable[[ModuleType], None]
"""Function that changes a module in place."""

PATCHES: dict[str, Patch] = {}
"""Patches by the full name of their module."""


class PatchingLoader(SourceFileLoader):
    """Loader that runs a module, then its patch."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, then its patch."""
        super().exec_module(module)
        PATCHES[module.__name__](module)


class PatchingFinder:
    """Finder that loads the modules of `PATCHES` with `PatchingLoader`."""

    @staticmethod
    def find_spec(
        name: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return a spec with that loader if the module has a patch, else None."""
        spec = PathFinder.find_spec(name, path) if name in PATCHES else None
        if spec is not None and spec.origin:
            spec.loader = PatchingLoader(name, spec.origin)
        return spec


def patch_after_import(name: str, patch: Patch) -> None:
    """Patch a module when it is imported, or now if it is already there.

    Args:
        name (str): Full name of the module.
        patch (Callable): Changes the module in place. A repeated call with the same
            name is ignored.
    """
    if name in PATCHES:
        return
    PATCHES[name] = patch
    if PatchingFinder not in sys.meta_path:
        sys.meta_path.insert(0, PatchingFinder)
    if name in sys.modules:
        patch(sys.modules[name])
