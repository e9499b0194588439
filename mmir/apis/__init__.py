"""The model zoo by name."""

from .zoo import find_config, get_model, list_models

__all__ = ['find_config', 'get_model', 'list_models']
