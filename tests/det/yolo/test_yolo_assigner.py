"""OTA assignment against loops over images, boxes and candidates."""

import math
from collections import Counter

import pytest
import torch
import yolov7_reference as ref
from mmdet.registry import TASK_UTILS

from mmir.det.yolo.assigner import Matches, OTAAssigner, Targets, _dynamic_k

STRIDES = list(ref.STRIDES)
ANCHORS = torch.tensor(ref.ANCHORS, dtype=torch.float32)
FIELDS = ('level', 'image', 'anchor', 'column', 'row', 'gt')


def assign(maps: list, images: list, **options: float) -> list[ref.Cell]:
    """Run the assigner; ground truth is numbered per image, as in `ref`."""
    rows = [(i, *box) for i, boxes in enumerate(images) for box in boxes]
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    targets = Targets(table[:, 0].long(), table[:, 5].long(), table[:, 1:5])
    preds = [ref.per_anchor(m) for m in maps]
    found = OTAAssigner(**options).assign(preds, targets, ANCHORS, STRIDES)
    assert found.gt.dtype == torch.int64
    starts = [sum(map(len, images[:i])) for i in range(len(images))]
    places = zip(*(getattr(found, k).tolist() for k in FIELDS), strict=True)
    return [ref.Cell(*p[:5], p[5] - starts[p[1]]) for p in places]


def flat_maps(size: tuple[int, int], classes: int = 1) -> list[torch.Tensor]:
    """Return zero maps: every prediction is its anchor, centered in its cell."""
    return [torch.zeros_like(m) for m in ref.random_maps(size, 1, classes)]


def candidate_cells(boxes: list, size: tuple[int, int]) -> set[tuple[int, ...]]:
    """(level, anchor, gx, gy) of all candidates of the only image."""
    preds = [ref.per_anchor(m) for m in flat_maps(size)]
    table = torch.tensor([b[:4] for b in boxes], dtype=torch.float32)
    zero = torch.zeros(len(boxes), dtype=torch.int64)
    targets, found = Targets(zero, zero, table), []
    for level, pred in enumerate(preds):
        args = (level, pred, targets, ANCHORS[level], STRIDES[level])
        c = OTAAssigner()._candidates(*args)
        found += zip(
            c.level.tolist(),
            c.anchor.tolist(),
            c.column.tolist(),
            c.row.tolist(),
            strict=True,
        )
    return set(found)


@pytest.mark.parametrize('size', [(256, 256), (256, 320), (320, 192)])
@pytest.mark.parametrize('seed', range(4))
def test_matches_equal_the_loop_reference(size, seed):
    maps = ref.random_maps(size, batch=3, seed=seed)
    # the middle image is empty
    images = [ref.random_boxes(n, size, seed + 10 * n) for n in (12, 0, 5)]
    found = assign(maps, images)
    expected = ref.assign([ref.per_anchor(m) for m in maps], images)
    # a cell that is a candidate of two boxes occurs twice, with equal cost
    assert Counter(found) == Counter(expected)
    assert [c[:2] for c in found] == [c[:2] for c in expected]
    assert len({c.gt for c in found if c.image == 0}) > 6


@pytest.mark.parametrize('scale', [4.0, 12.0])
def test_confident_predictions_equal_the_loop_reference(scale):
    maps = [m * scale for m in ref.random_maps((128, 160), classes=2, seed=3)]
    for m in maps:  # boxes stay near their anchors: overlaps differ from zero
        m.unflatten(1, (3, -1))[:, :, :4] /= scale
    boxes = [b._replace(label=b.label % 2) for b in ref.random_boxes(8, (128, 160), 1)]
    images = [boxes[:5], boxes[5:]]
    assert assign(maps, images) == ref.assign([ref.per_anchor(m) for m in maps], images)


def test_candidates_are_the_center_cell_and_the_two_nearest_neighbors():
    # center (3.25, 4.75) in cells of 8: left of and below it are nearest
    box = ref.Box(26, 38, 12, 16)
    cells = {c[2:] for c in candidate_cells([box], (128, 128)) if c[:2] == (0, 0)}
    assert cells == {(3, 4), (2, 4), (3, 5)}


def test_candidates_stay_inside_the_map():
    # top left: less than a cell from the border, so no neighbor beyond it
    first = candidate_cells([ref.Box(2, 3, 12, 16)], (128, 160))
    assert {c[2:] for c in first if c[0] == 0} == {(0, 0)}
    last = candidate_cells([ref.Box(159, 127, 12, 16)], (128, 160))
    assert {c[2:] for c in last if c[0] == 0} == {(19, 15)}
    # a center on the far border would be one cell outside
    edge = candidate_cells([ref.Box(160, 128, 12, 16)], (128, 160))
    assert {c[2:] for c in edge if c[0] == 0} == {(19, 15)}
    beyond = candidate_cells([ref.Box(-4, 140, 12, 16)], (128, 160))
    assert {c[2:] for c in beyond if c[0] == 0} == {(0, 15)}


def test_center_in_the_middle_of_a_cell_has_no_neighbor():
    # fraction 0.5 is not below 0.5 on either side
    cells = candidate_cells([ref.Box(20, 20, 12, 16)], (128, 128))
    assert {c[2:] for c in cells if c[0] == 0} == {(2, 2)}


@pytest.mark.parametrize(('width', 'fits'), [(47.9, True), (48.0, False), (3.01, True)])
def test_sides_must_be_within_a_quotient_of_four(width, fits):
    cells = candidate_cells([ref.Box(20, 20, width, 16)], (128, 128))
    assert ((0, 0, 2, 2) in cells) == fits


