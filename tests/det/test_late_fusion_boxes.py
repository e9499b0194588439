"""Fused boxes against plain loops, written from the published descriptions."""

import pytest
import torch
from mmengine.structures import InstanceData

pytest.importorskip('mmdet')

from mmir.det.late_fusion import BoxFusion


def instances(rows: list) -> InstanceData:
    """Build instances from rows of x1, y1, x2, y2, score, label."""
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 6)
    return InstanceData(
        bboxes=table[:, :4], scores=table[:, 4], labels=table[:, 5].long()
    )


def iou(one: list, other: list) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0) * max(height, 0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    return both / (sum(areas) - both)


def rows_of(found: list[InstanceData]) -> list[tuple]:
    """Return all boxes by descending score: box, score, label, model."""
    rows = [
        (box, score, label, model)
        for model, each in enumerate(found)
        for box, score, label in zip(
            each.bboxes.tolist(),
            each.scores.tolist(),
            each.labels.tolist(),
            strict=True,
        )
    ]
    return sorted(rows, key=lambda row: -row[1])


def published_wbf(found: list[InstanceData], threshold: float) -> list[tuple]:
    """WBF by Solovyev et al. 2021: each box joins the best-matching fused box."""
    clusters: list[list[tuple]] = []
    fused: list[list[float]] = []
    for row in rows_of(found):
        overlaps = [
            iou(row[0], box) if cluster[0][2] == row[2] else 0.0
            for box, cluster in zip(fused, clusters, strict=True)
        ]
        best = max(range(len(fused)), key=overlaps.__getitem__, default=None)
        if best is None or overlaps[best] <= threshold:
            clusters.append([row])
            fused.append(row[0])
            continue
        clusters[best].append(row)
        total = sum(r[1] for r in clusters[best])
        fused[best] = [
            sum(r[0][k] * r[1] for r in clusters[best]) / total for k in range(4)
        ]
    result = []
    for box, cluster in zip(fused, clusters, strict=True):
        mean = sum(r[1] for r in cluster) / len(cluster)
        score = mean * min(len(cluster), len(found)) / len(found)
        result.append((box, score, cluster[0][2]))
    return sorted(result, key=lambda row: -row[1])


def scene(seed: int, models: int, objects: int = 25) -> list[InstanceData]:
    """Draw separate objects; each model misses some and shifts the others."""
    generator = torch.Generator().manual_seed(seed)
    rand = lambda *n: torch.rand(*n, generator=generator, dtype=torch.float64)  # noqa: E731
    corner = torch.stack([torch.arange(objects) % 5, torch.arange(objects) // 5], 1)
    corner = corner * 60 + rand(objects, 2) * 10
    boxes = torch.cat([corner, corner + 20 + rand(objects, 2) * 20], 1)
    labels = (rand(objects) * 3).long()
    found = []
    for _ in range(models):
        keep = rand(objects) < 0.7
        shifted = boxes[keep] + rand(int(keep.sum()), 4) * 6 - 3
        found.append(
            InstanceData(
                bboxes=shifted,
                scores=rand(len(shifted)) * 0.98 + 0.01,
                labels=labels[keep],
            )
        )
    return found


def check_same(fused: InstanceData, expected: list[tuple]) -> None:
    assert len(fused) == len(expected)
    table = torch.tensor([row[0] for row in expected], dtype=torch.float64)
    # mmdet computes in float32
    torch.testing.assert_close(fused.bboxes, table.reshape(-1, 4), rtol=1e-5, atol=1e-4)
    scores = torch.tensor([row[1] for row in expected], dtype=torch.float64)
    torch.testing.assert_close(fused.scores, scores, rtol=1e-5, atol=1e-6)
    assert fused.labels.tolist() == [row[2] for row in expected]


@pytest.mark.parametrize('seed', range(20))
@pytest.mark.parametrize('models', [2, 3])
def test_weighted_boxes_as_published(seed, models):
    found = scene(seed, models)
    check_same(BoxFusion('wbf', 0.4)(found), published_wbf(found, 0.4))


@pytest.mark.parametrize('seed', range(20))
def test_weighted_boxes_in_a_crowd(seed):
    """Objects overlap, and so do the boxes of each detector."""
    generator = torch.Generator().manual_seed(seed)
    rand = lambda *n: torch.rand(*n, generator=generator, dtype=torch.float64)  # noqa: E731
    corner, size = rand(40, 2) * 100, 20 + rand(40, 2) * 20
    found = [
        InstanceData(
            bboxes=torch.cat([corner, corner + size], 1) + rand(40, 4) * 4,
            scores=rand(40),
            labels=(rand(40) * 2).long(),
        )
        for _ in range(2)
    ]
    check_same(BoxFusion('wbf', 0.5)(found), published_wbf(found, 0.5))


def test_weighted_boxes_closed_form():
    found = [
        instances([[0, 0, 10, 10, 0.9, 0]]),
        instances([[0, 0, 12, 10, 0.3, 0], [50, 50, 60, 60, 0.8, 0]]),
    ]
    fused = BoxFusion('wbf', 0.5)(found)
    check_same(fused, [([0, 0, 10.5, 10], 0.6, 0), ([50, 50, 60, 60], 0.4, 0)])


def test_classes_do_not_mix():
    found = [instances([[0, 0, 10, 10, 0.9, 0]]), instances([[0, 0, 10, 10, 0.8, 1]])]
    for method in ('nms', 'wbf', 'prob'):
        fused = BoxFusion(method)(found)
        assert sorted(fused.labels.tolist()) == [0, 1]


def test_suppression_keeps_the_best_and_what_belongs_to_it():
    one = instances([[0, 0, 10, 10, 0.6, 0], [30, 30, 50, 50, 0.5, 0]])
    other = instances([[1, 0, 11, 10, 0.7, 0]])
    one.masks, other.masks = torch.tensor([[1], [2]]), torch.tensor([[3]])
    fused = BoxFusion('nms', 0.5)([one, other])
    assert fused.scores.tolist() == [0.7, 0.5]
    assert fused.masks.flatten().tolist() == [3, 2]
    assert 'origin' not in fused


def slow_evidence(scores: list[float], prior: float) -> float:
    """Bayes' rule for independent observers with the same prior."""
    yes, no = prior, 1 - prior
    for p in scores:
        yes, no = yes * p / prior, no * (1 - p) / (1 - prior)
    return yes / (yes + no)


@pytest.mark.parametrize('prior', [0.5, 0.2])
def test_independent_evidence(prior):
    found = [
        instances([[0, 0, 10, 10, 0.8, 0], [30, 30, 50, 50, 0.4, 1]]),
        instances([[0, 0, 10, 10, 0.7, 0], [0, 0, 10, 9, 0.6, 0]]),
    ]
    fused = BoxFusion('prob', 0.5, prior=prior)(found)
    both = slow_evidence([0.8, 0.7], prior)  # the second box of a detector adds nothing
    assert both > 0.8
    assert fused.scores.tolist() == pytest.approx([both, 0.4])
    height = (10 * 1.5 + 9 * 0.6) / 2.1
    assert fused.bboxes[0].tolist() == pytest.approx([0, 0, 10, height])


def test_one_detector_and_no_boxes_are_left_as_they_are():
    overlapping = instances([[0, 0, 10, 10, 0.3, 0], [0, 0, 10, 10, 0.6, 0]])
    for method in ('nms', 'wbf', 'prob'):
        fuse = BoxFusion(method)
        assert fuse([overlapping]) is overlapping
        nothing = fuse([instances([]), instances([])])
        assert nothing.bboxes.shape == (0, 4)
        assert len(fuse([instances([]), overlapping])) == 1


def test_zero_scores_give_finite_boxes():
    found = [instances([[0, 0, 10, 10, 0, 0]]), instances([[0, 0, 10, 12, 0, 0]])]
    fused = BoxFusion('prob')(found)
    assert fused.bboxes[0].tolist() == pytest.approx([0, 0, 10, 11])
    assert BoxFusion('wbf')(found).bboxes.shape == (0, 4)


@pytest.mark.filterwarnings('error')
def test_weighted_boxes_without_area_or_score_are_left_out():
    found = [
        instances([[0, 0, 10, 10, 0.9, 0], [5, 5, 5, 9, 0.8, 0]]),
        instances([[0, 0, 10, 10, 0.5, 0], [0, 0, 10, 10, 0.0, 0]]),
    ]
    check_same(BoxFusion('wbf')(found), [([0, 0, 10, 10], 0.7, 0)])


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32, torch.float64])
def test_weighted_boxes_keep_the_types_of_the_detectors(dtype):
    found = [instances([[0, 0, 8, 8, 0.5, 2]]) for _ in range(2)]
    for each in found:
        each.bboxes, each.scores = each.bboxes.to(dtype), each.scores.to(dtype)
    fused = BoxFusion('wbf')(found)
    assert fused.bboxes.dtype == fused.scores.dtype == dtype
    assert fused.labels.dtype == torch.long
    assert (fused.bboxes.tolist(), fused.labels.tolist()) == ([[0, 0, 8, 8]], [2])


def test_best_boxes_are_kept():
    found = scene(0, 2)
    for method in ('nms', 'wbf', 'prob'):
        everything, few = (BoxFusion(method, max_per_img=n)(found) for n in (300, 5))
        assert torch.equal(few.scores, everything.scores[:5])
        assert (everything.scores.diff() <= 0).all()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(method='soft'), "method must be one of .*'wbf'.* not soft"),
        (dict(iou_threshold=0), 'iou_threshold=0, .* out of range'),
        (dict(prior=1.0), r'prior=1\.0, .*out of range'),
        (dict(max_per_img=0), 'max_per_img=0: out of range'),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        BoxFusion(**options)
