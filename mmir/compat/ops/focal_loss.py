"""Sigmoid focal loss: `sigmoid_focal_loss_forward` and `_backward`.

mmdet's FocalLoss calls the operator on GPUs. For onedl-mmcv 2.3.6 and mmcv 2.1.0
without compiled operators; delete it with `mmir/compat/ops_finder.py`, which gives the
reason.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mmir.compat.ops import at_least_fp32


def sigmoid_focal_loss_forward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    r"""Write the loss of every logit into `output`.

    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, Eq. 5:
    :math:`-\alpha_t (1 - p_t)^\gamma \log p_t` where :math:`p_t` is the predicted
    probability of the true label.

    Args:
        input (Tensor): Logits, shape (n, classes).
        target (Tensor): int64 class of each row, shape (n,). Values outside
            `[0, classes)` are background.
        weight (Tensor): Weight of each class, shape (classes,), or empty for none.
            Background rows have weight 1.
        output (Tensor): Shape (n, classes).
        gamma (float): Focusing exponent.
        alpha (float): Weight of positives; negatives have weight `1 - alpha`.
    """
    sign, balance = _sides(input, target, weight, alpha)
    margin = at_least_fp32(input) * sign
    miss = torch.sigmoid(-margin)  # 1 - p_t
    output.copy_(-balance * miss**gamma * logsigmoid(margin))


def sigmoid_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    r"""Write the derivative of every loss w.r.t. its logit into `grad_input`.

    From Eq. 5: :math:`\pm \alpha_t (1 - p_t)^\gamma (\gamma p_t \log p_t + p_t - 1)`,
    with plus for the class of the row and minus for the others (appendix B).

    Args:
        input (Tensor): Logits, shape (n, classes).
        target (Tensor): int64 class of each row, shape (n,).
        weight (Tensor): Weight of each class, shape (classes,), or empty for none.
        grad_input (Tensor): Output, shape (n, classes).
        gamma (float): Focusing exponent.
        alpha (float): Weight of positives.
    """
    sign, balance = _sides(input, target, weight, alpha)
    margin = at_least_fp32(input) * sign
    hit, miss = torch.sigmoid(margin), torch.sigmoid(-margin)
    slope = miss**gamma * (gamma * hit * logsigmoid(margin) - miss)
    grad_input.copy_(sign * balance * slope)


def _sides(
    input: Tensor, target: Tensor, weight: Tensor, alpha: float
) -> tuple[Tensor, Tensor]:
    """Return the sign and the weight of every logit.

    Returns:
        tuple[Tensor, Tensor]: Each of shape (n, classes): 1 for the class of the row
        and -1 for the others; `alpha` and `1 - alpha`, times the class weight.
    """
    classes = input.size(1)
    positive = target[:, None] == torch.arange(classes, device=target.device)
    sign = at_least_fp32(input).new_ones(()) * torch.where(positive, 1.0, -1.0)
    balance = torch.where(positive, alpha, 1 - alpha).to(sign)
    if weight.numel():
        foreground = (target >= 0) & (target < classes)
        factor = at_least_fp32(weight)[target.clamp(0, classes - 1)]
        balance = balance * torch.where(foreground, factor, 1.0)[:, None]
    return sign, balance
