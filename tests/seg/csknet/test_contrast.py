"""Pixel contrast: closed forms, a reference by loops, gradients, degenerate input."""

import math

import pytest
import torch
from contrast_reference import loop_loss, random_samples, unit
from hypothesis import given, settings
from hypothesis import strategies as st

from mmir.registry import MODELS
from mmir.seg import PixelContrastHead, PixelContrastLoss, contrast_weight
from mmir.seg.csknet.contrast_memory import Samples
from mmir.utils.errors import UserError

K, V = 4, 6
"""Classes and views of the closed forms."""


def striped(classes=K, width=8):
    """Labels (1, classes, width): one row per class."""
    return torch.arange(classes)[:, None].expand(classes, width)[None].contiguous()


def one_hot(labels, channels=8):
    """Embeddings that are equal within a class and orthogonal between classes."""
    return torch.nn.functional.one_hot(labels, channels).permute(0, 3, 1, 2).double()


def run(embeddings, labels, predictions=None, **options):
    options = {'max_views': V, **options}
    predictions = labels if predictions is None else predictions
    return PixelContrastLoss(**options)(embeddings, labels, predictions)


@pytest.mark.parametrize('t', [0.1, 0.5])
def test_equal_embeddings(t):
    """Each positive competes with (K-1)V equal negatives."""
    labels = striped()
    x = torch.ones(1, 8, K, 8, dtype=torch.float64) / 8**0.5
    wanted = t / 0.07 * math.log(1 + (K - 1) * V)
    assert run(x, labels, temperature=t).item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize('t', [0.1, 0.5])
def test_orthogonal_classes(t):
    labels = striped()
    wanted = t / 0.07 * math.log(1 + (K - 1) * V * math.exp(-1 / t))
    got = run(one_hot(labels), labels, temperature=t)
    assert got.item() == pytest.approx(wanted, rel=1e-9)


def test_base_temperature():
    labels, x = striped(), unit(1, 8, K, 8)
    torch.manual_seed(0)
    one = run(x, labels)
    torch.manual_seed(0)
    assert run(x, labels, base_temperature=0.14).item() == pytest.approx(one.item() / 2)


