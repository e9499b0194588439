"""Deformable convolution, plain (DCN) and modulated (DCNv2).

`deform_conv_*` and `modulated_deform_conv_*`, based on torchvision's operator, which
has the same offset layout and border handling. For onedl-mmcv 2.3.6 and mmcv 2.1.0
without compiled operators; delete it with `mmir/compat/ops_finder.py`, which gives the
reason.

The groups follow from the shapes. `columns`, `ones` and `im2col_step` control buffers
of the compiled operator and have no effect here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import deform_conv2d

from mmir.compat.ops import at_least_fp32


@dataclass(frozen=True)
class _Geometry:
    """Stride, padding and dilation, each (vertical, horizontal)."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def convolve(
        self, input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Return the convolution without bias, (batch, out, height, width)."""
        return deform_conv2d(
            at_least_fp32(input),
            at_least_fp32(offset),
            at_least_fp32(weight),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            mask=None if mask is None else at_least_fp32(mask),
        )

    def gradients(self, grad_output: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients w.r.t. input, offset, weight and, if given, mask."""
        leaves = [at_least_fp32(each).detach().requires_grad_() for each in inputs]
        mask = leaves[3] if len(leaves) == 4 else None
        with torch.enable_grad():
            result = self.convolve(*leaves[:3], mask)
        return torch.autograd.grad(result, leaves, grad_output.to(result.dtype))


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Write the deformable convolution of `input` into `output`.

    Dai et al., Deformable Convolutional Networks, ICCV 2017, Eq. 2.

    Args:
        input (Tensor): Shape (batch, in, height, width).
        weight (Tensor): Shape (out, in / group, kH, kW).
        offset (Tensor): (y, x) of every kernel tap, shape
            (batch, deformable_group * kH * kW * 2, out height, out width).
        output (Tensor): Shape (batch, out, out height, out width).
        columns (Tensor): Not used.
        ones (Tensor): Not used.
        kW (int): Width of the kernel.
        kH (int): Height of the kernel.
        dW (int): Horizontal stride.
        dH (int): Vertical stride.
        padW (int): Horizontal padding.
        padH (int): Vertical padding.
        dilationW (int): Horizontal dilation.
        dilationH (int): Vertical dilation.
        group (int): Channel groups; inferred from the shapes.
        deformable_group (int): Offset groups; inferred from the shapes.
        im2col_step (int): Not used.
    """
    geometry = _Geometry((dH, dW), (padH, padW), (dilationH, dilationW))
    output.copy_(geometry.convolve(input, offset, weight, None))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradInput: Tensor,
    gradOffset: Tensor,
    weight: Tensor,
    columns: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Add gradients to `gradInput` and `gradOffset`, shaped like input and offset.

    The other arguments are those of `deform_conv_forward`; `gradOutput` has the shape
    of its output.
    """
    geometry = _Geometry((dH, dW), (padH, padW), (dilationH, dilationW))
    by_input, by_offset, _ = geometry.gradients(gradOutput, input, offset, weight)
    gradInput.add_(by_input)
    gradOffset.add_(by_offset)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradWeight: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Add `scale` times the gradient w.r.t. the weight to `gradWeight`.

    The other arguments are those of `deform_conv_forward`. `gradOutput` has the shape
    of its output, `gradWeight` that of the weight, whose values are not needed.
    """
    geometry = _Geometry((dH, dW), (padH, padW), (dilationH, dilationW))
    *_, by_weight = geometry.gradients(
        gradOutput, input, offset, torch.zeros_like(gradWeight)
    )
    gradWeight.add_(by_weight, alpha=scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Write the modulated deformable convolution of `input` into `output`.

    Zhu et al., Deformable ConvNets v2, CVPR 2019, Eq. 1.

    Args:
        input (Tensor): Shape (batch, in, height, width).
        weight (Tensor): Shape (out, in / group, kernel_h, kernel_w).
        bias (Tensor): Shape (out,); read only if `with_bias`.
        ones (Tensor): Not used.
        offset (Tensor): (y, x) of every kernel tap, shape
            (batch, deformable_group * taps * 2, out height, out width).
        mask (Tensor): Weight of every kernel tap, shape
            (batch, deformable_group * taps, out height, out width).
        output (Tensor): Shape (batch, out, out height, out width).
        columns (Tensor): Not used.
        kernel_h (int): Height of the kernel.
        kernel_w (int): Width of the kernel.
        stride_h (int): Vertical stride.
        stride_w (int): Horizontal stride.
        pad_h (int): Vertical padding.
        pad_w (int): Horizontal padding.
        dilation_h (int): Vertical dilation.
        dilation_w (int): Horizontal dilation.
        group (int): Channel groups; inferred from the shapes.
        deformable_group (int): Offset groups; inferred from the shapes.
        with_bias (bool): Add the bias.
    """
    geometry = _Geometry((stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w))
    result = geometry.convolve(input, offset, weight, mask)
    if with_bias:
        result = result + at_least_fp32(bias)[:, None, None]
    output.copy_(result)


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Add gradients to the `grad_*` tensors, shaped like the tensors they belong to.

    The other arguments are those of `modulated_deform_conv_forward`; `grad_output` has
    the shape of its output.
    """
    geometry = _Geometry((stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w))
    gradients = geometry.gradients(grad_output, input, offset, weight, mask)
    outputs = (grad_input, grad_offset, grad_weight, grad_mask)
    for output, gradient in zip(outputs, gradients, strict=True):
        output.add_(gradient)
    if with_bias:
        grad_bias.add_(at_least_fp32(grad_output).sum((0, 2, 3)))
