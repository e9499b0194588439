"""Non-local blocks behind the blocks of a network.

[1] X. Wang, R. Girshick, A. Gupta and K. He, "Non-local neural networks", CVPR 2018.
[2] M. Ye, J. Shen, G. Lin, T. Xiang, L. Shao and S. Hoi, "Deep learning for person
re-identification: a survey and outlook", TPAMI 2021 (AGW).
"""

from collections.abc import Mapping
from typing import Any

from mmcv.cnn import NonLocal2d
from torch import Tensor, nn


def add_non_local_(
    block: nn.Module, channels: int, norm_cfg: Mapping[str, Any]
) -> None:
    """Let a non-local block follow a block of a network, in place.

    It computes `y = x + BN(W g(x) A)` with the dot product
    `A = theta(x)^T phi(x) / HW` [1]. As in the release of AGW [2], theta, phi and g map
    to a single channel, and the scale of the norm is 0 at first, so that `y = x`. The
    bias of W is left out, since the norm cancels it.

    The name of its weights is that of the block, plus `non_local`; the names of the
    block's own weights stay.

    Args:
        block (nn.Module): Maps (N, C', H', W') to (N, channels, H, W).
        channels (int): Number of channels.
        norm_cfg (Mapping): Config of the norm.
    """
    block.non_local = NonLocal2d(
        channels, reduction=channels, norm_cfg=dict(norm_cfg), mode='dot_product'
    )
    block.register_forward_hook(_attend)


def reset_non_local_(network: nn.Module) -> None:
    """Initialize the non-local blocks of a network, so that they are identities.

    Args:
        network (nn.Module): Network with blocks of :func:`add_non_local_`.
    """
    for module in network.modules():
        if isinstance(module, NonLocal2d):
            module.init_weights()


def _attend(block: nn.Module, args: tuple, out: Tensor) -> Tensor:
    """Apply the non-local block; a hook of the block, so that copies have it too."""
    return block.non_local(out)
