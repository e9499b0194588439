"""Training in two processes: equal ranks, frozen base, clear errors."""

import copy

import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine.model import revert_sync_batchnorm
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from two_ranks import RANKS, in_two_ranks

from mmir.adapters import freeze_
from mmir.tensorfact import TensorFactConv, augment_, factorize_

STEPS = 3


class Detector(nn.Module):
    """Scores and boxes at every position; boxes count where there are objects."""

    def __init__(self):
        super().__init__()
        bn = {'type': 'BN'}
        self.backbone = nn.Sequential(
            ConvModule(3, 8, 3, padding=1, norm_cfg=bn),
            ConvModule(8, 8, 3, padding=1, norm_cfg=bn),
        )
        self.bbox_head = nn.ModuleList([nn.Conv2d(8, 1, 1), nn.Conv2d(8, 4, 1)])

    def forward(self, x, objects):
        scores, boxes = (head(self.backbone(x)) for head in self.bbox_head)
        positive = boxes.permute(0, 2, 3, 1)[objects > 0]
        loss_box = (positive - 1).square().sum() / max(1, len(positive))
        return (scores[:, 0] - objects).square().mean() + loss_box + 0 * boxes.sum()


def detector():
    torch.manual_seed(0)
    model = Detector()
    factorize_(model, 3)
    augment_(model, 'ir', 1)
    freeze_(model, 'ir', norm='all')
    return model.train()


def batch(rank, step):
    """Images of one rank; rank 1 sees no object but in the first step."""
    generator = torch.Generator().manual_seed(10 * step + rank)
    objects = torch.zeros(2, 8, 8)
    if rank == 0 or step == 0:
        objects[:, 2:4, 3:5] = 1
    return torch.randn(2, 3, 8, 8, generator=generator), objects


def train(rank, model, batches):
    """Some steps of distributed training without a search for unused parameters."""
    wrapped = DistributedDataParallel(model, find_unused_parameters=False)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=0.05, weight_decay=0.1)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = wrapped(*batches(rank, step))
        loss = sum(loss.values()) if isinstance(loss, dict) else loss
        loss.backward()
        optimizer.step()
    refusal = None
    try:
        augment_(wrapped, 'late', 1)
    except ValueError as error:
        refusal = str(error)
    return {'state': model.state_dict(), 'refusal': refusal}


def toy(rank):
    return train(rank, detector(), batch)


def test_two_ranks_learn_the_same(tmp_path):
    results = in_two_ranks(toy, tmp_path)
    first, second = (result['state'] for result in results)
    before = detector().state_dict()
    # The same in one process: the gradient of the sum is the mean over the ranks.
    for key, value in first.items():
        if 'running_' not in key:
            assert torch.equal(value, second[key]), key
        if key.endswith(('conv.A', 'conv.B')):
            assert torch.equal(value, before[key]), key
        elif 'num_batches' not in key:
            assert not torch.equal(value, before[key]), key
    assert all('before it is wrapped' in result['refusal'] for result in results)
    alone = detector()
    learning = [p for p in alone.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=0.05, weight_decay=0.1)
    for step in range(STEPS):
        optimizer.zero_grad()
        for rank in range(RANKS):
            (alone(*batch(rank, step)) / RANKS).backward()
        optimizer.step()
    # Adam divides gradients near zero by their size, which magnifies rounding.
    for key, value in alone.named_parameters():
        torch.testing.assert_close(first[key], value.detach(), rtol=1e-3, atol=1e-3)


def yolov7(rank):
    from mmdet.structures import DetDataSample
    from mmengine.registry import MODELS
    from mmengine.structures import InstanceData

    import mmir.det  # noqa: F401

    torch.manual_seed(0)
    head = {'type': 'mmir.YOLOHeadModule', 'num_classes': 3}
    head['in_channels'] = (128, 256, 512)
    model = MODELS.build(
        {
            'type': 'mmir.YOLOv7',
            '_scope_': 'mmdet',
            'data_preprocessor': {'type': 'mmdet.DetDataPreprocessor'},
            'backbone': {'type': 'mmir.YOLOv7Backbone', 'arch': 'tiny'},
            'neck': {'type': 'mmir.YOLOv7Neck', 'arch': 'tiny'},
            'bbox_head': {'type': 'mmir.YOLOHead', 'head_module': head},
        }
    )
    factorize_(model, 4)
    augment_(model, 'ir', 1)
    freeze_(model, 'ir')

    def batches(rank, step):
        generator = torch.Generator().manual_seed(10 * step + rank)
        samples = []
        for _ in range(2):
            boxes = torch.tensor([[8.0, 8.0, 40.0, 44.0]])[: 1 - rank]
            labels = torch.zeros(len(boxes), dtype=torch.long)
            sample = DetDataSample(metainfo={'img_shape': (64, 64)})
            sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
            samples.append(sample)
        images = torch.rand(2, 3, 64, 64, generator=generator)
        return images, samples, 'loss'

    model.forward = lossy(model.forward)
    return train(rank, model.train(), batches)


def lossy(forward):
    """The sum of all losses, as the runner takes it."""

    def total(*args):
        losses = forward(*args).values()
        return sum(sum(v) if isinstance(v, list) else v for v in losses)

    return total


@pytest.mark.slow
def test_yolov7_with_a_rank_that_sees_no_object(tmp_path):
    pytest.importorskip('mmdet')
    first, second = (result['state'] for result in in_two_ranks(yolov7, tmp_path))
    parameters = [key for key in first if 'running_' not in key]
    assert sum('.deltas.ir.' in key for key in parameters) == 2 * 23
    for key in parameters:
        assert first[key].isfinite().all(), key
        assert torch.equal(first[key], second[key]), key


def test_conversion_to_synchronized_batch_norm_leaves_the_layers():
    model, x = detector().eval(), torch.randn(1, 3, 8, 8)
    objects = torch.zeros(1, 8, 8)
    expected, state = model(x, objects), copy.deepcopy(model.state_dict())
    layers = [m for m in model.modules() if isinstance(m, TensorFactConv)]
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    kinds = [type(m) for m in model.modules()]
    assert kinds.count(nn.SyncBatchNorm) == len(layers) == 2
    assert [m for m in model.modules() if isinstance(m, TensorFactConv)] == layers
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)
    model = revert_sync_batchnorm(model).eval()
    assert [m for m in model.modules() if isinstance(m, TensorFactConv)] == layers
    torch.testing.assert_close(model(x, objects), expected)


@pytest.mark.parametrize('place', ['whole', 'part'])
def test_wrapped_models_are_not_widened(place):
    model = nn.Sequential(ConvModule(3, 8, 3))
    factorize_(model, 3)
    wrapped = nn.DataParallel(model)
    if place == 'part':
        model[0] = nn.DataParallel(model[0])
        wrapped = model
    keys = list(wrapped.state_dict())
    with pytest.raises(ValueError, match='before it is wrapped'):
        augment_(wrapped, 'ir', 1)
    assert list(wrapped.state_dict()) == keys
    dense = nn.DataParallel(nn.Sequential(nn.Conv2d(3, 8, 3)))
    with pytest.raises(ValueError, match='before it is wrapped'):
        factorize_(dense, 3)
