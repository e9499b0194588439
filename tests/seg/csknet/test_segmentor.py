"""CSK-Net as a whole: equal to plain networks, no leaks, complete gradients."""

import copy
import math

import pytest
import torch
from mmengine.logging import MessageHub
from small_csknet import (
    BACKBONE,
    CHANNELS,
    CLASSES,
    DECODER,
    EXCHANGE,
    PAIR,
    SIZE,
    batch,
    copy_plain,
    csk_net,
    logits,
    plain_net,
)
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmir.seg.csknet.segmentor import drawn_solo
from mmir.structures import PairError

NOTHING: tuple = ()
IR, RGB = ('rgb',), ('ir',)  # what a sample of one modality lacks
HEADS = dict(
    aspp=DECODER,
    fcn=dict(
        type='mmseg.FCNHead',
        in_channels=CHANNELS[-1],
        channels=8,
        num_classes=CLASSES,
        num_convs=1,
        concat_input=False,
    ),
    psp=dict(
        type='mmseg.PSPHead', in_channels=CHANNELS[-1], channels=8, num_classes=CLASSES
    ),
    upernet=dict(
        type='mmseg.UPerHead',
        in_channels=CHANNELS,
        in_index=(0, 1, 2, 3),
        channels=8,
        num_classes=CLASSES,
    ),
    segformer=dict(
        type='mmseg.SegformerHead',
        in_channels=CHANNELS,
        in_index=(0, 1, 2, 3),
        channels=8,
        num_classes=CLASSES,
    ),
)


@pytest.mark.parametrize('name', HEADS)
def test_one_modality_equals_the_plain_network(name: str) -> None:
    decoder = HEADS[name]
    plain = plain_net(decoder)
    net = copy_plain(csk_net(decoder=decoder, shared=EXCHANGE), plain, 'ir')
    x, samples = batch(IR, IR)
    x[:, :3] = math.nan
    with torch.no_grad():
        assert torch.equal(logits(net, x, samples), plain(x[:, 3:]))
    net.test_cfg.modalities = ('ir',)
    x, samples = batch(NOTHING, NOTHING)
    assert torch.equal(logits(net, x, samples), logits(plain, x[:, 3:], samples))


def test_one_modality_costs_what_the_plain_network_costs() -> None:
    """Section 6, oracle 2 of the specification, at full size on no data."""
    full = dict(base_channels=64, stem_channels=64)
    decoder = dict(
        DECODER,
        in_channels=2048,
        channels=512,
        dilations=(1, 12, 24, 36),
        c1_in_channels=256,
        c1_channels=48,
        num_classes=9,
    )
    with torch.device('meta'):
        plain = plain_net(decoder, **full).float()
        net = csk_net(decoder=decoder, backbone=dict(BACKBONE, **full)).float()
        image = torch.zeros(1, 3, 512, 512)
    counts = []
    net.test_cfg.modalities = ('ir',)
    for model, x in ((plain, image), (net, torch.cat([image, image], 1))):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(x)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 352_149_045_248
    assert sum(p.numel() for p in plain.parameters()) == 41_220_057
    extra = sum(p.numel() for p in net.parameters()) - 41_220_057
    assert extra == 53_248 + 17_692_793 + 1_572_864 + 4_617


@pytest.mark.parametrize(
    ('shared', 'leaks'),
    [
        ({}, False),
        (EXCHANGE, True),
        (dict(channel_exchange=EXCHANGE['channel_exchange']), True),
        (dict(spatial_exchange=dict(stages=(3,))), True),
    ],
)
def test_exchange_alone_carries_rgb_into_the_infrared_output(
    shared: dict, leaks: bool
) -> None:
    net = csk_net(shared=shared)
    net.test_cfg.output = 'ir'
    x, samples = batch(NOTHING, NOTHING)
    before = logits(net, x, samples)
    x[:, :3] += 1
    assert torch.equal(before, logits(net, x, samples)) is not leaks


