"""`VIReIDHead` and `VIReID`: losses, features, and what samples must have."""

import pytest
import torch
from mmpretrain.structures import DataSample
from reid_models import IDS, WIDTH, build, people, vireid
from torch.nn.functional import cross_entropy, log_softmax

from mmir.reid import WRTLoss
from mmir.utils.errors import UserError

MODALITIES, LABELS = ['rgb', 'ir'] * 4, [0, 0, 1, 1, 2, 2, 3, 3]


def head(**cfg):
    return build(dict(type='mmir.VIReIDHead', num_classes=IDS, in_channels=WIDTH) | cfg)


@pytest.fixture
def pooled():
    return torch.rand(8, WIDTH, generator=torch.Generator().manual_seed(4))


def test_losses_of_the_head(pooled):
    module = head(metric=dict(wrt=dict(type='mmir.WRTLoss'))).train()
    module.fc.weight.data *= 100
    losses = module.loss((pooled,), people(MODALITIES, LABELS))
    labels = torch.tensor(LABELS)
    normed = (pooled - pooled.mean(0)) / (pooled.var(0, False) + 1e-5).sqrt()
    expected = cross_entropy(normed @ module.fc.weight.T, labels)
    assert list(losses) == ['loss_id', 'loss_wrt']
    torch.testing.assert_close(losses['loss_id'], expected)
    torch.testing.assert_close(losses['loss_wrt'], WRTLoss()(pooled, labels))


def test_label_smoothing_is_that_of_mmpretrain(pooled):
    smooth = dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1)
    module = head(loss=smooth).train()
    module.fc.weight.data *= 100
    losses = module.loss((pooled,), people(MODALITIES, LABELS))
    scores = log_softmax(module((pooled,)), 1)
    right = scores[torch.arange(8), torch.tensor(LABELS)]
    expected = -(0.9 * right + 0.1 * scores.mean(1)).mean()
    torch.testing.assert_close(losses['loss_id'], expected)


def test_both_features_are_written(pooled):
    module = head()
    module.bn.running_mean.fill_(0.25)
    module.bn.running_var.fill_(4)
    samples = module.predict((pooled,), people(MODALITIES, LABELS))
    found = torch.stack([sample.feature for sample in samples])
    torch.testing.assert_close(found, (pooled - 0.25) / (4 + 1e-5) ** 0.5)
    assert torch.equal(torch.stack([s.pooled for s in samples]), pooled)
    assert [sample.modality for sample in samples] == MODALITIES
    assert len(module.predict((pooled,))) == 8


def test_the_norm_has_no_shift_and_the_classifier_no_bias():
    module = head()
    assert module.fc.bias is None
    trained = [name for name, p in module.named_parameters() if p.requires_grad]
    assert trained == ['bn.weight', 'fc.weight']
    assert module.fc.weight.std().item() == pytest.approx(0.001, rel=0.2)


def test_modes_of_the_model():
    model, images = vireid(), torch.rand(8, 3, 32, 16)
    samples = people(MODALITIES, LABELS)
    (maps,) = model.extract_feat(images, 'backbone', samples)
    (pooled,) = model.extract_feat(images, data_samples=samples)
    feature = model.extract_feat(images, 'pre_logits', samples)
    mean = maps.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)
    torch.testing.assert_close(pooled, mean)
    torch.testing.assert_close(feature, model.head.bn(pooled))
    logits = model(images, samples)
    torch.testing.assert_close(logits, feature @ model.head.fc.weight.T)
    found = model(images, samples, mode='predict')
    torch.testing.assert_close(torch.stack([s.feature for s in found]), feature)


def test_it_overfits_a_batch():
    model, images = vireid().train(), torch.rand(8, 3, 32, 16)
    samples = people(MODALITIES, LABELS)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    history = []
    for _ in range(25):
        losses = model(images, samples, mode='loss')
        history.append(sum(losses.values()).item())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    assert history[0] > 1.5
    assert history[-1] < history[0] / 3


@pytest.mark.parametrize('samples', [None, [DataSample()] * 2])
@pytest.mark.parametrize('mode', ['tensor', 'loss', 'predict'])
def test_samples_without_modality_are_refused(samples, mode):
    with pytest.raises(UserError, match='meta_keys'):
        vireid()(torch.rand(2, 3, 32, 16), samples, mode)
    with pytest.raises(UserError, match="'pre_logits'"):
        vireid().extract_feat(torch.rand(2, 3, 32, 16), 'head', samples)
