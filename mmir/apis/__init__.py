"""The model zoo by name, and Inferencers."""

from typing import Any

from .zoo import find_config, get_model, list_models

__all__ = ['VIReIDInferencer', 'find_config', 'get_model', 'list_models']


def __getattr__(name: str) -> Any:
    """Import an Inferencer when it is used, since it needs its host."""
    if name == 'VIReIDInferencer':
        from mmir.reid import VIReIDInferencer

        return VIReIDInferencer
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