def test_ratio_is_an_option():
    box = [[ref.Box(20, 20, 100, 30)]]
    maps = flat_maps((64, 64))
    assert {c[0] for c in assign(maps, box, ratio=1.5)} == set()
    assert assign(maps, box, ratio=9.0)


def test_boxes_of_a_pixel_match_nothing():
    boxes = [ref.Box(20, 20, 1, 1), ref.Box(30, 30, 0, 0)]
    assert candidate_cells(boxes, (64, 64)) == set()
    assert assign(flat_maps((64, 64)), [boxes]) == []


def test_no_ground_truth_gives_no_matches():
    found = assign(ref.random_maps((64, 96)), [[], []])
    assert found == []


def test_a_box_takes_as_many_candidates_as_its_overlaps_sum_to():
    # the prediction of the only candidate anchor and its neighbors, all alike
    iou = torch.tensor([[0.9], [0.8], [0.75], [0.3], [0.1]])
    cost = -iou
    for topk, k in ((10, 2), (3, 2), (2, 1), (1, 1)):
        rows, gts = _dynamic_k(cost, iou, topk)
        assert rows.tolist() == list(range(k))
        assert gts.tolist() == [0] * k


def test_a_box_without_overlap_takes_its_cheapest_candidate():
    rows, gts = _dynamic_k(
        torch.tensor([[5.0, 9.0], [3.0, 8.0], [4.0, 7.0]]), torch.zeros(3, 2), 10
    )
    assert (rows.tolist(), gts.tolist()) == ([1, 2], [0, 1])


def test_a_contested_candidate_goes_to_the_cheapest_box():
    cost = torch.tensor([[1.0, 2.0], [5.0, 6.0]])
    rows, gts = _dynamic_k(cost, torch.zeros(2, 2), 10)
    assert (rows.tolist(), gts.tolist()) == ([0], [0])
    rows, gts = _dynamic_k(cost.flip(1), torch.zeros(2, 2), 10)
    assert (rows.tolist(), gts.tolist()) == ([0], [1])


def test_a_contested_candidate_may_go_to_a_box_that_did_not_claim_it():
    # boxes 0 and 1 want row 0; box 2 wants row 1, but row 0 is cheaper for it than
    # for the two
    cost = torch.tensor([[4.0, 5.0, 3.0], [9.0, 9.0, 1.0]])
    rows, gts = _dynamic_k(cost, torch.zeros(3, 2).t()[:, [0, 0, 0]], 10)
    assert (rows.tolist(), gts.tolist()) == ([0, 1], [2, 2])


@pytest.mark.parametrize('label', [0, 1])
def test_equal_boxes_share_their_candidates_by_class(label):
    maps = flat_maps((64, 64), classes=2)
    for m in maps:  # predictions of class `label`
        m.unflatten(1, (3, -1))[:, :, 5 + label] = 4
    box = ref.Box(20, 20, 13, 15)
    found = assign(maps, [[box, box._replace(label=1)]])
    assert found
    assert {c.gt for c in found} == {label}


def test_cost_weighs_overlap_against_class():
    # the anchors of the cell: the worse fitting one predicts the class
    maps = flat_maps((64, 64), classes=2)
    maps[0].unflatten(1, (3, -1))[:, 1, 5] = 6
    boxes = [[ref.Box(20, 20, 12, 16)]]
    assert [c.anchor for c in assign(maps, boxes)] == [0]
    assert [c.anchor for c in assign(maps, boxes, iou_weight=0.1)] == [1]


def test_class_cost_is_the_sum_of_binary_cross_entropies():
    rows = 8 * torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([2, 0, 2])
    cost = OTAAssigner._class_cost(rows, labels)
    for i, raw in enumerate(rows.double().tolist()):
        y = [math.sqrt(ref.sigmoid(raw[4]) * ref.sigmoid(t)) for t in raw[5:]]
        for g, label in enumerate(labels.tolist()):
            terms = [-math.log(p if c == label else 1 - p) for c, p in enumerate(y)]
            assert cost[i, g].item() == pytest.approx(sum(terms), rel=1e-3)


def test_class_cost_is_finite_and_ordered_for_extreme_scores():
    logits = torch.tensor([-200.0, -60.0, -40.0, 0.0, 40.0, 200.0])
    rows = torch.cat([torch.zeros(6, 4), logits[:, None], logits[:, None]], 1)
    cost = OTAAssigner._class_cost(rows, torch.tensor([0]))[:, 0]
    assert cost.isfinite().all()
    assert (cost[:4].diff() < 0).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_maps_match_like_their_values_in_single(dtype):
    maps = [m.to(dtype) for m in ref.random_maps((128, 160), seed=5)]
    images = [ref.random_boxes(6, (128, 160), s) for s in (1, 2)]
    assert assign(maps, images) == assign([m.float() for m in maps], images)


def test_matches_can_be_indexed_and_counted():
    columns = torch.arange(12).reshape(6, 2)
    matches = Matches(*columns)
    assert len(matches) == 2
    assert [v.item() for v in vars(matches[torch.tensor([1])]).values()] == [
        1, 3, 5, 7, 9, 11
    ]  # fmt: skip


def test_assigner_is_registered_with_its_options():
    built = TASK_UTILS.build(dict(type='mmir.OTAAssigner', topk=20))
    assert (built.ratio, built.topk, built.iou_weight) == (4.0, 20, 3.0)
