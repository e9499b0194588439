"""Losses of task-oriented pretraining.

[1] "TOPLight: lightweight neural networks with task-oriented pretraining for
visible-infrared recognition", CVPR 2023.
[2] Y. Ganin et al., "Domain-adversarial training of neural networks", JMLR 2016.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, kl_div

from mmir.layers.gradient_reversal import GradientReversal
from mmir.registry import MODELS


@MODELS.register_module()
class IdentityConsistencyLoss(nn.Module):
    """Identity-consistency loss: both views are recognized, and alike.

    With the logits z of the views of path 1 and 2 and `p = softmax(z)`::

        loss = CE(z1, y) + CE(z2, y) + c / 2 (KL(p1 || p2) + KL(p2 || p1))

    [1] names the loss and uses it in place of the identity loss; its form is ours. With
    c = 0, it is the identity loss of [1], rows 2 and 3 of table 3.

    Args:
        consistency (float): Weight c.
    """

    def __init__(self, consistency: float = 1.0) -> None:
        super().__init__()
        self.consistency = consistency

    def forward(self, first: Tensor, second: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss, in at least float32.

        Args:
            first (Tensor): Logits (N, classes) of the views of path 1.
            second (Tensor): Those of path 2, of the same images.
            labels (Tensor): Classes (N,), integers.

        Returns:
            Tensor: Scalar.
        """
        first, second = (x.to(_wide(x)) for x in (first, second))
        loss = cross_entropy(first, labels) + cross_entropy(second, labels)
        if not self.consistency:
            return loss
        one, two = first.log_softmax(1), second.log_softmax(1)
        mean = dict(reduction='batchmean', log_target=True)
        both = kl_div(one, two, **mean) + kl_div(two, one, **mean)
        return loss + self.consistency / 2 * both


@MODELS.register_module()
class FakeDomainLoss(nn.Module):
    """Fake domain loss [1]: maps tell the path up to block 4, and not after block 7.

    With a domain classifier D for each of both maps, the binary cross entropy, and the
    domains d = 0 (path 'rgb') and d = 1 (path 'ir')::

        loss = sum over paths i of BCE(D(x_i), d_i) + BCE(D'(GRL(y_i)), d_i)

    x are maps after block 4, y after block 7. The gradient reversal layer GRL [2] lets
    D' learn to tell the paths, and the network not to be told. The classifiers (ours)
    are mean pooling and a linear layer.

    Args:
        channels (Sequence[int]): Channels after block 4 and after block 7.
        loss_weight (float): Weight of the loss.
    """

    def __init__(self, channels: Sequence[int], loss_weight: float = 0.1) -> None:
        super().__init__()
        self.inner, self.last = (nn.Linear(width, 1) for width in channels)
        self.reverse = GradientReversal()
        self.loss_weight = loss_weight

    def forward(self, inner: Tensor, last: Tensor, is_ir: Tensor) -> Tensor:
        """Compute the loss, in at least float32.

        Args:
            inner (Tensor): Maps (N, C, H, W) after block 4.
            last (Tensor): Maps (N, C', H', W') after block 7.
            is_ir (Tensor): Whether the view is one of path 'ir' (N,), bool. A path
                without views adds nothing.

        Returns:
            Tensor: Scalar.
        """
        pairs = (
            (self.inner, inner.mean((2, 3))),
            (self.last, self.reverse(last.mean((2, 3)))),
        )
        errors = sum(_errors(classify(x), is_ir) for classify, x in pairs)
        # sums, since a choice by mask would make a GPU wait for its size
        ir = is_ir.to(errors.dtype)
        means = ((errors * x).sum() / x.sum().clamp(min=1) for x in (ir, 1 - ir))
        return self.loss_weight * sum(means)


def _wide(x: Tensor) -> torch.dtype:
    """At least float32."""
    return torch.promote_types(x.dtype, torch.float32)


def _errors(scores: Tensor, is_ir: Tensor) -> Tensor:
    """Binary cross entropy of each view."""
    scores = scores.flatten().to(_wide(scores))
    target = is_ir.to(scores.dtype)
    return binary_cross_entropy_with_logits(scores, target, reduction='none')