def test_scale_before_the_head_does_not_matter():
    head = PixelContrastHead([6, 8], 16).double().eval()
    maps = [torch.randn(2, 6, 5, 5).double(), torch.randn(2, 8, 3, 3).double()]
    one = head(maps)
    for stage in head.stages:
        stage[-1].weight.data *= 3
        stage[-1].bias.data *= 3
    for a, b, m in zip(one, head(maps), maps, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        assert a.shape == (2, 16, *m.shape[2:])
        torch.testing.assert_close(a.norm(dim=1), torch.ones_like(a[:, 0]))


@pytest.mark.parametrize(
    'labels',
    [
        torch.zeros(1, 4, 8).long(),  # one class: no negatives
        torch.full((1, 4, 8), 255),
        striped(width=V),  # too few pixels
    ],
)
def test_nothing_to_contrast_is_zero_with_a_graph(labels):
    x = unit(1, 8, *labels.shape[1:]).requires_grad_()
    got = run(x, labels)
    got.backward()
    assert got.item() == 0
    assert torch.equal(x.grad, torch.zeros_like(x))


@pytest.mark.filterwarnings('ignore:Anomaly')
def test_no_intermediate_gradient_is_nan():
    """One anchor has no negatives, one no positives, one neither."""
    anchors = Samples(unit(3, 5).requires_grad_(), torch.tensor([0, 1, 2]))
    others = Samples(unit(2, 5, seed=1), torch.tensor([0, 0]))
    for rest in ([others], [anchors], [Samples(unit(0, 5), others.labels[:0])]):
        with torch.autograd.detect_anomaly(check_nan=True):
            got = PixelContrastLoss().compare(anchors, rest)
            got.backward()
        assert got.item() == 0
        assert torch.isfinite(anchors.features.grad).all()


def test_anchors_without_positives_are_dropped():
    """Class 2 has one anchor: its row is not in the mean."""
    anchors = random_samples(7, 2)
    lonely = Samples(
        torch.cat([anchors.features, unit(1, 5, seed=9)]),
        torch.cat([anchors.labels, torch.tensor([2])]),
    )
    got = PixelContrastLoss().compare(lonely, [lonely])
    assert got.item() == pytest.approx(loop_loss(lonely, [(lonely, True)]), rel=1e-12)
    alone = Samples(unit(3, 5), torch.arange(3))  # as with one view per class
    assert PixelContrastLoss().compare(alone, [alone]).item() == 0


@pytest.mark.parametrize('t', [0.1, 1.0])
@pytest.mark.parametrize('case', ['own', 'other', 'both', 'twice'])
def test_equals_the_loops(case, t):
    anchors, other = random_samples(20, 3, 1), random_samples(13, 4, 2)
    own, rest = (anchors, True), (other, False)
    wanted = dict(own=[own], other=[rest], both=[own, rest], twice=[rest, own, rest])
    loss = PixelContrastLoss(temperature=t)
    got = loss.compare(anchors, [samples for samples, _ in wanted[case]])
    assert got.item() == pytest.approx(loop_loss(anchors, wanted[case], t), rel=1e-10)


def test_forward_equals_the_loops():
    labels = torch.randint(3, (2, 12, 12))
    predictions = torch.randint(3, (2, 6, 6))
    x, loss = unit(2, 5, 6, 6), PixelContrastLoss(max_samples=29, max_views=5)
    torch.manual_seed(1)
    got = loss(x, labels, predictions)
    torch.manual_seed(1)
    anchors = loss.sample(x, labels, predictions)
    assert len(anchors.labels) == 24  # 29 // 6 of each
    assert got.item() == pytest.approx(loop_loss(anchors, [(anchors, True)]), rel=1e-10)


def test_samples_are_the_embeddings_of_their_pixels():
    """Channel 0 is the label at stride 2, channel 1 the place."""
    labels = torch.randint(3, (2, 8, 10))
    small = labels[:, ::2, ::2]
    place = torch.arange(40.0).view(2, 4, 5)
    x = torch.stack([small.float(), place], 1)
    features, found = PixelContrastLoss(max_views=3).sample(x, labels, labels)
    assert len(found) > 6
    assert torch.equal(features[:, 0].long(), found)
    assert torch.equal(found, small.flatten()[features[:, 1].long()])


def test_ignored_pixels_have_no_gradient():
    labels = striped(width=12)
    labels[..., :4] = 255
    x = unit(1, 8, K, 12).requires_grad_()
    run(x, labels).backward()
    used = (x.grad != 0).any(1)
    assert not used[..., :4].any()
    assert used.sum() == K * V


def test_gradients():
    labels = striped(3, 5)
    loss = PixelContrastLoss(temperature=0.5, max_views=4)
    fixed = random_samples(6, 4, 3)

    def through(x):
        torch.manual_seed(0)
        return loss(torch.nn.functional.normalize(x, dim=1), labels, labels)

    assert torch.autograd.gradcheck(through, unit(1, 4, 3, 5).requires_grad_())

    def both(a, b):
        anchors = Samples(a, fixed.labels)
        return loss.compare(anchors, [anchors, Samples(b, fixed.labels)])

    given = fixed.features.clone().requires_grad_(), unit(6, 5, seed=5).requires_grad_()
    assert torch.autograd.gradcheck(both, given)


def test_a_step_pulls_classes_together():
    labels = striped(2, 20)
    x = unit(1, 8, 2, 20, dtype=torch.float32).requires_grad_()
    first = run(torch.nn.functional.normalize(x, dim=1), labels)
    for _ in range(30):
        loss = run(torch.nn.functional.normalize(x, dim=1), labels)
        (grad,) = torch.autograd.grad(loss, x)
        x.data -= grad
    assert loss.item() < first.item() / 4


def test_autocast_and_half_precision():
    labels, x = striped(width=7), unit(1, 8, K, 7, dtype=torch.float32)
    torch.manual_seed(0)
    wanted = run(x, labels)
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        with torch.autocast('cpu', torch.bfloat16):
            got = run(x.to(dtype), labels)
        assert got.dtype == torch.float32
        rel = 1e-6 if dtype == torch.float32 else 0.02
        assert got.item() == pytest.approx(wanted.item(), rel=rel)
    with torch.autocast('cpu', torch.bfloat16):
        (projected,) = PixelContrastHead([8], 16)([x])
    assert projected.dtype == torch.float32
    torch.testing.assert_close(projected.norm(dim=1), torch.ones(1, K, 7))


def test_a_low_temperature_does_not_overflow():
    labels = striped()
    x = unit(1, 8, K, 8, dtype=torch.float32).requires_grad_()
    got = run(x, labels, temperature=1e-3)
    got.backward()
    assert got.item() > 0
    assert torch.isfinite(x.grad).all()


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(12)), st.integers(0, 100))
def test_the_order_of_anchors_does_not_matter(order, seed):
    anchors = random_samples(12, 4, seed)
    moved = Samples(anchors.features[order], anchors.labels[order])
    one, two = (PixelContrastLoss().compare(a, [a]) for a in (anchors, moved))
    assert one.item() == pytest.approx(two.item(), rel=1e-9, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 2, 9, 255]), min_size=32, max_size=32),
    st.integers(1, 6),
    st.integers(1, 40),
)
def test_any_labels_give_finite_values(labels, max_views, max_samples):
    labels = torch.tensor(labels).view(2, 4, 4)
    x = unit(2, 3, 4, 4, dtype=torch.float32).requires_grad_()
    got = run(x, labels, max_views=max_views, max_samples=max_samples)
    got.backward()
    assert torch.isfinite(got)
    assert torch.isfinite(x.grad).all()
    assert got.item() >= 0


def test_head():
    widths = (256, 512, 1024, 2048)
    head = PixelContrastHead(widths)
    assert sum(p.numel() for p in head.parameters()) == 6_566_144
    with pytest.raises(UserError, match='3 maps for a projection of 4 stages'):
        head([torch.zeros(1, 8, 2, 2)] * 3)
    with pytest.raises(ValueError, match='empty'):
        PixelContrastHead([])


def test_refusals():
    x, labels = unit(2, 8, 4, 4), torch.zeros(2, 4, 4).long()
    for wrong in (
        (x, labels[:, None], labels),
        (x, labels, x),
        (x[:1], labels, labels),
        (x, labels, labels[:1]),
    ):
        with pytest.raises(UserError, match='argmax'):
            PixelContrastLoss()(*wrong)
    for key in ('temperature', 'base_temperature', 'max_samples', 'max_views'):
        with pytest.raises(ValueError, match='positive'):
            PixelContrastLoss(**{key: 0})


def test_weight_is_zero_in_the_warm_up():
    got = [contrast_weight(i, 0.1, 5000) for i in (0, 4999, 5000, 39999)]
    assert got == [0, 0, 0.1, 0.1]
    assert contrast_weight(0, 0.1, 0) == 0.1


def test_builds_from_a_config():
    built = MODELS.build(
        dict(type='mmir.PixelContrastLoss', memory=dict(num_classes=3, size=4))
    )
    assert built.memory.contents().features.shape == (0, 256)
    assert (
        len(MODELS.build(dict(type='mmir.PixelContrastHead', in_channels=[4])).stages)
        == 1
    )
