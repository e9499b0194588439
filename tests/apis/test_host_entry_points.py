"""Checkpoints through the entry points of the hosts: safe, and sound ones load."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.registry import MODELS, DefaultScope, init_default_scope

from mmir.utils.checkpoint import CheckpointError, UnsafeCheckpointError

CONFIGS = {
    'mmdet': 'rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'mmseg': 'cgnet/cgnet_fcn_4xb8-60k_cityscapes-512x1024.py',
    'mmpretrain': 'resnet/resnet18_8xb32_in1k.py',
}


def det_function(cfg, weights):
    from mmdet.apis import init_detector

    return init_detector(cfg, weights, device='cpu')


def det_inferencer(cfg, weights):
    from mmdet.apis import DetInferencer

    return DetInferencer(cfg, weights, device='cpu').model


def det_weights_alone(_, weights):
    from mmdet.apis import DetInferencer

    return DetInferencer(weights=weights, device='cpu').model


def seg_function(cfg, weights):
    from mmseg.apis import init_model

    return init_model(cfg, weights, device='cpu')


def seg_inferencer(cfg, weights):
    from mmseg.apis import MMSegInferencer

    return MMSegInferencer(cfg, weights, device='cpu').model


def pretrain_function(cfg, weights):
    from mmpretrain import get_model

    return get_model(cfg, pretrained=weights, device='cpu')


def pretrain_inferencer(cfg, weights):
    from mmpretrain import ImageClassificationInferencer

    return ImageClassificationInferencer(cfg, pretrained=weights, device='cpu').model


ENTRIES = {
    det_function: 'mmdet',
    det_inferencer: 'mmdet',
    det_weights_alone: 'mmdet',
    seg_function: 'mmseg',
    seg_inferencer: 'mmseg',
    pretrain_function: 'mmpretrain',
    pretrain_inferencer: 'mmpretrain',
}


class Malicious:
    """Pickles as code that leaves a file behind."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return exec, (f'open({str(self.trace)!r}, "w").close()',)


@pytest.fixture(scope='module')
def made():
    """Small config and weights of each host, made once."""
    cache = {}

    def make(host):
        init_default_scope(host)
        if host not in cache:
            package = pytest.importorskip(host)
            root = Path(package.__file__).parent / '.mim/configs'
            cfg = Config.fromfile(root / CONFIGS[host])
            if host == 'mmdet':
                cfg.model.backbone.init_cfg = None
            torch.manual_seed(1)
            state = MODELS.build(cfg.model).state_dict()
            cache[host] = cfg, state
        return cache[host]

    return make


@pytest.fixture(autouse=True)
def no_default_scope():
    """Hosts leave their default scope behind."""
    DefaultScope._instance_dict.clear()
    yield
    DefaultScope._instance_dict.clear()


def training_checkpoint(cfg, state):
    """What a runner saves: metadata, message hub with statistics, optimizer, EMA."""
    classes = dict(classes=('a', 'b'), palette=[(1, 2, 3), (4, 5, 6)])
    info = dict(epoch=1, iter=2, cfg=cfg.pretty_text)
    return {
        'meta': {'epoch': 1, 'cfg': cfg.pretty_text, 'dataset_meta': classes},
        'state_dict': state,
        'ema_state_dict': {f'module.{k}': v for k, v in state.items()},
        'optimizer': {'state': {0: {'step': torch.tensor(1.0)}}, 'param_groups': []},
        'message_hub': {
            'log_scalars': {'train/loss': HistoryBuffer([1.0, 2.0], [1, 1])},
            'runtime_info': info,
            'resumed_keys': {},
        },
    }


@pytest.mark.parametrize('entry', ENTRIES)
def test_malicious_checkpoints_run_nowhere(entry, made, tmp_path):
    cfg, state = made(ENTRIES[entry])
    path, trace = tmp_path / 'evil.pth', tmp_path / 'code_ran'
    content = training_checkpoint(cfg, state)
    torch.save({**content, 'extra': Malicious(trace)}, path)
    for name in (str(path), f'file://{path}'):
        with pytest.raises(UnsafeCheckpointError) as error:
            entry(cfg.copy(), name)
        assert error.value.names == ['builtins.exec']
        assert 'evil.pth' in str(error.value)
        assert '--trust-checkpoint' in str(error.value)
    content['message_hub']['runtime_info']['cfg'] = f'open({str(trace)!r}, "w")'
    torch.save(content, path)
    with pytest.raises(UnsafeCheckpointError, match=r'code in message_hub\.'):
        entry(cfg.copy(), str(path))
    assert not trace.exists()


@pytest.mark.parametrize('form', ['runner', 'module.'])
@pytest.mark.parametrize('entry', ENTRIES)
def test_sound_checkpoints_load(entry, form, made, tmp_path):
    cfg, state = made(ENTRIES[entry])
    content = training_checkpoint(cfg, state)
    if form == 'module.':
        content['state_dict'] = {f'module.{k}': v for k, v in state.items()}
    torch.save(content, tmp_path / 'good.pth')
    found = entry(cfg.copy(), str(tmp_path / 'good.pth')).state_dict()
    for key, value in state.items():
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize('entry', [det_inferencer, seg_function, pretrain_function])
def test_what_is_no_checkpoint_is_named(entry, made, tmp_path):
    cfg, _ = made(ENTRIES[entry])
    path = tmp_path / 'w.pth'
    path.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9')
    with pytest.raises(CheckpointError, match=r'w\.pth.*Git LFS.*git lfs pull'):
        entry(cfg.copy(), str(path))
