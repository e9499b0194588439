"""Output layers reduced to some classes."""

from pathlib import Path

import pytest
import torch
from mmdet.evaluation.functional import coco_classes
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor

from mmir.det.class_rows import keep_classes, keep_classes_in_file
from mmir.utils.checkpoint import CheckpointError, load_checkpoint

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
KNOWN, WANTED = ('person', 'bicycle', 'car', 'bus'), ('car', 'person')


def reduce(tensor: Tensor, *shape: int) -> Tensor:
    state, names = keep_classes(
        {'out': tensor, 'other': torch.ones(2)},
        {'out': torch.Size(shape), 'other': torch.Size([2])},
        KNOWN,
        WANTED,
    )
    assert names == ['out']
    assert state['other'].tolist() == [1, 1]
    return state['out']


def test_one_channel_per_class() -> None:
    assert reduce(torch.tensor([10.0, 11, 12, 13]), 2).tolist() == [12, 10]


def test_classes_repeat_for_each_anchor() -> None:
    weight = torch.arange(8.0).view(8, 1, 1, 1)
    assert reduce(weight, 4, 1, 1, 1).flatten().tolist() == [2, 0, 6, 4]


def test_box_and_objectness_come_before_the_classes() -> None:
    # two anchors of x, y, w, h, objectness and four classes
    bias = torch.arange(18.0)
    kept = [0, 1, 2, 3, 4, 7, 5, 9, 10, 11, 12, 13, 16, 14]
    assert reduce(bias, 14).tolist() == kept


def test_channels_in_the_second_dimension() -> None:
    # an implicit layer of YOLOv7: one anchor, factors (1, C, 1, 1)
    factors = torch.arange(9.0).view(1, 9, 1, 1)
    kept = [0, 1, 2, 3, 4, 7, 5]
    assert reduce(factors, 1, 7, 1, 1).flatten().tolist() == kept


@pytest.mark.parametrize(
    ('theirs', 'ours'),
    [
        ((5, 3), (3, 3)),  # classes and a background class
        ((4, 3), (2, 2)),  # another number of inputs
        ((4,), (2, 1)),
        ((4,), (3,)),
        ((7,), (2,)),
    ],
)
def test_other_layouts_are_refused(theirs: tuple, ours: tuple) -> None:
    with pytest.raises(ValueError, match=r'cls_score: .* no output layer'):
        keep_classes(
            {'cls_score': torch.zeros(theirs)},
            {'cls_score': torch.Size(ours)},
            KNOWN,
            WANTED,
        )


def test_unknown_classes_are_named() -> None:
    with pytest.raises(ValueError, match='no class drone; its classes: person'):
        keep_classes({}, {}, KNOWN, ['person', 'drone'])


def test_the_same_number_of_classes_is_refused() -> None:
    state = {'out': torch.zeros(4)}
    with pytest.raises(ValueError, match='no output layer has more channels'):
        keep_classes(state, {'out': torch.Size([4])}, KNOWN, KNOWN[::-1])


@pytest.fixture
def scope() -> DefaultScope:
    with DefaultScope.overwrite_default_scope('mmdet') as current:
        yield current


def test_reduced_detector_gives_the_same_scores(
    scope: DefaultScope, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = Config.fromfile(CONFIGS / '_base_/models/yolox_nano.py').model
    model.bbox_head.num_classes = 80
    dense = MODELS.build(model).eval()
    torch.save(dense.state_dict(), tmp_path / 'coco.pth')
    wanted = ('car', 'person', 'bicycle')
    model.bbox_head.num_classes = 3
    adapted = Config(dict(model=dict(model, adapt=dict(type='Full'))))
    adapted.model.update(type='mmir.Adapted', target='mmdet.YOLOX')
    names = keep_classes_in_file(
        adapted.model, tmp_path / 'coco.pth', tmp_path / 'three.pth', wanted
    )
    assert len(names) == 6  # weight and bias of three levels
    content = load_checkpoint(tmp_path / 'three.pth')
    assert tuple(content['meta']['dataset_meta']['classes']) == wanted
    reduced = MODELS.build(model).eval()
    reduced.load_state_dict(content['state_dict'])
    image = torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        before, after = dense(image), reduced(image)
    rows = [coco_classes().index(name) for name in wanted]
    for old, new in zip(before[0], after[0], strict=True):
        torch.testing.assert_close(new, old[:, rows])
    for old, new in zip(before[1] + before[2], after[1] + after[2], strict=True):
        assert torch.equal(new, old)


def test_file_of_another_network_is_refused(
    scope: DefaultScope, tmp_path: Path
) -> None:
    torch.save({'backbone.weight': torch.zeros(3)}, tmp_path / 'other.pth')
    model = Config.fromfile(CONFIGS / '_base_/models/yolox_nano.py').model
    with pytest.raises(CheckpointError, match=r'other\.pth does not fit .* backbone'):
        keep_classes_in_file(
            model, tmp_path / 'other.pth', tmp_path / 'out.pth', ('person',)
        )
    assert not (tmp_path / 'out.pth').exists()
