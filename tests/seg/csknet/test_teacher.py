"""The teacher of CSK-Net: frozen, apart from checkpoints, and where it reaches."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from small_csknet import DECODER, EXCHANGE, batch, copy_plain, csk_net, plain_net
from torch import nn

NOTHING: tuple = ()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Checkpoint of a plain network."""
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=plain_net().float().state_dict()), path)
    return path


def student(checkpoint: Path, **options: Any) -> nn.Module:
    teacher = dict(modality='rgb', checkpoint=str(checkpoint))
    teacher |= options.pop('teacher', {})
    return csk_net(teacher=teacher, **options)


def distill_gradients(net: nn.Module) -> dict[str, bool]:
    """Whether distillation alone moves each parameter; float64, evaluation mode."""
    x, samples = batch(NOTHING, NOTHING)
    losses = net.loss(x, samples)
    net.zero_grad()
    sum(v for k, v in losses.items() if 'distill' in k).backward()
    return {
        name: p.grad is not None and bool(p.grad.any())
        for name, p in net.named_parameters()
    }


def moved(gradients: dict[str, bool], *words: str) -> bool:
    return any(on for name, on in gradients.items() if all(w in name for w in words))


@pytest.mark.parametrize('shared', [{}, EXCHANGE])
def test_where_distillation_reaches(checkpoint: Path, shared: dict) -> None:
    """Section 6, oracle 6 of the specification."""
    gradients = distill_gradients(student(checkpoint, shared=shared))
    assert moved(gradients, 'backbone', 'conv')
    assert moved(gradients, 'copies.rgb')
    assert moved(gradients, 'copies.ir') is bool(shared)  # only through exchange
    assert moved(gradients, 'decoders.rgb', 'bottleneck')
    assert not moved(gradients, 'decoders.rgb.conv_seg')
    for idle in ('decoders.ir', 'fusion', 'decode_head.conv_seg', 'teacher'):
        assert not moved(gradients, idle)


def test_distillation_into_the_other_branch(checkpoint: Path) -> None:
    net = student(checkpoint, teacher=dict(students=('ir',)))
    gradients = distill_gradients(net)
    assert moved(gradients, 'copies.ir')
    assert moved(gradients, 'decoders.ir')
    assert not moved(gradients, 'copies.rgb')


def test_no_distance_to_itself(checkpoint: Path) -> None:
    net = student(checkpoint, distill=dict(output=1.0))
    copy_plain(net, net.teacher, 'rgb')
    losses = net.loss(*batch(NOTHING, NOTHING))
    found = {k: float(v) for k, v in losses.items() if 'distill' in k}
    assert found == {
        f'rgb.loss_distill_{part}': 0.0 for part in ('encoder', 'decoder', 'output')
    }


def test_only_samples_with_both_are_taught(checkpoint: Path) -> None:
    net = student(checkpoint, teacher=dict(students=('ir',)))
    x, samples = batch(NOTHING, ('rgb',), ('ir',))
    losses = net.loss(x, samples)
    alone = net.loss(x[:1], samples[:1])
    for part in ('encoder', 'decoder'):
        key = f'ir.loss_distill_{part}'
        torch.testing.assert_close(losses[key], alone[key], rtol=1e-9, atol=1e-12)
    losses = net.loss(x[1:], samples[1:])
    assert not any('distill' in key for key in losses)


def test_one_pass_of_the_teacher_serves_all_students(checkpoint: Path) -> None:
    x, samples = batch(NOTHING, ('rgb',), ('ir',))
    alone = {}
    for name in ('rgb', 'ir'):
        net = student(checkpoint, teacher=dict(students=(name,)))
        alone |= {k: v for k, v in net.loss(x, samples).items() if 'distill' in k}
    net = student(checkpoint, teacher=dict(students=('rgb', 'ir')))
    passes = []
    net.teacher.register_forward_hook(lambda *_: passes.append(1))
    together = {k: v for k, v in net.loss(x, samples).items() if 'distill' in k}
    assert passes == [1]
    assert together.keys() == alone.keys()
    for key, value in together.items():
        torch.testing.assert_close(value, alone[key], rtol=1e-9, atol=1e-12)


def test_the_teacher_stays_as_it_was(checkpoint: Path) -> None:
    net = student(checkpoint).train()
    before = {k: v.clone() for k, v in net.teacher.named_buffers()}
    total, _ = net.parse_losses(net.loss(*batch(NOTHING, NOTHING)))
    total.backward()
    assert before.keys() == dict(net.teacher.named_buffers()).keys()
    assert all(torch.equal(v, before[k]) for k, v in net.teacher.named_buffers())
    assert all(p.grad is None for p in net.teacher.parameters())
    assert not any(module.training for module in net.teacher.modules())


def test_checkpoints_of_the_student_do_not_hold_the_teacher(checkpoint: Path) -> None:
    net = student(checkpoint)
    state = net.state_dict()
    assert not any('teacher' in key for key in state)
    other = student(checkpoint)
    other.load_state_dict(state)  # strict
    csk_net().load_state_dict(state)
    expected = net.teacher.state_dict()
    assert all(
        torch.equal(v, expected[k]) for k, v in other.teacher.state_dict().items()
    )
    assert len(expected) > 100


def test_copies_keep_the_teacher(checkpoint: Path) -> None:
    net = student(checkpoint)
    other = copy.deepcopy(net)
    one, two = (n.loss(*batch(NOTHING)) for n in (net, other))
    assert one['rgb.loss_distill_encoder'] == two['rgb.loss_distill_encoder'] > 0


def test_initialization_keeps_the_teacher_and_may_start_from_it(
    checkpoint: Path,
) -> None:
    for starts in (False, True):
        net = student(checkpoint, teacher=dict(starts=starts)).float()
        net.init_weights()
        source = torch.load(checkpoint, weights_only=True)['state_dict']
        for key, value in net.teacher.state_dict().items():
            assert torch.equal(value, source[key])
        own = net.decode_head.decoders['ir'].state_dict()
        same = all(torch.equal(v, source[f'decode_head.{k}']) for k, v in own.items())
        assert same is starts
        stem = net.backbone.stem[0].weight
        assert torch.equal(stem, source['backbone.stem.0.weight']) is starts


def test_no_checkpoint_no_distillation() -> None:
    net = csk_net(teacher=dict(modality='rgb', checkpoint=None))
    assert net.teacher is None
    losses = net.loss(*batch(NOTHING))
    assert not any('distill' in key for key in losses)


def test_teachers_that_do_not_fit(tmp_path: Path, checkpoint: Path) -> None:
    wide = tmp_path / 'wide.pth'
    network = plain_net(dict(DECODER, channels=16)).float()
    torch.save(dict(state_dict=network.state_dict()), wide)
    with pytest.raises(RuntimeError, match=r'wide\.pth does not fit the teacher'):
        student(wide)
    with pytest.raises(ValueError, match='unknown modalities'):
        student(checkpoint, teacher=dict(students=('depth',)))
