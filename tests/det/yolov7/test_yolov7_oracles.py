"""YOLOv7 against MMYOLO: stored results always, MMYOLO itself if installed."""

import json
from pathlib import Path

import pytest
import torch
import yolov7_oracle as oracle
from torch import Tensor
from yolov7_mmyolo import AVAILABLE, MMYOLO

FROZEN = json.loads((Path(__file__).parent / 'data/yolov7_mmyolo.json').read_text())
PROJECT = oracle.Project()
live = pytest.mark.skipif(not AVAILABLE, reason='mmyolo is not installed')


def cases(part: str, every: list) -> list:
    """Cases with stored results."""
    assert len(every) == len(FROZEN[part])
    return list(zip(every, FROZEN[part].values(), strict=True))


def same_summary(ours: list[dict], theirs: list[dict], rel: float) -> bool:
    """Norm, sum and samples agree to `rel` of the norm or its root mean square."""
    for a, b in zip(ours, theirs, strict=True):
        assert a['shape'] == b['shape']
        assert a['norm'] == pytest.approx(b['norm'], rel=rel)
        size = torch.Size(b['shape']).numel()
        assert a['sum'] == pytest.approx(b['sum'], rel=0, abs=rel * b['norm'] * size)
        rms = b['norm'] / size**0.5
        assert a['samples'] == pytest.approx(b['samples'], rel=rel, abs=rel * rms)
    return True


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference by the largest value."""
    largest = theirs.abs().max()
    return float((ours - theirs).abs().max() / largest) if largest else 0.0


def test_the_formula_is_the_same_everywhere():
    """Integers only, so bit-exact: the frozen answers belong to these very numbers."""
    u = oracle.uniform(5, stream=3)
    assert [int(v * 2**31) for v in u.tolist()] == [
        500982701,
        1042633988,
        1618429363,
        674358611,
        1096195580,
    ]
    assert u.dtype == torch.float64
    many = oracle.uniform(100_000, stream=0)
    assert many.mean().item() == pytest.approx(0.5, abs=0.005)
    assert many.std().item() == pytest.approx(12**-0.5, abs=0.005)
    assert abs(torch.corrcoef(torch.stack([many[1:], many[:-1]]))[0, 1]) < 0.01


@pytest.mark.parametrize(('case', 'frozen'), cases('forward', oracle.FORWARD_CASES))
def test_raw_maps(case, frozen):
    assert same_summary(oracle.record_forward(PROJECT, *case), frozen, 1e-10)


@pytest.mark.parametrize(('name', 'frozen'), cases('loss', list(oracle.LOSS_CASES)))
def test_losses_gradients_and_matches(name, frozen):
    ours = oracle.record_loss(PROJECT, name)
    assert ours['losses'] == pytest.approx(frozen['losses'], rel=1e-6, abs=1e-6)
    assert same_summary(ours['gradients'], frozen['gradients'], 1e-5)
    assert ours['matches'] == frozen['matches']
    matched = name not in ('all images empty', 'boxes of a pixel')
    assert bool(frozen['matches']) == matched
    assert (frozen['losses']['loss_box'] > 0) == matched


@pytest.mark.parametrize(('classes', 'frozen'), cases('predict', [3, 80]))
def test_predictions(classes, frozen):
    for a, b in zip(oracle.record_predictions(PROJECT, classes), frozen, strict=True):
        assert (a['count'], a['labels']) == (b['count'], b['labels'])
        assert a['scores'] == pytest.approx(b['scores'], rel=1e-5)
        assert a['sum'] == pytest.approx(b['sum'], rel=1e-5)
        for ours, theirs in zip(a['boxes'], b['boxes'], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-3)


@pytest.mark.parametrize(('case', 'frozen'), cases('train', oracle.TRAIN_CASES))
def test_training_step(case, frozen):
    ours = oracle.record_training(PROJECT, *case)
    assert ours['losses'] == pytest.approx(frozen['losses'], rel=1e-6)
    assert ours['gradients'].keys() == frozen['gradients'].keys()
    assert ours['gradients'] == pytest.approx(frozen['gradients'], rel=1e-5, abs=1e-9)


def test_the_width_matters():
    """Boxes scaled by the height on both axes, as official code does, lose more."""
    case = oracle.LOSS_CASES['wide, 3 classes']
    height, width = case.size
    narrow = height / width
    squeezed = [
        [b._replace(cx=b.cx * narrow, w=b.w * narrow) for b in boxes]
        for boxes in case.images
    ]
    maps = oracle.formula_maps(case.classes, case.size)
    head = PROJECT.head('l', case.classes)
    right = PROJECT.losses(head, maps, case)['loss_box']
    wrong = PROJECT.losses(head, maps, case._replace(images=squeezed))['loss_box']
    assert abs(right - wrong) > 1e-3


@live
@pytest.mark.slow
@pytest.mark.parametrize('case', oracle.FORWARD_CASES)
@pytest.mark.parametrize('training', [False, True])
@torch.no_grad()
def test_live_raw_maps(case, training, record_property):
    arch, classes, size = case
    for dtype, limit in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        images = oracle.formula_images(size, 2).to(dtype)
        ours, theirs = (
            one.maps(one.network(arch, classes, dtype).train(training), images)
            for one in (PROJECT, MMYOLO())
        )
        worst = max(map(relative, ours, theirs))
        record_property(str(dtype), worst)
        assert worst <= limit


@live
@pytest.mark.slow
@pytest.mark.parametrize('name', oracle.LOSS_CASES)
def test_live_losses(name, record_property):
    case = oracle.LOSS_CASES[name]
    found = []
    for one in (PROJECT, MMYOLO()):
        head = one.head('l', case.classes)
        maps = [m.requires_grad_() for m in oracle.formula_maps(*case[:2])]
        losses = one.losses(head, maps, case)
        sum(v.sum() for v in losses.values()).backward()
        matches = one.matches(head, [m.detach() for m in maps], case)
        found.append((losses, [m.grad for m in maps], matches))
    ours, theirs = found
    loss = max(abs(ours[0][k] - theirs[0][k].sum()).item() for k in ours[0])
    record_property('loss', loss)
    assert loss <= 1e-6
    gradient = max(map(relative, ours[1], theirs[1]))
    record_property('gradient', gradient)
    assert gradient <= 1e-5
    assert oracle.rounded(ours[2]) == oracle.rounded(theirs[2])
    in_order = [m[:5] for m in ours[2]] == [m[:5] for m in theirs[2]]
    record_property('same order', in_order)


@live
@pytest.mark.slow
@pytest.mark.parametrize('case', oracle.TRAIN_CASES)
def test_live_training_step(case, record_property):
    ours, theirs = (oracle.train_losses(one, *case) for one in (PROJECT, MMYOLO()))
    for key, value in ours[0].items():
        assert abs(value - theirs[0][key].sum()) <= 1e-6
    assert ours[1].keys() == theirs[1].keys()
    worst = max(relative(ours[1][k], theirs[1][k]) for k in ours[1])
    record_property('gradient', worst)
    assert worst <= 1e-5


@live
@pytest.mark.slow
@pytest.mark.parametrize('classes', [3, 80])
def test_live_predictions(classes):
    maps = oracle.formula_maps(classes, oracle.WIDE)
    ours, theirs = (
        one.predict(one.head('l', classes), maps, oracle.WIDE)
        for one in (PROJECT, MMYOLO())
    )
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a[2], b[2])
        torch.testing.assert_close(a[0], b[0], rtol=1e-6, atol=1e-4)
        torch.testing.assert_close(a[1], b[1], rtol=1e-6, atol=1e-6)
