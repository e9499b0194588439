"""The bases of salient-object configs: data, schedule and model train and predict."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import (
    DATASETS,
    METRICS,
    MODELS,
    PARAM_SCHEDULERS,
    init_default_scope,
)

from mmir.testing.scenes.seg_layouts import write_vtsod

BASE = Path(__file__).resolve().parents[2] / 'configs/_base_'
SIZE = (96, 64)


@pytest.fixture(scope='module')
def vt5000(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('masks') / 'VT5000'
    return write_vtsod(root, train=3, test=2, size=(128, 96), seed=4, progress=False)


def config(root: Path, model: bool = False) -> Config:
    """Merge the bases, with small images."""
    files = ['datasets/paired_sod.py', 'schedules/sod_199e.py', 'runtime/seg.py']
    files += ['models/sod_vit-b.py'] if model else []
    bases = [str(BASE / file) for file in files]
    cfg = Config.fromstring(f'_base_ = {bases!r}\n', '.py')
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(root)
        for transform in loader.dataset.pipeline:
            if transform.type == 'mmir.PairedTransform':
                steps = transform.transforms
                steps = steps if isinstance(steps, list) else [steps]
                steps[-1].scale = SIZE
    init_default_scope(cfg.default_scope)
    return cfg


def test_data(vt5000: Path) -> None:
    cfg = config(vt5000)
    np.random.seed(0)  # noqa: NPY002
    train = DATASETS.build(cfg.train_dataloader.dataset)
    test = DATASETS.build(cfg.test_dataloader.dataset)
    assert (len(train), len(test)) == (3, 2)
    seen = []
    for _ in range(12):
        item = train[0]
        assert item['inputs'].shape == (6, *SIZE[::-1])
        assert torch.equal(item['inputs'][3], item['inputs'][5])
        mask = item['data_samples'].gt_sem_seg.data
        assert mask.shape == (1, *SIZE[::-1])
        assert set(mask.unique().tolist()) <= {0, 1}
        seen.append(item['inputs'])
    assert any(not torch.equal(seen[0][:3], other[:3]) for other in seen[1:])
    sample = test[0]
    assert sample['inputs'].shape == (6, *SIZE[::-1])
    assert sample['data_samples'].gt_sem_seg.shape == (96, 128)  # the original size
    assert sample['data_samples'].ori_shape == (96, 128)


def test_the_rate_falls_with_the_100th_epoch() -> None:
    cfg = Config.fromfile(BASE / 'schedules/sod_199e.py')
    layer = torch.nn.Linear(1, 1)
    optim = build_optim_wrapper(layer, cfg.optim_wrapper)
    scheduler = PARAM_SCHEDULERS.build(
        dict(cfg.param_scheduler[0], optimizer=optim.optimizer)
    )
    rates = []
    for _ in range(cfg.max_epochs):
        rates += optim.get_lr()['lr']
        optim.optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([5e-5] * 99 + [5e-6] * 100)


def test_gradients_are_clipped_by_value() -> None:
    cfg = Config.fromfile(BASE / 'schedules/sod_199e.py')
    layer = torch.nn.Linear(2, 1, bias=False)
    optim = build_optim_wrapper(layer, cfg.optim_wrapper)
    optim.zero_grad = lambda: None  # keeps the gradients
    optim.update_params(layer(torch.tensor([[0.25, 7.0]])).sum())
    assert layer.weight.grad.tolist() == [[0.25, 0.5]]


FUSIONS = ['mmir.EarlyFusion', 'mmir.SingleModality', 'IVTuning']


@pytest.mark.parametrize('fusion', FUSIONS)
def test_model_trains_and_predicts(vt5000: Path, fusion: str) -> None:
    pytest.importorskip('mmir.layers.taps')
    pytest.importorskip('mmpretrain')
    cfg = config(vt5000, model=True)
    taps = cfg.model.backbone
    assert taps.scales == (4, 2, 1, 0.5)
    arch = dict(embed_dims=32, num_layers=12, num_heads=2, feedforward_channels=64)
    taps.backbone.update(arch=arch, img_size=SIZE[::-1])
    cfg.model.decode_head.update(in_channels=[32] * 4, channels=8)
    cfg.model.data_preprocessor.size = SIZE[::-1]
    if fusion == 'IVTuning':
        target = taps.backbone.type
        method = dict(type='IVTuning', rank=8)
        taps.backbone.update(type='mmir.Adapted', target=target, adapt=method)
    else:
        cfg.model.update(type=fusion, target='mmseg.EncoderDecoder')
    if fusion == 'mmir.SingleModality':
        cfg.model.modality = 'rgb'
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    optim = build_optim_wrapper(model, cfg.optim_wrapper)
    optim.zero_grad = lambda: None  # keeps the gradients
    train = DATASETS.build(cfg.train_dataloader.dataset)
    log = model.train_step(pseudo_collate([train[0], train[1]]), optim)
    assert torch.isfinite(log['loss'])
    lost = [
        n for n, p in model.named_parameters() if p.requires_grad and p.grad is None
    ]
    assert lost == []
    test = DATASETS.build(cfg.test_dataloader.dataset)
    metric = METRICS.build(cfg.test_evaluator)
    metric.dataset_meta = test.metainfo
    for item in test:
        batch = pseudo_collate([item])
        with torch.no_grad():
            samples = model.eval().test_step(batch)
        assert samples[0].seg_logits.shape == (96, 128)
        metric.process(batch, [sample.to_dict() for sample in samples])
    values = metric.evaluate(len(test))
    assert [*values] == ['S', 'wF', 'meanE', 'MAE']
    assert all(0 < value < 1 for value in values.values())
