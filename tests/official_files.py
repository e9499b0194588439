"""Files as the official YOLO code saves them: pickled modules of a package."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn


class Layer(nn.Module):
    """A node of a tree of parameters and buffers."""


class Call:
    """Pickles as the call of a shell command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


def tree(state: Mapping[str, Tensor]) -> nn.Module:
    """Make a module, of a class of `models`, with a state dict."""
    root = Layer()
    for key, value in state.items():
        *path, name = key.split('.')
        node = root
        for step in path:
            if step not in node._modules:
                node.add_module(step, Layer())
            node = node._modules[step]
        if name in ('weight', 'bias', 'implicit'):
            node.register_parameter(name, nn.Parameter(value))
        else:
            node.register_buffer(name, value)
    return root


def save(content: Any, path: Path) -> str:
    """Save modules of a package `models` that is gone afterwards."""
    package = ModuleType('models')
    package.Layer = Layer
    home, Layer.__module__ = Layer.__module__, 'models'
    sys.modules['models'] = package
    try:
        torch.save(content, path)
    finally:
        del sys.modules['models']
        Layer.__module__ = home
    return str(path)
