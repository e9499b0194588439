"""`mmir.ModalityShared` in detectors of mmdet and in ours."""

import copy
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import MODELS
from mmengine.runner import Runner
from paired_detectors import (
    DETECTORS,
    IR,
    RGB,
    batch,
    built,
    images,
    loss,
    predict,
    sample,
)
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset
from two_ranks import in_two_ranks

from mmir.layers import ModalityNorm, share_
from mmir.layers.modality_shared import exchanging_norms
from mmir.structures import PairError, drop_modalities

pytest.importorskip('mmdet')


@pytest.fixture(params=DETECTORS)
def pair(request: pytest.FixtureRequest) -> tuple[nn.Module, nn.Module]:
    return built(request.param)


@pytest.fixture(params=['rtmdet', 'yolov7'])
def two(request: pytest.FixtureRequest) -> tuple[nn.Module, nn.Module]:
    return built(request.param)


def assert_equal(left: Sequence[Any], right: Sequence[Any]) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert len(one.scores) > 0
        for key in ('bboxes', 'scores', 'labels'):
            assert torch.equal(one[key], other[key])


def assert_close(left: Sequence[Any], right: Sequence[Any]) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        for key in ('bboxes', 'scores', 'labels'):
            torch.testing.assert_close(one[key], other[key], rtol=1e-7, atol=1e-7)


def differ(left: Sequence[Any], right: Sequence[Any]) -> bool:
    pairs = zip(left, right, strict=True)
    return not any(
        torch.equal(a.scores, b.scores) and torch.equal(a.bboxes, b.bboxes)
        for a, b in pairs
    )


def test_without_a_modality_it_is_the_plain_detector(pair: tuple) -> None:
    plain, shared = pair
    x = images(2)
    for name, absent, part in (('ir', IR, x[:, 3:]), ('rgb', RGB, x[:, :3])):
        seen = x.clone()
        seen[:, :3] = seen[:, :3] if name == 'rgb' else torch.nan
        seen[:, 3:] = seen[:, 3:] if name == 'ir' else torch.nan
        found = predict(shared, seen, absent, absent)
        assert_equal(found, predict(plain, part, (), ()))
        assert differ(found, predict(shared, x, (), ()))


def test_a_mixed_batch_equals_its_samples(two: tuple) -> None:
    shared, x = two[1].double(), images(3).double()
    absent = IR, (), RGB
    found = predict(shared, x, *absent)
    alone = [predict(shared, x[k : k + 1], gone)[0] for k, gone in enumerate(absent)]
    assert_close(found, alone)


def test_a_batch_without_a_modality_has_all_gradients(pair: tuple) -> None:
    shared = pair[1].train()
    total = loss(shared, images(2), IR, IR)
    assert torch.isfinite(total)
    total.backward()
    trained = [(n, p) for n, p in shared.named_parameters() if p.requires_grad]
    assert [n for n, p in trained if p.grad is None] == []
    of = {
        name: [p for n, p in trained if f'.copies.{name}.' in n]
        for name in ('rgb', 'ir')
    }
    assert all(p.grad.count_nonzero() == 0 for p in of['rgb'])
    assert len(of['rgb']) == len(of['ir']) > 10
    assert any(p.grad.count_nonzero() > 0 for p in of['ir'])


def test_other_gradients_are_those_of_the_plain_detector(two: tuple) -> None:
    plain, shared = (model.train() for model in two)
    x = images(2)
    loss(shared, x, IR, IR).backward()
    loss(plain, x[:, 3:], (), ()).backward()
    own = dict(shared.named_parameters())
    before = {n for n, m in shared.named_modules() if isinstance(m, ModalityNorm)}
    for name, parameter in plain.named_parameters():
        layer, _, kind = name.rpartition('.')
        key = f'{layer}.copies.ir.{kind}' if layer in before else name
        assert torch.equal(own[key].grad, parameter.grad), name


def test_copies_and_averages_work_alone(two: tuple) -> None:
    shared, x = two[1], images(2)
    expected = predict(shared, x, (), IR)
    average = ExponentialMovingAverage(shared)
    average.update_parameters(shared)
    others = copy.deepcopy(shared), pickle.loads(pickle.dumps(shared)), average.module
    for other in others:
        assert_equal(predict(other, x, (), IR), expected)
        for parameter in other.backbone.parameters():
            nn.init.zeros_(parameter)
        assert differ(predict(other, x, (), IR), expected)
    assert_equal(predict(shared, x, (), IR), expected)


def test_its_own_checkpoint(two: tuple) -> None:
    shared, x = two[1], images(1)
    other = copy.deepcopy(shared)
    for layer in shared.modules():  # norms that differ between the modalities
        if isinstance(layer, ModalityNorm):
            nn.init.uniform_(layer.copies['ir'].weight, 0.5, 1.5)
    expected = predict(shared, x, ())
    assert differ(predict(other, x, ()), expected)
    other.load_state_dict(shared.state_dict())
    assert_equal(predict(other, x, ()), expected)


