"""`CompleteNeck` and `TMPAHead`: fusion, losses, and the whole model."""

import pytest
import torch
from reid_models import WIDTH, people, tmpa
from torch import Tensor
from torch.nn.functional import cross_entropy

from mmir.reid import CompleteNeck, MSSLoss, WRTLoss
from mmir.utils.errors import UserError

MODALITIES, LABELS = ['rgb', 'ir'] * 4, [0, 0, 1, 1, 2, 2, 3, 3]


def images() -> Tensor:
    return torch.rand(8, 3, 64, 32, generator=torch.Generator().manual_seed(2))


def test_fusion() -> None:
    maps = torch.rand(3, 2, 5, 4, 3)
    pooled = maps.mean((3, 4))
    *parts, fused = CompleteNeck()(maps)
    torch.testing.assert_close(torch.stack(parts), pooled)
    torch.testing.assert_close(fused, torch.cat([*pooled], 1))
    weighted = CompleteNeck('weighted')
    weighted.weights.data.copy_(torch.tensor([2.0, -1.0]))
    expected = torch.cat([pooled[0], 2 * pooled[1] - pooled[2]], 1)
    torch.testing.assert_close(weighted(maps)[-1], expected)
    with pytest.raises(UserError, match="'concat', 'weighted'"):
        CompleteNeck('sum')


def test_losses_are_those_of_the_parts() -> None:
    net = tmpa()
    net.head.shared_fc.weight.data *= 100
    samples, labels = people(MODALITIES, LABELS), torch.tensor(LABELS)
    losses = net(images(), samples, 'loss')
    shared, rgb, ir, fused = net.extract_feat(images(), data_samples=samples)
    is_rgb = torch.tensor([name == 'rgb' for name in MODALITIES])
    own = torch.stack([(rgb if k % 2 == 0 else ir)[k] for k in range(8)])
    scores = net.head.shared_bn(shared) @ net.head.shared_fc.weight.T
    expected = dict(
        loss_id=cross_entropy(net.head((fused,)), labels),
        loss_wrt=WRTLoss()(fused, labels),
        loss_shared=cross_entropy(scores, labels),
        loss_mss=MSSLoss()(shared, own, labels, is_rgb) / 2,
        loss_msi=net.head.msi(rgb, ir, labels, is_rgb),
    )
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name])


@pytest.mark.parametrize('fusion', ['concat', 'weighted'])
def test_every_parameter_learns_and_the_batch_is_overfitted(fusion: str) -> None:
    net, samples = tmpa(fusion).train(), people(MODALITIES, LABELS)
    optimizer = torch.optim.SGD(net.parameters(), 0.02, momentum=0.9)
    history = []
    for step in range(25):
        losses = net(images(), samples, mode='loss')
        optimizer.zero_grad()
        sum(losses.values()).backward()
        if not step:
            trained = [(n, p) for n, p in net.named_parameters() if p.requires_grad]
            assert [n for n, p in trained if p.grad is None] == []
        optimizer.step()
        history.append(losses['loss_id'].item())
    assert history[0] > 1.3
    assert history[-1] < history[0] / 3


def test_one_image_of_one_modality_is_enough() -> None:
    net = tmpa()
    together = net(images(), people(MODALITIES, LABELS), 'predict')
    alone = net(images()[1:2], people(['ir'], [0]), 'predict')
    assert together[1].feature.shape == (3 * WIDTH,)
    torch.testing.assert_close(alone[0].feature, together[1].feature)
    torch.testing.assert_close(alone[0].pooled, together[1].pooled)
