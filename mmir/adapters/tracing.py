"""What tracers and exporters get to see of a factorized convolution."""

import torch
from torch import nn
from torch.fx import Proxy


def as_leaf(layer: nn.Module, x: Proxy) -> Proxy:
    """Enter a layer as one node into the graph of `torch.fx`, like `nn.Conv2d`.

    Args:
        layer: Submodule of the model that is traced symbolically.
        x: Its symbolic input.

    Returns:
        Its symbolic output.

    Raises:
        TypeError: If the layer itself is what is traced.
    """
    name = x.tracer.path_of_module(layer)
    if not name:
        raise TypeError(
            f'torch.fx traces models around a {type(layer).__name__}, not one alone: '
            'wrap it into a module, or merge() it first'
        )
    return x.tracer.create_proxy('call_module', name, (x,), {})


# Dynamo takes torch.onnx.is_in_onnx_export for False; as a constant it is asked.
@torch.compiler.assume_constant_result
def exports_to_onnx() -> bool:
    """Tell whether an export to ONNX is going on, by either exporter of torch."""
    return torch.onnx.is_in_onnx_export()


def refuse_onnx(layer: nn.Module, otherwise: str = '') -> None:
    """Raise while an export to ONNX is going on.

    The graph would hold the product of the factors as operations to be run for every
    image.

    Args:
        layer: The layer that runs.
        otherwise: What can be done beside merging, for the message.

    Raises:
        RuntimeError: Naming what makes the model exportable.
    """
    if exports_to_onnx():
        raise RuntimeError(
            f'a {type(layer).__name__} cannot be exported to ONNX: call '
            f'mmir.adapters.merge_(model) for plain convolutions{otherwise} first'
        )
