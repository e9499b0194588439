"""Memory of embeddings: ring buffers, what enters, what the loss makes of it."""

import pytest
import torch
from contrast_reference import loop_loss, unit

from mmir.seg import PixelContrastLoss
from mmir.seg.csknet.contrast_memory import ContrastMemory, Samples


def numbered(start, labels):
    """Samples with one channel that counts from `start`."""
    labels = torch.tensor(labels, dtype=torch.long)
    return Samples(torch.arange(start, start + len(labels)).float()[:, None], labels)


def queue(size=3, classes=2):
    return ContrastMemory(classes, channels=1, size=size).pixels


def test_queue_advances_by_what_it_got_and_wraps_around():
    q = queue()
    q.push(numbered(1, [0, 1, 0]))
    assert q.features[..., 0].tolist() == [[1, 3, 0], [2, 0, 0]]
    assert q.pointer.tolist() == q.filled.tolist() == [2, 1]
    q.push(numbered(4, [0, 0]))
    assert q.features[..., 0].tolist() == [[5, 3, 4], [2, 0, 0]]
    assert (q.pointer.tolist(), q.filled.tolist()) == ([1, 1], [3, 1])
    q.push(numbered(6, [1, 1, 1]))
    assert q.features[..., 0].tolist() == [[5, 3, 4], [8, 6, 7]]
    assert (q.pointer.tolist(), q.filled.tolist()) == ([1, 1], [3, 3])


def test_queue_takes_no_more_than_its_size():
    q = queue()
    q.push(numbered(1, [0, 0]))
    q.push(numbered(3, [0, 0, 0, 0, 0]))
    assert q.features[0, :, 0].tolist() == [4, 5, 3]
    assert (q.pointer.tolist(), q.filled.tolist()) == ([2, 0], [3, 0])
    q.push(numbered(9, []))
    assert q.pointer.tolist() == [2, 0]


def test_queue_equals_a_list_per_class():
    torch.manual_seed(0)
    q, lists, number = queue(size=5, classes=3), [[], [], []], 1
    for _ in range(40):
        labels = torch.randint(3, (int(torch.randint(6, ())),)).tolist()
        q.push(numbered(number, labels))
        for label in labels:
            lists[label] = [*lists[label], number][-5:]
            number += 1
    got = [sorted(row.tolist()) for row in q.features[..., 0]]
    assert got == lists
    assert q.filled.tolist() == [5, 5, 5]


def test_only_filled_slots_are_used():
    memory = ContrastMemory(3, channels=1, size=4)
    assert memory.contents().features.shape == (0, 1)
    memory.pixels.push(numbered(1, [0, 2]))
    memory.regions.push(numbered(3, [0]))
    features, labels = memory.contents()
    assert features[:, 0].tolist() == [1, 2, 3]
    assert labels.tolist() == [0, 2, 0]


def test_update():
    """Class 0 enters, ignored and unknown labels do not. Regions are means."""
    memory = ContrastMemory(3, channels=4, size=50, pixel_update=2)
    labels = torch.tensor([[[0, 0, 0, 2], [255, 2, 2, 7]], [[2, 255, 0, -1], [2] * 4]])
    x = unit(2, 4, 2, 4, dtype=torch.float32)
    memory.update(x, labels, ignore_index=255)
    assert memory.pixels.filled.tolist() == [2 + 1, 0, 2 + 2]
    assert memory.regions.filled.tolist() == [2, 0, 2]
    for image in range(2):
        for label in (0, 2):
            mean = x[image][:, labels[image] == label].mean(1)
            got = memory.regions.features[label, image]
            torch.testing.assert_close(got, mean / mean.norm())
    for label in (0, 2):
        pixels = x.permute(0, 2, 3, 1)[labels == label]
        got = memory.pixels.features[label, : memory.pixels.filled[label]]
        assert (torch.cdist(got, pixels).min(1).values < 1e-6).all()
        assert len(got.unique(dim=0)) == len(got)


def test_pixels_are_drawn_at_random():
    x, found = unit(1, 4, 5, 8, dtype=torch.float32), []
    for seed in range(8):
        memory = ContrastMemory(1, channels=4, size=9, pixel_update=1)
        torch.manual_seed(seed)
        memory.update(x, torch.zeros(1, 5, 8).long(), ignore_index=255)
        found.append(memory.pixels.features[0, 0])
    assert len(torch.stack(found).unique(dim=0)) > 4


def test_ignore_index_may_be_a_class():
    memory = ContrastMemory(2, channels=4, size=9)
    memory.update(unit(1, 4, 1, 4), torch.tensor([[[0, 0, 1, 1]]]), ignore_index=0)
    assert memory.pixels.filled.tolist() == [0, 2]
    memory.update(unit(1, 4, 1, 4)[:0], torch.zeros(0, 1, 4).long(), ignore_index=0)
    assert memory.pixels.filled.tolist() == [0, 2]


def memory_loss(**options):
    memory = dict(num_classes=3, channels=5, size=8)
    return PixelContrastLoss(max_views=4, memory=memory, **options)


def test_loss_equals_the_loops():
    labels = torch.randint(3, (2, 6, 6))
    x, loss = unit(2, 5, 6, 6), memory_loss()
    for seed in range(4):
        bank = loss.memory.contents()
        assert (len(bank.labels) > 0) == (seed > 0)
        torch.manual_seed(seed)
        got = loss(x, labels, labels)
        torch.manual_seed(seed)
        anchors = loss.sample(x, labels, labels)
        wanted = loop_loss(anchors, [(anchors, True), (bank, False)])
        assert got.item() == pytest.approx(wanted, rel=1e-10)
    assert loss.memory.pixels.filled.tolist() == [8, 8, 8]
    assert loss.memory.regions.filled.tolist() == [8, 8, 8]


def test_bank_gives_positives_to_single_views():
    """One view per class has no positives in the batch."""
    labels = torch.arange(3)[:, None].expand(3, 4)[None].contiguous()
    loss = PixelContrastLoss(
        max_views=1, memory=dict(num_classes=3, channels=5, size=8)
    )
    x = unit(1, 5, 3, 4).requires_grad_()
    assert loss(x, labels, labels).item() == 0
    second = loss(x, labels, labels)
    second.backward()
    assert second.item() > 0
    assert (x.grad != 0).any(1).sum() == 3


def test_gradient_survives_the_update_and_the_bank_has_none():
    labels = torch.randint(3, (2, 6, 6))
    loss = memory_loss()
    x = unit(2, 5, 6, 6).requires_grad_()
    total = loss(x, labels, labels) + loss(x, labels, labels)
    total.backward()
    assert torch.isfinite(x.grad).all()
    assert not loss.memory.contents().features.requires_grad


def test_only_training_updates():
    labels, loss = torch.randint(3, (2, 6, 6)), memory_loss().eval()
    loss(unit(2, 5, 6, 6), labels, labels)
    assert loss.memory.pixels.filled.tolist() == [0, 0, 0]


def test_resumes():
    labels, one, two = torch.randint(3, (2, 6, 6)), memory_loss(), memory_loss()
    one(unit(2, 5, 6, 6), labels, labels)
    two.load_state_dict(one.state_dict())
    for a, b in zip(one.memory.contents(), two.memory.contents(), strict=True):
        assert torch.equal(a, b)
    assert len(two.memory.contents().labels) > 0
    assert PixelContrastLoss().state_dict() == {}


def test_refusals():
    for key in ('num_classes', 'channels', 'size', 'pixel_update'):
        with pytest.raises(ValueError, match='must be positive'):
            ContrastMemory(**{'num_classes': 2, key: 0})
