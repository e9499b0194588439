"""Sampling of pixels: counts, hard and easy halves, limits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmir.seg.csknet.contrast_sampling import ranks, resize_labels, sample_pixels


def drawn(labels, predictions=None, max_samples=1024, max_views=4, ignore_index=255):
    """Draw pixels; return their image, class and if they are hard, and the indices."""
    predictions = labels if predictions is None else predictions
    index = sample_pixels(labels, predictions, max_samples, max_views, ignore_index)
    image = index // labels[0].numel()
    label = labels.flatten()[index]
    return image, label, predictions.flatten()[index] != label, index


def blocks(*sizes):
    """A label map of one row (1, 1, P) with so many pixels of class 0, 1, ..."""
    return torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))[None, None]


def per_class(label, classes):
    return torch.bincount(label, minlength=classes).tolist()


def test_equal_counts_per_image_and_class():
    labels = torch.cat([blocks(20, 5, 4, 11), blocks(5, 20, 11, 4)])
    image, label, _, index = drawn(labels)
    assert per_class(label[image == 0], 4) == [4, 4, 0, 4]  # 4 is not more than 4
    assert per_class(label[image == 1], 4) == [4, 4, 4, 0]
    assert len(index.unique()) == len(index)
    assert torch.equal(index, index.sort().values)


def test_limit_of_samples_is_shared():
    labels = torch.cat([blocks(20, 20), blocks(40, 0)])
    _, label, _, _ = drawn(labels, max_samples=8)
    assert per_class(label, 2) == [4, 2]  # 8 // 3 = 2 each, class 0 in two images


@pytest.mark.parametrize(
    ('hard', 'views', 'wanted'),
    [(10, 4, 2), (1, 4, 1), (0, 4, 0), (19, 4, 3), (20, 4, 4), (10, 5, 3), (10, 1, 1)],
)
def test_half_are_hard_and_the_others_fill_up(hard, views, wanted):
    labels = blocks(20)
    predictions = labels.clone()
    predictions[..., torch.randperm(20)[:hard]] = 3
    _, label, is_hard, _ = drawn(labels, predictions, max_views=views)
    assert len(label) == views
    assert is_hard.sum() == wanted


def test_more_classes_than_samples():
    labels = blocks(*[2] * 40)
    label = drawn(labels, max_samples=16, max_views=1)[1]
    assert len(label) == len(label.unique()) == 16
    found = torch.cat(
        [drawn(labels, max_samples=16, max_views=1)[1] for _ in range(30)]
    )
    assert len(found.unique()) == 40  # not always the same ones


def test_all_pixels_have_the_same_chance():
    torch.manual_seed(0)
    labels = blocks(8, 30)
    predictions = labels.clone()
    predictions[..., :4] = 1
    count = torch.zeros(38)
    for _ in range(2000):
        count[drawn(labels, predictions)[3]] += 1
    assert count[:8] / 2000 == pytest.approx(torch.full((8,), 0.5), abs=0.05)
    assert count[8:] / 2000 == pytest.approx(torch.full((30,), 4 / 30), abs=0.04)


def test_seed_repeats_the_draw():
    labels = blocks(50, 60)

    def draw(seed):
        torch.manual_seed(seed)
        return drawn(labels)[3]

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize('ignore', [255, 0, -100])
def test_ignored_pixels_are_never_drawn(ignore):
    labels = blocks(50, 60, 70)
    labels[labels == 1] = ignore
    label = drawn(labels, ignore_index=ignore)[1]
    assert len(label) == (4 if ignore == 0 else 8)
    assert (label != ignore).all()


def test_nothing_to_draw():
    assert len(drawn(blocks(4, 4))[3]) == 0
    assert len(drawn(torch.full((2, 9, 9), 255))[3]) == 0
    assert len(sample_pixels(*[torch.zeros(0, 3, 3).long()] * 2, 9, 9, 255)) == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 2, 7, 255]), min_size=24, max_size=24),
    st.lists(st.sampled_from([0, 1, 2, 7]), min_size=24, max_size=24),
    st.integers(1, 8),
    st.integers(1, 30),
)
def test_any_labels(labels, predictions, max_views, max_samples):
    shape = (2, 3, 4)
    labels = torch.tensor(labels).view(shape)
    predictions = torch.tensor(predictions).view(shape)
    image, label, hard, index = drawn(labels, predictions, max_samples, max_views)
    assert len(index) <= max_samples
    pairs = [(i, c) for i in range(2) for c in (0, 1, 2, 7)]
    sizes = {pair: int((labels[pair[0]] == pair[1]).sum()) for pair in pairs}
    fit = [pair for pair, size in sizes.items() if size > max_views]
    views = max(min(max_samples // max(len(fit), 1), max_views), 1)
    counts = {p: int(((image == p[0]) & (label == p[1])).sum()) for p in pairs}
    assert set(counts.values()) <= {0, views}
    assert sum(counts.values()) == views * min(len(fit), max_samples)
    for pair in (pair for pair in fit if counts[pair]):
        own = (image == pair[0]) & (label == pair[1])
        wrong = (labels[pair[0]] == pair[1]) & (predictions[pair[0]] != pair[1])
        total_hard = int(wrong.sum())
        got = int((own & hard).sum())
        least = max((views + 1) // 2, views - (sizes[pair] - total_hard))
        assert got == min(least, total_hard)


def test_ranks():
    group = torch.tensor([5, 2, 5, 5, 2])
    assert ranks(group).tolist() == [0, 0, 1, 2, 1]
    backwards = torch.tensor([4, 3, 2, 1, 0])
    assert ranks(group, backwards).tolist() == [2, 1, 1, 0, 0]


def test_labels_are_resized_to_the_nearest():
    labels = torch.arange(16).view(1, 4, 4).to(torch.uint8)
    assert resize_labels(labels, (2, 2)).tolist() == [[[0, 2], [8, 10]]]
    assert torch.equal(resize_labels(labels, (4, 4)), labels.long())
