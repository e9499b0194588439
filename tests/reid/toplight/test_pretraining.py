"""`TOPClassifier`: views and paths, and a run that writes the soup."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmir.registry import MODELS
from mmir.reid import UniformSoupHook
from mmir.reid.toplight import PARTITIONS
from mmir.testing import demo, demo_pairs
from mmir.utils.errors import UserError

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')
TINY = 'mobilenetv3_small_050'
CONFIG = Path(__file__).parents[3] / 'configs/toplight/top_mbv3s.py'
MODEL = dict(
    type='mmir.TOPClassifier',
    data_preprocessor=dict(type='mmpretrain.SelfSupDataPreprocessor'),
    backbone=dict(
        type='mmir.DualPathBackbone',
        backbone=dict(type='mmir.LightMobileNetV3', arch='small_050'),
        network=TINY,
    ),
    head=dict(
        type='mmir.TOPHead',
        num_classes=3,
        in_channels=1024,
        identity=dict(type='mmir.IdentityConsistencyLoss'),
        domain=dict(type='mmir.FakeDomainLoss', channels=PARTITIONS[TINY].channels),
    ),
)


def classifier() -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(MODEL)
    for p in model.backbone.backbone.layer0.copies['ir'].parameters():
        p.data.normal_()
    return model.eval()


def views() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(2, 3, 64, 64, generator=generator) for _ in range(2)]


def samples() -> list[DataSample]:
    return [DataSample().set_gt_label(k) for k in (2, 0)]


def test_each_view_goes_through_its_path() -> None:
    model, (first, second) = classifier(), views()
    logits = model([first, second])
    for k, (name, view) in enumerate((('rgb', first), ('ir', second))):
        pooled = model.backbone(view, [name] * 2)[-1].mean((2, 3))
        torch.testing.assert_close(logits[k], model.head.fc(pooled))


def test_losses_and_predictions() -> None:
    model = classifier()
    inner, last = model.extract_feat(views())
    losses = model(views(), samples(), mode='loss')
    one, two = model(views())
    labels = torch.tensor([2, 0])
    expected = model.head.identity(one, two, labels)
    torch.testing.assert_close(losses['loss_identity'], expected)
    is_ir = torch.tensor([False, False, True, True])
    expected = model.head.domain(inner, last, is_ir)
    torch.testing.assert_close(losses['loss_domain'], expected)
    found = model(views(), samples(), mode='predict')
    mean = (one.softmax(1) + two.softmax(1)) / 2
    for sample, score in zip(found, mean, strict=True):
        torch.testing.assert_close(sample.pred_score, score)
        assert sample.pred_label == score.argmax()


def test_other_numbers_of_views_are_refused() -> None:
    for inputs in (views()[0], views()[:1], [*views(), *views()]):
        with pytest.raises(UserError, match='MultiView'):
            classifier()(inputs)


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """The demo of a config, of one epoch on a few crops."""
    monkeypatch.setattr(demo, 'DATA', tmp_path / 'data')
    monkeypatch.setattr(demo, 'PAIR_EPOCHS', 1)
    for name in ('TRAIN', 'TEST'):
        monkeypatch.setattr(demo_pairs, name, 3)
    cfg = demo.apply_demo(Config.fromfile(CONFIG), str(tmp_path / 'work'))
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[key].update(num_workers=0, persistent_workers=False)
    cfg.work_dir, cfg.experiment_name = str(tmp_path / 'work'), tmp_path.name
    cfg.log_level = 'WARNING'
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    return Runner.from_cfg(cfg)


def test_a_run_writes_the_network_to_fine_tune(runner: Runner) -> None:
    runner.train()
    assert 0 <= runner.message_hub.get_scalar('val/accuracy/top1').current() <= 100
    rate = runner.message_hub.get_scalar('train/reversal_rate').current()
    assert 0 < rate < 1
    content = torch.load(Path(runner.work_dir, 'soup.pth'), weights_only=True)
    assert content['meta']['recalibrated']
    assert content['meta']['soup']['averaged'] == PARTITIONS[TINY].soup
    state, plain = content['state_dict'], runner.model.backbone.soup()[0].state_dict()
    assert state.keys() == plain.keys()
    measured = [k for k, v in plain.items() if not torch.equal(v, state[k])]
    assert measured
    assert all('running' in key or 'num_batches' in key for key in measured)


def test_other_classes_are_refused(runner: Runner) -> None:
    runner.val_loop.dataloader.dataset._metainfo['classes'] = ('b', 'c')
    with pytest.raises(UserError, match='folders of classes differ'):
        runner.train()


def test_another_number_of_classes_is_refused(runner: Runner) -> None:
    runner.model.head.fc = torch.nn.Linear(runner.model.head.fc.in_features, 2)
    with pytest.raises(UserError, match='set num_classes=3'):
        runner.train()


def test_hooks_that_average_weights_are_refused(runner: Runner) -> None:
    runner.register_hook(EMAHook())
    with pytest.raises(UserError, match='moving average'):
        UniformSoupHook().before_train(runner)


def test_bad_arguments_and_models_are_refused() -> None:
    with pytest.raises(UserError, match='variance'):
        UniformSoupHook(variance='max')
    with pytest.raises(UserError, match='batches'):
        UniformSoupHook(batches=0)
    fake = type('Runner', (), dict(model=nn.ModuleDict(dict(backbone=nn.Linear(1, 1)))))
    fake.model.backbone = nn.Linear(1, 1)
    with pytest.raises(UserError, match='Linear'):
        UniformSoupHook().before_train(fake)
