"""Assignment, losses and predictions of YOLOv7, and their GPU synchronization."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from _detectors import METHODS, adapted, batch, detector
from _parts import WaitCounter
from gpu_compare import BOUNDS, assert_close
from torch import Tensor, nn

from mmir.det.yolo.head import YOLOHead, _collect

pytestmark = pytest.mark.gpu
SIZE = 160


def maps(head: YOLOHead, images: int, seed: int) -> list[Tensor]:
    """Random raw maps of images of `SIZE` pixels, as of a network that has learned."""
    draw = torch.Generator().manual_seed(seed)
    channels = head.head_module.num_anchors * (5 + head.num_classes)
    return [
        torch.randn(images, channels, SIZE // s, SIZE // s, generator=draw)
        for s in head.strides
    ]


def truth(device: str, images: int = 3, boxes: int = 8) -> list:
    samples = batch(images, SIZE, device, boxes)['data_samples']
    return [sample.gt_instances for sample in samples]


@pytest.fixture(scope='module')
def head() -> YOLOHead:
    torch.manual_seed(0)
    return detector('tiny').bbox_head


@pytest.mark.parametrize('seed', range(3))
def test_assignment(device, head, seed):
    found = []
    for place in ('cpu', device):
        own = copy.deepcopy(head).to(place)
        preds = [own._per_anchor(m.to(place)) for m in maps(head, 3, seed)]
        targets = _collect(truth(place), torch.device(place))
        matches = own.assigner.assign(preds, targets, own.anchors, own.strides)
        assert matches.gt.device.type == place
        columns = (column.tolist() for column in vars(matches).values())
        found.append(sorted(zip(*columns, strict=True)))
    assert len(found[0]) > 20
    assert found[0] == found[1]


@pytest.mark.parametrize('seed', range(3))
def test_losses_and_their_gradients(device, head, seed):
    found = []
    for place in ('cpu', device):
        own = copy.deepcopy(head).to(place)
        raw = [m.to(place).requires_grad_() for m in maps(head, 3, seed)]
        losses = own.loss_by_feat(raw, truth(place), [{}] * 3)
        gradients = torch.autograd.grad(sum(losses.values()), raw)
        found.append([*losses.values(), *gradients])
    for mine, theirs in zip(found[1], found[0], strict=True):
        assert_close(mine, theirs, BOUNDS[torch.float32])


@torch.no_grad()
def test_predictions(device, head):
    metas = [dict(img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE))] * 2
    found = []
    for place in ('cpu', device):
        own = copy.deepcopy(head).to(place).eval()
        cfg = copy.deepcopy(own.test_cfg)
        raw = [m.to(place) for m in maps(head, 2, 0)]
        found.append(own.predict_by_feat(raw, metas, cfg))
    for theirs, mine in zip(*found, strict=True):
        assert mine.bboxes.device.type == device
        assert len(mine) == len(theirs) > 10
        # boxes of nearly the same score may take each other's place
        order = [x.scores.cpu().argsort(descending=True) for x in (mine, theirs)]
        scores = (x.scores.cpu()[o] for x, o in zip((mine, theirs), order, strict=True))
        assert_close(*scores, 1e-5)
        assert_close(mine.bboxes.cpu().sum(0), theirs.bboxes.sum(0), 1e-4)


@contextmanager
def no_wait(device: str) -> Iterator[None]:
    """Raise where the host waits for the GPU; on a CPU, assert that it would not."""
    if device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode('error')
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode('default')
        return
    with WaitCounter() as counter:
        yield
    assert not counter.found, counter.found


def waits(device: str, call: Callable[[], object]) -> int:
    """How often the host waits for the GPU in a call; on a CPU, would wait."""
    if device != 'cuda':
        with WaitCounter() as counter:
            call()
        return sum(counter.found.values())
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            call()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return sum('called a synchronizing' in str(w.message) for w in caught)


def prepared(model: nn.Module, device: str, boxes: int) -> dict:
    """A batch as the network takes it, on the device, after a first step."""
    data = model.data_preprocessor(batch(2, SIZE, device, boxes), True)
    sum(m.sum() for m in model(**data, mode='tensor')[0]).backward()
    model.zero_grad()
    return data


@pytest.mark.parametrize('method', METHODS)
def test_the_network_waits_nowhere(device, method):
    model = adapted(detector('tiny'), method).to(device).train()
    data = prepared(model, device, 8)
    with no_wait(device):
        raw = model(**data, mode='tensor')[0]
        loss = sum(m.sum() for m in raw)
        loss.backward()
    assert loss.isfinite()


def test_the_losses_wait_a_few_times_an_image_whatever_the_boxes(device, head):
    """The assignment has sizes that depend on values: candidates, k, who is taken."""
    own = copy.deepcopy(head).to(device)
    raw = [m.to(device).requires_grad_() for m in maps(head, 2, 0)]
    few, many = (truth(device, 2, boxes) for boxes in (2, 40))
    own.loss_by_feat(raw, many, [{}] * 2)  # the first call sets up what stays
    counts = [
        waits(device, partial(own.loss_by_feat, raw, gts, [{}] * 2))
        for gts in (few, many)
    ]
    assert counts[0] == counts[1]
    assert 0 < counts[0] <= 40
