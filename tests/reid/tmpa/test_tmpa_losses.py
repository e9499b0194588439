"""`MSSLoss` and `MSILoss`: closed forms, gradients, missing modalities."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mmir.reid import MSILoss, MSSLoss
from mmir.utils.errors import UserError

LABELS = torch.tensor([5, 2, 5, 2])
IS_RGB = torch.tensor([True, True, False, False])


def test_mss_of_known_angles() -> None:
    # identity 5: right angle; identity 2: the same direction, of another length
    specific = torch.tensor([[2.0, 0], [1, 0], [0, 1], [3, 0]])
    shared = torch.tensor([[-4.0, 0], [-1, 0], [-1, 0], [0.6, 0.8]])
    inter, intra = (0 + 1) / 2, (1 - 0.4**0.5) / 4
    loss = MSSLoss()(shared, specific, LABELS, IS_RGB)
    torch.testing.assert_close(loss, torch.tensor(inter + intra))
    half = MSSLoss(loss_weight=0.5)(shared, specific, LABELS, IS_RGB)
    torch.testing.assert_close(half, loss / 2)
    wide = MSSLoss(margin=1.5)(shared, specific, LABELS, IS_RGB)
    right, near = 1.5 - 2**0.5, 1.5 - 0.4**0.5
    expected = (right + 1.5) / 2 + (3 * right + near) / 4
    torch.testing.assert_close(wide, torch.tensor(expected))


def test_mss_uses_centres_of_directions() -> None:
    labels, is_rgb = torch.zeros(3).long(), torch.tensor([True, True, False])
    specific = torch.tensor([[9.0, 0], [0, 1], [1, 0]])
    shared = torch.tensor([[-1.0, -1]]).expand(3, 2)
    loss = MSSLoss()(shared, specific, labels, is_rgb)
    torch.testing.assert_close(loss, torch.tensor(1 - 0.5**0.5))


def test_mss_ends_at_the_margin_and_pushes_apart_before() -> None:
    apart = torch.eye(4)[[0, 0, 1, 1]].requires_grad_()
    shared = torch.eye(4)[[2, 3, 2, 3]].requires_grad_()
    loss = MSSLoss()(shared, apart, LABELS, IS_RGB)
    loss.backward()
    assert loss.item() == 0
    assert not apart.grad.any()
    assert not shared.grad.any()
    torch.manual_seed(0)
    x = (1 + 0.1 * torch.rand(2, 4, 8)).double().requires_grad_()
    before = MSSLoss()(*x, LABELS, IS_RGB)
    before.backward()
    assert MSSLoss()(*(x - 0.1 * x.grad), LABELS, IS_RGB) < before - 1e-3


def test_equal_features_have_a_finite_gradient() -> None:
    x = torch.ones(4, 3, requires_grad=True)
    MSSLoss()(x, x, LABELS, IS_RGB).backward()
    assert x.grad.isfinite().all()


def msi() -> MSILoss:
    torch.manual_seed(0)
    return MSILoss(6, 3, loss_weight=0.5)


def slots() -> Tensor:
    return torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(1))


def test_msi_by_definition() -> None:
    module, (rgb, ir) = msi().eval(), slots()
    scores = [f(x) for f, x in ((module.rgb, rgb), (module.ir, ir))]
    parts = [
        cross_entropy(scores[0][:2], LABELS[:2]),
        cross_entropy(scores[0][2:], LABELS[2:]),
        cross_entropy(scores[1][:2], LABELS[:2]),
        cross_entropy(scores[1][2:], LABELS[2:]),
        (rgb[2:] - rgb[:2]).abs().mean(),  # one given feature is its own centre
        (ir[:2] - ir[2:]).abs().mean(),
    ]
    torch.testing.assert_close(module(rgb, ir, LABELS, IS_RGB), sum(parts) / 2)


def test_msi_trains_generated_features_but_no_centres() -> None:
    module, (rgb, ir) = msi().eval(), slots()
    rgb.requires_grad_()
    for classify in (module.rgb, module.ir):  # leaves the distance to the centres
        classify[1].weight.data.zero_()
    module(rgb, ir, LABELS, IS_RGB).backward()
    assert not rgb.grad[:2].any()
    expected = 0.5 * (rgb[2:] - rgb[:2]).sign() / 6
    torch.testing.assert_close(rgb.grad[2:], expected.detach())


def test_centres_are_means_of_the_identity() -> None:
    module, labels = msi().eval(), torch.zeros(4).long()
    for classify in (module.rgb, module.ir):
        classify[1].weight.data.zero_()
    rgb = torch.tensor([[1.0, 1, 1], [3, 3, 3], [2, 2, 2], [5, 5, 5]])
    loss = module(rgb, torch.zeros(4, 3), labels, IS_RGB)
    entropy = 4 * torch.tensor(6.0).log()
    torch.testing.assert_close(loss, 0.5 * (entropy + 1.5))


@pytest.mark.parametrize('is_rgb', [torch.ones(4).bool(), torch.zeros(4).bool()])
def test_batches_of_one_modality(is_rgb: Tensor) -> None:
    x = slots().requires_grad_()
    loss = msi()(*x, LABELS, is_rgb) + MSSLoss()(*x, LABELS, is_rgb)
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()
    assert x.grad.any()


def test_half_precision_is_computed_in_full() -> None:
    shared, specific = slots()
    with torch.autocast('cpu', torch.bfloat16):
        loss = MSSLoss()(shared, specific, LABELS, IS_RGB)
    expected = MSSLoss()(shared, specific, LABELS, IS_RGB)
    assert torch.equal(loss, expected)


def test_shapes_that_do_not_fit_are_refused() -> None:
    x = torch.rand(4, 3)
    for args in ((x[:2], x), (x[..., None], x[..., None]), (x, x[:, :2])):
        with pytest.raises(UserError, match='neck'):
            MSSLoss()(*args, LABELS, IS_RGB)
    with pytest.raises(UserError, match='neck'):
        msi()(x, x, LABELS[:2], IS_RGB)