def test_a_mixed_batch_equals_its_samples() -> None:
    net = csk_net(shared=EXCHANGE)
    x, samples = batch(IR, NOTHING, RGB, NOTHING)
    together = logits(net, x, samples)
    for k, sample in enumerate(samples):
        alone = logits(net, x[k : k + 1], [sample])
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-9, atol=1e-9)


def test_predictions_have_the_size_of_the_image() -> None:
    net = csk_net(shared=EXCHANGE)
    x, samples = batch(IR, NOTHING)
    with torch.no_grad():
        found = net(x, samples, mode='predict')
    assert [s.pred_sem_seg.data.shape for s in found] == [(1, SIZE, SIZE)] * 2
    net.test_cfg.update(mode='slide', crop_size=(SIZE, SIZE), stride=(SIZE, SIZE))
    with torch.no_grad():
        again = net(x, samples, mode='predict')
    for one, other in zip(found, again, strict=True):
        torch.testing.assert_close(one.seg_logits.data, other.seg_logits.data)


@pytest.mark.parametrize(
    'absent',
    [(NOTHING, NOTHING), (IR, NOTHING, RGB, NOTHING), (IR, IR), (RGB, RGB), (IR, RGB)],
)
def test_every_parameter_gets_a_gradient(absent: tuple) -> None:
    net = csk_net(shared=EXCHANGE, contrast=dict(channels=CHANNELS)).train()
    x, samples = batch(*absent)
    total, log = net.parse_losses(net.loss(x, samples))
    total.backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []
    assert math.isfinite(log['loss'])
    gone = [n for n in PAIR if all(n in a for a in absent)]
    for name in gone:
        grads = [p.grad for p in net.decode_head.decoders[name].parameters()]
        assert not any(g.any() for g in grads)


def test_the_loss_is_that_of_each_output() -> None:
    """Cross-entropy over all pixels; those of class 255 count as zero."""
    net = csk_net(shared=EXCHANGE)
    x, samples = batch(IR, NOTHING)
    losses = net.loss(x, samples)
    outputs = dict(rgb=[1], ir=[0, 1], fused=[1])
    for name, rows in outputs.items():
        net.test_cfg.output = 'auto' if name == 'fused' else name
        raw = torch.cat([logits(net, x[k : k + 1], [samples[k]]) for k in rows])
        big = nn.functional.interpolate(raw, (SIZE, SIZE), mode='bilinear')
        y = torch.stack([samples[k].gt_sem_seg.data for k in rows])
        known = y != 255
        picked = big.log_softmax(1).gather(1, y.clamp(max=CLASSES - 1))
        expected = -(picked * known).sum() / known.numel()
        torch.testing.assert_close(losses[f'{name}.loss_ce'], expected)


def test_even_dilations_undo_a_swap_of_every_second_column() -> None:
    """With a period of 2 in stages 3 and 4, and dilations of 2 and 4 in stage 4.

    Even columns of stage 4 read even columns only, and those come back.
    """
    x, _ = batch(NOTHING)
    changed = x.clone()
    changed[:, :3] += 1
    for stages, leaks in (((2, 3), False), ((2,), True)):
        net = csk_net(shared=dict(spatial_exchange=dict(stages=stages)))
        with torch.no_grad():
            one, two = (net.extract_feat(image)['ir'][-1] for image in (x, changed))
        assert torch.equal(one, two) is not leaks


def test_weights_of_the_outputs() -> None:
    x, samples = batch(NOTHING, NOTHING)
    one = csk_net().loss(x, samples)
    head = dict(weights=dict(fused=3.0, ir=0.0))
    other = csk_net(head=head).loss(x, samples)
    assert other['fused.loss_ce'] == 3 * one['fused.loss_ce']
    assert other['ir.loss_ce'] == 0
    assert other['rgb.loss_ce'] == one['rgb.loss_ce']