def views(data: Mapping, absent: Sequence[str]) -> dict[str, list]:
    """The images and their mirror images, as test-time augmentation collates them."""
    mirrored = [s.clone() for s in data['data_samples']]
    for each in mirrored:
        each.set_metainfo(dict(flip=True, flip_direction='horizontal'))
    both = dict(
        inputs=[data['inputs'], [x.flip(-1) for x in data['inputs']]],
        data_samples=[data['data_samples'], mirrored],
    )
    return drop_modalities(both, absent)


def test_time_augmentation(two: tuple) -> None:
    from mmdet.models import DetTTAModel

    cfg = ConfigDict(nms=dict(type='nms', iou_threshold=0.6), max_per_img=20)
    plain, shared = (DetTTAModel(module=model, tta_cfg=cfg) for model in two)
    data = views(batch(2), IR)
    with torch.no_grad():
        found = shared.test_step(data)
        joint = shared.test_step(views(batch(2), ()))
        # the plain detector reads infrared behind the same preprocessor
        handle = plain.module.backbone.register_forward_pre_hook(
            lambda _, args: args[0][:, 3:]
        )
        wanted = plain.test_step(data)
        handle.remove()
    assert_equal(*([s.pred_instances for s in x] for x in (found, wanted)))
    assert differ(*([s.pred_instances for s in x] for x in (found, joint)))


class Pairs(Dataset):
    """Packed pairs."""

    metainfo = dict(classes=('person',))

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> dict[str, Any]:
        data = batch(3)
        return {key: value[index] for key, value in data.items()}


class Scores(BaseMetric):
    """The sum of the scores of all predictions."""

    def process(self, data_batch: dict, data_samples: Sequence[Any]) -> None:
        for each in data_samples:
            self.results.append(each.pred_instances.scores.double().sum().item())

    def compute_metrics(self, results: list) -> dict[str, float]:
        return dict(scores=sum(results))


def test_the_loop_over_subsets(two: tuple, tmp_path: Path) -> None:
    shared = two[1]
    runner = Runner(
        shared,
        str(tmp_path),
        test_dataloader=dict(
            dataset=Pairs(),
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        test_evaluator=Scores(),
        test_cfg=dict(type='mmir.MissingModalityTestLoop'),
        default_scope='mmdet',
        experiment_name='subsets',
    )
    found = runner.test()
    assert set(found) == {'rgb/scores', 'ir/scores', 'rgb+ir/scores'}
    for label, gone in (('rgb', RGB), ('ir', IR), ('rgb+ir', ())):
        data, total = drop_modalities(batch(3), gone), 0.0
        for rows in (slice(0, 2), slice(2, 3)):  # the batches of the loader
            with torch.no_grad():
                outs = shared.test_step({k: v[rows] for k, v in data.items()})
            total += sum(s.pred_instances.scores.double().sum().item() for s in outs)
        assert found[f'{label}/scores'] == pytest.approx(total, rel=1e-9)
    assert len({*found.values()}) == 3


def test_a_sample_with_nothing_is_named_and_leaves_no_trace(two: tuple) -> None:
    shared, x = two[1], images(1)
    expected = predict(shared, x, IR)
    with pytest.raises(PairError, match='nothing to use'):
        predict(shared, x, (*IR, *RGB))
    assert_equal(predict(shared, x, IR), expected)


def test_where_yolov7_exchanges() -> None:
    names = [name for name, _ in exchanging_norms(built('yolov7')[1].backbone)]
    assert names == [  # the last of the chained convolutions of each stage
        'stage1.0.blocks.1.bn',
        *(f'stage{k}.1.blocks.1.bn' for k in (2, 3, 4)),
    ]


def test_where_yolov5_exchanges() -> None:
    backbone = MODELS.build(dict(type='mmir.YOLOv5Backbone', arch='n'))
    share_(backbone, ('rgb', 'ir'), channel_exchange=dict(stages=(0,)))
    names = [name for name, _ in exchanging_norms(backbone)]
    assert {name.split('.')[0] for name in names} == {'stage1', 'stage2'}
    assert all(name.endswith('.conv1.bn') for name in names)


def some_steps(rank: int) -> dict[str, Tensor]:
    """Rank 0 sees infrared only, rank 1 RGB only."""
    model = built('yolox')[1].train()
    wrapped = DistributedDataParallel(model, find_unused_parameters=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    absent = (IR, RGB)[rank]
    for _ in range(2):
        optimizer.zero_grad()
        samples = [sample(k, absent) for k in range(2)]
        losses = wrapped(images(2), samples, mode='loss')
        model.parse_losses(losses)[0].backward()
        optimizer.step()
    return model.state_dict()


@pytest.mark.slow
def test_two_ranks_that_see_different_modalities(tmp_path: Path) -> None:
    first, second = in_two_ranks(some_steps, tmp_path)
    before = built('yolox')[1].state_dict()
    trained = [k for k in first if k.endswith(('weight', 'bias'))]
    assert all(torch.equal(first[k], second[k]) for k in trained)
    for name in ('rgb', 'ir'):
        norms = [k for k in trained if f'.copies.{name}.' in k]
        assert any(not torch.equal(first[k], before[k]) for k in norms)
