"""With few samples a small delta generalises better than training everything."""

import copy

import pytest
import torch
from torch import nn

from mmir.layers import TensorFactConv

NOISE = 0.1


def task(seed):
    """A trained layer, and the layer of the other modality: one rank away."""
    torch.manual_seed(seed)
    base = TensorFactConv(8, 8, 3, rank=4, bias=False)
    teacher = copy.deepcopy(base).augment('ir', 1)
    nn.init.normal_(teacher.deltas['ir'].A, std=0.3)
    return base, teacher.requires_grad_(False)


def fit(model, x, y, lr, steps=50):
    """Train what is trainable; returns the first and the last loss."""
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.Adam(learning, lr), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


@pytest.mark.parametrize('seed', range(3))
def test_a_delta_beats_fine_tuning_everything(seed):
    base, teacher = task(seed)
    x = torch.randn(1, 8, 8, 8)  # 36 positions, and 72 numbers of the kernel a channel
    y = teacher(x) + NOISE * torch.randn(1, 8, 6, 6)
    seen = torch.randn(64, 8, 6, 6)

    def error(model):
        with torch.no_grad():
            return (model(seen) - teacher(seen)).square().mean().item()

    student = copy.deepcopy(base).requires_grad_(False).augment('ir', 1)
    first, last = fit(student, x, y, 0.05)
    assert last < 0.1 * first
    rivals = []
    for lr in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1):  # the rival may choose afterwards
        for rival in (base.merge(), copy.deepcopy(base)):
            fit(rival.requires_grad_(True), x, y, lr)
            rivals.append(error(rival))
    assert error(student) < 0.2 * min(rivals)
    assert min(rivals) < error(base)