def test_labels_without_content() -> None:
    net = csk_net(contrast=dict(channels=CHANNELS), shared=EXCHANGE).train()
    for labels in (255, 1):  # nothing labeled; a single class
        x, samples = batch(NOTHING, IR, labels=labels)
        total, _ = net.parse_losses(net.loss(x, samples))
        total.backward()
        assert torch.isfinite(total)
        assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def test_three_modalities() -> None:
    names = 'rgb', 'ir', 'nir'
    net = csk_net(names, shared=EXCHANGE).train()
    x, samples = batch(NOTHING, ('ir',), ('rgb', 'nir'), ('rgb',), names=names)
    total, _ = net.parse_losses(net.loss(x, samples))
    total.backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []
    net.eval()
    together = logits(net, x, samples)
    for k, sample in enumerate(samples):
        alone = logits(net, x[k : k + 1], [sample])
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-9, atol=1e-9)


def test_three_modalities_need_the_gated_unit_for_two() -> None:
    names = 'rgb', 'ir', 'nir'
    head = dict(fusion=dict(type='mmir.AddFusion'))
    net = csk_net(names, head=head)
    x, samples = batch(NOTHING, names=names)
    assert logits(net, x, samples).isfinite().all()
    x, samples = batch(('rgb',), names=names)
    with pytest.raises(ValueError, match='AddFusion fuses all modalities'):
        logits(net, x, samples)


def test_batches_of_one_modality_are_drawn_by_iteration() -> None:
    draws = [drawn_solo(PAIR, 0.3, k) for k in range(4000)]
    shares = [draws.count(name) / 4000 for name in (None, *PAIR)]
    assert shares == pytest.approx([0.7, 0.15, 0.15], abs=0.02)
    assert draws == [drawn_solo(PAIR, 0.3, k) for k in range(4000)]
    assert {drawn_solo(PAIR, 0.0, k) for k in range(100)} == {None}


def test_solo_batches_train_one_branch() -> None:
    net = csk_net(p_solo=1.0).train()
    x, samples = batch(NOTHING, NOTHING)
    seen = set()
    hub = MessageHub.get_instance('test_solo_batches')  # the current one from now on
    for k in range(8):
        hub.update_info('iter', k)
        losses = net.loss(x, samples)
        names = {key.split('.')[0] for key in losses if key.endswith('loss_ce')}
        assert names == {drawn_solo(PAIR, 1.0, k)}
        seen |= names
    assert seen == set(PAIR)


def test_a_solo_batch_needs_the_modality_in_every_sample() -> None:
    net = csk_net(p_solo=1.0).train()
    hub = MessageHub.get_instance('test_solo_needs')
    absent = dict(rgb=[IR, NOTHING], ir=[NOTHING, RGB])
    for k in range(8):
        hub.update_info('iter', k)
        drawn = drawn_solo(PAIR, 1.0, k)
        losses = net.loss(*batch(*absent[drawn]))
        names = {key.split('.')[0] for key in losses if key.endswith('loss_ce')}
        assert names == {'rgb', 'ir', 'fused'}


def test_copies() -> None:
    net = csk_net(shared=EXCHANGE)
    x, samples = batch(NOTHING, IR)
    other = copy.deepcopy(net)
    assert torch.equal(logits(net, x, samples), logits(other, x, samples))
    assert other.route is not net.route
    fresh = csk_net(shared=EXCHANGE)
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(logits(net, x, samples), logits(fresh, x, samples))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(p_solo=2), 'p_solo must be a probability'),
        (dict(head=dict(weights=dict(depth=1.0))), "weights of .'depth'."),
        (dict(names=('rgb',)), 'at least two modalities'),
        (dict(auxiliary_head=HEADS['fcn']), 'leave auxiliary_head out'),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        csk_net(**options)


def test_bad_batches() -> None:
    net = csk_net()
    x, samples = batch(PAIR)
    with pytest.raises(PairError, match='nothing to use'):
        logits(net, x, samples)
    net.test_cfg.modalities = ('depth',)
    with pytest.raises(PairError, match='unknown modalities'):
        logits(net, *batch(NOTHING))
    net.test_cfg.update(modalities=None, output='ir')
    with pytest.raises(ValueError, match="output='ir', but not every sample"):
        logits(net, *batch(RGB))
