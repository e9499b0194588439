"""Adapter layers under `torch.fx` tracing and ONNX export."""

import torch
from torch import nn
from torch.fx import Proxy


def as_leaf(layer: nn.Module, x: Proxy) -> Proxy:
    """Record a layer as a single node of the `torch.fx` graph, like `nn.Conv2d`.

    Args:
        layer: Submodule of the model being traced.
        x: Symbolic input of the layer.

    Returns:
        Symbolic output of the layer.

    Raises:
        TypeError: The layer itself is being traced, not a model around it.
    """
    name = x.tracer.path_of_module(layer)
    if not name:
        raise TypeError(
            f'torch.fx traces models around a {type(layer).__name__}, not one alone: '
            'wrap it into a module, or merge() it first'
        )
    return x.tracer.create_proxy('call_module', name, (x,), {})


def exports_to_onnx() -> bool:
    """Check whether an ONNX export is running, with either exporter of torch."""
    return torch.onnx.is_in_onnx_export()


# Dynamo treats torch.onnx.is_in_onnx_export as False; this way it is really called.
# The flag is all that torch.compiler.assume_constant_result sets, but that decorator
# imports the compiler, which takes seconds.
exports_to_onnx._dynamo_marked_constant = True


def refuse_onnx(layer: nn.Module, otherwise: str = '') -> None:
    """Raise during an ONNX export.

    The exported graph would multiply the factors again for every image.

    Args:
        layer: The layer that runs.
        otherwise: Alternative to merging, for the message.

    Raises:
        RuntimeError: An export is running; the message says how to prepare the model.
    """
    if exports_to_onnx():
        raise RuntimeError(
            f'a {type(layer).__name__} cannot be exported to ONNX: call '
            f'mmir.adapters.merge_(model) for plain convolutions{otherwise} first'
        )
