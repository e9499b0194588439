"""Modules of a study in `tools/benchmark`, which import each other by their names."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parents[2] / 'tools/benchmark'


@contextmanager
def study_modules(*names: str) -> Iterator[dict[str, ModuleType]]:
    """Import modules; afterwards, all modules of the folder are forgotten."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(FOLDER))
        for path in FOLDER.glob('*.py'):
            sys.modules.pop(path.stem, None)
