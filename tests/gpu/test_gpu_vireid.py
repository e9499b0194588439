"""Models and losses of re-identification are the same on CUDA and CPU."""

import pytest
import torch
from reid_models import IDS, WIDTH, people, vireid

from mmir.reid import CenterLoss, HardTripletLoss, WRTLoss

pytestmark = pytest.mark.gpu
MODALITIES, LABELS = ['rgb', 'ir', 'ir', 'rgb'] * 2, [0, 0, 1, 1, 2, 2, 3, 3]
LOSSES = {
    'wrt': WRTLoss,
    'squared': lambda: WRTLoss(squared=True),
    'legacy': lambda: WRTLoss(legacy=True),
    'hard': HardTripletLoss,
    'center': lambda: CenterLoss(4, 16),
}


@pytest.mark.parametrize('name', LOSSES)
def test_losses_and_gradients(device, name):
    x = torch.randn(12, 16, generator=torch.Generator().manual_seed(0))
    labels, found = torch.arange(12) % 4, []
    for place in ('cpu', device):
        features = x.to(place).requires_grad_()
        loss = LOSSES[name]().to(place)(features, labels.to(place))
        loss.backward()
        found.append((loss.detach().cpu(), features.grad.cpu()))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


def test_features(device):
    model = vireid()
    images = torch.rand(8, 3, 32, 16, generator=torch.Generator().manual_seed(1))
    samples = people(MODALITIES, LABELS)
    with torch.no_grad():
        (wanted,) = model.extract_feat(images, data_samples=samples)
        (found,) = model.to(device).extract_feat(
            images.to(device), data_samples=samples
        )
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_a_step(device, dtype):
    """The metric losses are computed in float32, whatever the network computes in."""
    center = dict(type='mmir.CenterLoss', num_classes=IDS, in_channels=WIDTH)
    metric = dict(wrt=dict(type='mmir.WRTLoss'), center=center)
    model = vireid(metric=metric).to(device).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    samples = [s.to(device) for s in people(MODALITIES, LABELS)]
    with torch.autocast(device, dtype, enabled=dtype != torch.float32):
        images = torch.rand(8, 3, 32, 16, device=device)
        losses = model(images, samples, mode='loss')
    assert losses['loss_wrt'].dtype == losses['loss_center'].dtype == torch.float32
    sum(losses.values()).backward()
    optimizer.step()
    after = dict(model.named_parameters())
    assert all(p.isfinite().all() for p in after.values())
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    stems = {f'backbone.backbone.conv1.copies.{name}.weight' for name in ('rgb', 'ir')}
    assert stems | {'head.bn.weight', 'head.fc.weight'} <= changed
