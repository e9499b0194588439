"""The converters of detection datasets, run in this process."""

import sys
from importlib import import_module
from pathlib import Path

FOLDER = Path(__file__).parents[1] / 'tools' / 'dataset_converters'


def tool(name):
    """Import a module of the converters' folder, as their own imports expect."""
    sys.path.insert(0, str(FOLDER))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


def convert(name, root, *more):
    """Run a converter; the exit status."""
    return tool(name).CONVERTER.main('', [str(root), *map(str, more)])
