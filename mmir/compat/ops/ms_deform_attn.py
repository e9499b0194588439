"""Multi-scale deformable attention: `ms_deform_attn_forward` and `_backward`.

Zhu et al., Deformable DETR, ICLR 2021, Eq. 3. mmcv uses plain torch on CPUs and calls
the operator on GPUs; here both use the same plain torch function. For onedl-mmcv
2.3.6 and mmcv 2.1.0 without compiled operators; delete it with
`mmir/compat/ops_finder.py`, which gives the reason.
"""

import torch
from torch import Tensor

from mmir.compat.ops import at_least_fp32


def _attend(
    value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor
) -> Tensor:
    """Return the attended values (batch, queries, heads * dims), at least float32."""
    # Imported here because mmcv.ops imports this module.
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(
        at_least_fp32(value),
        shapes.tolist(),
        at_least_fp32(locations),
        at_least_fp32(weights),
    )


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_loc: Tensor,
    attn_weight: Tensor,
    im2col_step: int,
) -> Tensor:
    """Return the weighted sum of values sampled from several feature maps.

    Args:
        value (Tensor): Values of all levels, shape (batch, keys, heads, dims).
        spatial_shapes (Tensor): Height and width of each level, shape (levels, 2).
        level_start_index (Tensor): First key of each level; inferred from the shapes.
        sampling_loc (Tensor): x and y in [0, 1], shape
            (batch, queries, heads, levels, points, 2).
        attn_weight (Tensor): Shape (batch, queries, heads, levels, points).
        im2col_step (int): Not used.

    Returns:
        Tensor: Shape (batch, queries, heads * dims), with the dtype of `value`.
    """
    return _attend(value, spatial_shapes, sampling_loc, attn_weight).to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_loc: Tensor,
    attn_weight: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Add gradients to the three `grad_*` output tensors.

    Args:
        value (Tensor): As in `ms_deform_attn_forward`, like the next four.
        spatial_shapes (Tensor): Shape (levels, 2).
        level_start_index (Tensor): Shape (levels,).
        sampling_loc (Tensor): Shape (batch, queries, heads, levels, points, 2).
        attn_weight (Tensor): Shape (batch, queries, heads, levels, points).
        grad_output (Tensor): Shape (batch, queries, heads * dims).
        grad_value (Tensor): Output, shaped like `value`.
        grad_sampling_loc (Tensor): Output, shaped like `sampling_loc`.
        grad_attn_weight (Tensor): Output, shaped like `attn_weight`.
        im2col_step (int): Not used.
    """
    leaves = [
        at_least_fp32(tensor).detach().requires_grad_()
        for tensor in (value, sampling_loc, attn_weight)
    ]
    with torch.enable_grad():
        result = _attend(leaves[0], spatial_shapes, *leaves[1:])
    gradients = torch.autograd.grad(result, leaves, grad_output.to(result.dtype))
    for output, gradient in zip(
        (grad_value, grad_sampling_loc, grad_attn_weight), gradients, strict=True
    ):
        output.add_(gradient)
