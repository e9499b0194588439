"""`mmir.Adapted` on a registered model, through mmengine's registry and Runner."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseModel, ImgDataPreprocessor
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint
from torch import nn

from mmir.adapters import adapter_state
from mmir.tensorfact import TensorFactConv, augment_, factorize_


class ToyDetector(BaseModel):
    """A model in the style of the hosts: nested configs, loss and predict."""

    def __init__(self, backbone, bbox_head=None, train_cfg=None, **kwargs):
        super().__init__(**kwargs)
        self.backbone = MODELS.build(backbone)
        self.bbox_head = nn.Conv2d(8, 2, 3, padding=1)
        self.train_cfg = train_cfg

    def forward(self, inputs, data_samples=None, mode='tensor'):
        y = self.bbox_head(self.backbone(inputs))
        return {'loss': y.square().mean()} if mode == 'loss' else y


@pytest.fixture(autouse=True)
def _registered():
    MODELS.register_module(name='ToyDetector', module=ToyDetector)
    yield
    MODELS.module_dict.pop('ToyDetector')


def config(**adapt):
    return ConfigDict(
        type='Adapted',
        target='ToyDetector',
        adapt={'type': 'TensorFact', 'rank': 4, 'delta': None, **adapt},
        data_preprocessor={'type': 'ImgDataPreprocessor', 'mean': [1.0], 'std': [2.0]},
        backbone={
            'type': 'ConvModule',
            'in_channels': 3,
            'out_channels': 8,
            'kernel_size': 3,
            'norm_cfg': {'type': 'BN'},
        },
        train_cfg={'a': 1},
    )


def dense():
    cfg = config()
    del cfg['adapt'], cfg['target']
    return MODELS.build({**cfg, 'type': 'ToyDetector'})


def test_first_stage_trains_everything():
    cfg = config()
    untouched = copy.deepcopy(cfg)
    model = MODELS.build(cfg)
    assert cfg == untouched
    assert type(model) is ToyDetector
    assert model.train_cfg == {'a': 1}
    assert isinstance(model.data_preprocessor, ImgDataPreprocessor)
    assert type(model.backbone.conv) is TensorFactConv
    assert type(model.bbox_head) is nn.Conv2d
    assert all(p.requires_grad for p in model.parameters())


def test_found_with_the_scope_of_the_package():
    pytest.importorskip('mmir.registry')
    model = MODELS.build({**config(), 'type': 'mmir.Adapted'})
    assert type(model.backbone.conv) is TensorFactConv


def test_second_stage_trains_delta_and_head():
    model = MODELS.build(config(delta={'rank': 1}, norm='frozen'))
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    assert names == [
        'backbone.conv.deltas.ir.A',
        'backbone.conv.deltas.ir.B',
        'bbox_head.weight',
        'bbox_head.bias',
    ]
    model.init_weights()
    model.train()
    assert not model.backbone.bn.training
    delta = adapter_state(model)
    assert sorted(delta['state_dict']) == sorted(names)


def test_parts_to_train_can_be_named():
    stage = {'delta': 1, 'trainable': [r'backbone\.bn']}
    model = MODELS.build(config(**stage, norm='frozen'))
    names = {n for n, p in model.named_parameters() if p.requires_grad}
    assert names >= {'backbone.bn.weight', 'backbone.bn.bias'}
    assert not any(n.startswith('bbox_head') for n in names)


@pytest.mark.parametrize('delta', [None, {'rank': {'ratio': 0.5}}])
def test_dense_checkpoint_loads_as_by_load_from(tmp_path, delta):
    source = dense()
    torch.save({'state_dict': source.state_dict(), 'meta': {}}, tmp_path / 'rgb.pth')
    model = MODELS.build(config(delta=delta))
    model.init_weights()
    load_checkpoint(model, str(tmp_path / 'rgb.pth'))
    factorize_(source, 4)
    x = torch.randn(1, 3, 9, 9)
    assert torch.equal(model.eval()(x), source.eval()(x))


def test_init_cfg_of_the_model_is_obeyed(tmp_path):
    source = dense()
    path = tmp_path / 'rgb.pth'
    torch.save(source.state_dict(), path)
    cfg = config(delta=1)
    cfg.init_cfg = {'type': 'Pretrained', 'checkpoint': str(path)}
    model = MODELS.build(cfg)
    model.init_weights()
    factorize_(source, 4)
    augment_(source, 'ir', 1)
    assert torch.equal(model.backbone.conv.kernel(), source.backbone.conv.kernel())


def test_training_step_changes_only_the_stage():
    model = MODELS.build(config(delta=1))
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), 0.01, weight_decay=0.1)
    model.train()(torch.randn(2, 3, 8, 8), mode='loss')['loss'].backward()
    optimizer.step()
    changed = {
        k for k, v in model.state_dict().items() if not torch.equal(v, before[k])
    }
    assert changed <= set(adapter_state(model)['state_dict'])
    assert 'backbone.conv.deltas.ir.A' in changed


@pytest.mark.parametrize(
    ('adapt', 'error', 'message'),
    [
        ({'rank': 99}, ValueError, 'nothing to factorize at rank 99'),
        ({'split': 'x'}, ValueError, 'available: ts_dd'),
        ({'color': 1}, TypeError, 'color'),
        ({'norm': 'frozen'}, ValueError, 'TensorFact freezes nothing here'),
        ({'delta': 1, 'norm': 'off'}, ValueError, "unknown norm 'off'"),
        ({'delta': 1, 'trainable': 'neck'}, TypeError, 'give a list'),
        ({'type': 'LoRAs'}, KeyError, 'LoRAs'),
        ({'type': 'ConvModule'}, TypeError, 'delta|unexpected'),
        ({'rank': None}, ValueError, 'has no factors yet, give a rank'),
        ({'rank': None, 'split': 'td_sd', 'mode': 'auto'}, ValueError, 'give a rank'),
        ({'comp_loss': {}}, ValueError, 'comp_loss needs a delta'),
        ({'rank': {'energy': 0.9}}, ValueError, 'give checkpoint=PATH'),
    ],
)
def test_wrong_keys(adapt, error, message):
    with pytest.raises(error, match=message):
        MODELS.build(config(**adapt))
