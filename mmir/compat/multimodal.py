"""Switch off mmpretrain's multimodal models where `transformers` lacks what they use.

Why: mmpretrain takes any `transformers` from 4.28 on as fit, and imports names from it
that later releases moved or removed: onedl-mmpretrain 1.3.6 fails with 5.0, mmpretrain
1.2.0 with 4.57 already. Then nothing of mmpretrain can be imported, nor `mmdet.models`,
which imports it. peft and other packages bring such a release.

The models become placeholders with the reason, as where `transformers` is missing.

Delete it when mmpretrain imports with the current `transformers`.
"""

import ast
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

from mmengine.registry import Registry

from .after_import import patch_after_import

MODULE = 'mmpretrain.utils.dependency'
USERS = ('models/multimodal', 'models/utils')


def install() -> None:
    """Check the module when it is imported. Repeated calls are harmless."""
    patch_after_import(MODULE, check)


def check(module: ModuleType) -> None:
    """Correct what the module says about multimodal models."""
    if module.WITH_MULTIMODAL:
        missing = missing_name(Path(module.__file__).parents[1])
        if missing is not None:
            module.WITH_MULTIMODAL = False
            module.register_multimodal_placeholder = _register_placeholders(missing)


def missing_name(package: Path) -> str | None:
    """Find a name that the multimodal models import and `transformers` lacks.

    Args:
        package (Path): Folder of mmpretrain.

    Returns:
        str, optional: First such name, with its module, or None.
    """
    for folder in USERS:
        for file in sorted((package / folder).rglob('*.py')):
            source = file.read_text('utf-8')
            if 'transformers' in source:
                for module, name in _imported(ast.parse(source).body):
                    if not _has(module, name):
                        return f'{module}.{name}'
    return None


def _imported(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of what code takes from `transformers` when it is imported.

    Imports inside functions and classes do not count.
    """
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module.partition('.')[0] == 'transformers':
                yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Try | ast.If):
            yield from _imported(node.body)


def _has(module: str, name: str) -> bool:
    """Check whether a name can be imported; any error counts as no."""
    try:
        getattr(import_module(module), name)
    except Exception:  # its lazy modules raise whatever their imports raise
        return False
    return True


def _register_placeholders(missing: str) -> Callable[[list[str], Registry], None]:
    """Substitute for `register_multimodal_placeholder`, which tells the reason."""

    def register(names: list[str], registry: Registry) -> None:
        for name in names:
            registry.register_module(name=name, module=_placeholder(name, missing))

    return register


def _placeholder(name: str, missing: str) -> Callable[..., None]:
    """Create a function that raises when a config asks for that model."""

    def refuse(*args: object, **kwargs: object) -> None:
        version = import_module('transformers').__version__
        raise ImportError(
            f"'{name}' of mmpretrain does not work with transformers {version}, which "
            f'has no `{missing}`. Other models do. To use it, install an older '
            'release: `pip install "transformers<4.52"`'
        )

    refuse.__name__ = refuse.__qualname__ = name
    return refuse
