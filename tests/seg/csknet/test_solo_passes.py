"""Statistics of norms for passes of CSK-Net with one modality."""

import copy

import pytest
import torch
from small_csknet import EXCHANGE, batch, csk_net, logits
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmir.engine import recalibrate_norms
from mmir.layers.solo_statistics import modality_norms

IR, RGB = ('rgb',), ('ir',)  # what is absent


class Stacked(nn.Module):
    """A data preprocessor that keeps float64."""

    def forward(self, data: dict, training: bool) -> dict:
        assert training
        return dict(data, inputs=torch.stack(data['inputs']))


@pytest.fixture
def net() -> nn.Module:
    model = csk_net(shared=EXCHANGE)
    model.data_preprocessor = Stacked()
    return model


def loader(count: int) -> list[dict]:
    """Batches of two pairs, as a data loader yields them."""
    x, samples = batch(*[()] * (2 * count))
    scaled = [(k + 1) * y for k, y in enumerate(x)]
    return [
        dict(inputs=scaled[k : k + 2], data_samples=samples[k : k + 2])
        for k in range(0, 2 * count, 2)
    ]


def recalibrated(net: nn.Module) -> nn.Module:
    recalibrate_norms(net, loader(2), 'ir')
    return net


def with_statistics(net: nn.Module) -> nn.Module:
    """A net whose norms themselves have the statistics of infrared alone."""
    other = copy.deepcopy(net)
    with net.solo_statistics.alone(net, 'ir'):
        state = copy.deepcopy(net.state_dict())
    other.load_state_dict({k: v for k, v in state.items() if 'solo' not in k})
    return other


def test_statistics_of_every_norm_by_hand(net: nn.Module) -> None:
    seen: dict[str, list[Tensor]] = {}
    for name, module in net.named_modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(
                lambda _, args, name=name: seen.setdefault(name, []).append(args[0])
            )
    recalibrated(net)
    own = modality_norms(net, 'ir')
    assert set(seen) == set(own)
    assert any(name.startswith('decode_head.decoders.ir.') for name in own)
    with net.solo_statistics.alone(net, 'ir'):
        for name, norm in own.items():
            maps = [x.transpose(0, 1).flatten(1) for x in seen[name]]
            mean = torch.stack([x.mean(1) for x in maps]).mean(0)
            var = torch.stack([x.var(1) for x in maps]).mean(0)
            torch.testing.assert_close(norm.running_mean, mean)
            torch.testing.assert_close(norm.running_var, var)


def test_joint_passes_and_the_other_modality_stay(net: nn.Module) -> None:
    both, rgb, ir = (batch(gone, gone) for gone in ((), RGB, IR))
    before = [logits(net, *each) for each in (both, rgb, ir)]
    recalibrated(net)
    after = [logits(net, *each) for each in (both, rgb, ir)]
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    assert not torch.allclose(before[2], after[2])
    assert torch.equal(after[2], logits(with_statistics(net), *ir))


def test_a_mixed_batch_equals_its_groups(net: nn.Module) -> None:
    recalibrated(net)
    x, samples = batch(IR, (), RGB, (), IR)
    found = logits(net, x, samples)
    for rows in ([0, 4], [1, 3], [2]):
        alone = logits(net, x[rows], [samples[k] for k in rows])
        torch.testing.assert_close(found[rows], alone)
    net.test_cfg.modalities = ('ir',)
    rows = [0, 1, 3, 4]
    found = logits(net, x[rows], [samples[k] for k in rows])
    wanted = logits(with_statistics(net), x[rows], [samples[k] for k in rows])
    torch.testing.assert_close(found, wanted)


def test_checkpoint_of_a_model_with_and_without(net: nn.Module) -> None:
    x, samples = batch(IR, IR)
    plain = copy.deepcopy(net.state_dict())
    before = logits(net, x, samples)
    recalibrated(net)
    other = csk_net(shared=EXCHANGE)
    other.load_state_dict(net.state_dict())
    assert torch.equal(logits(other, x, samples), logits(net, x, samples))
    other.load_state_dict(plain)
    assert torch.equal(logits(other, x, samples), before)


def test_training_uses_the_statistics_of_the_batch(net: nn.Module) -> None:
    recalibrated(net).train()
    stored = copy.deepcopy(net.solo_statistics.state_dict())
    x, samples = batch(IR, IR)
    total, _ = net.parse_losses(net(x, samples, mode='loss'))
    total.backward()
    after = net.solo_statistics.state_dict()
    assert all(torch.equal(after[key], value) for key, value in stored.items())
    norm = next(iter(modality_norms(net, 'ir').values()))
    assert norm.num_batches_tracked == 1
