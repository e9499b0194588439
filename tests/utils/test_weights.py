"""Weights are found wherever a checkpoint holds them, under the keys of the model."""

import copy
import io
from collections import OrderedDict

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import HOOKS
from mmengine.runner import load_checkpoint
from torch import nn

from mmir.utils.checkpoint import CheckpointError, weights_of
from mmir.utils.weights import normalized


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Small()


def prefixed(state, prefix):
    return OrderedDict((prefix + key, value) for key, value in state.items())


def as_other(state):
    return {key: torch.zeros_like(value) for key, value in state.items()}


FORMS = {
    'bare': lambda s: s,
    'state_dict': lambda s: {'state_dict': s, 'meta': {'epoch': 3}},
    'model': lambda s: {'model': s, 'optimizer': {'state': {}, 'param_groups': []}},
    'net': lambda s: {'net': s, 'epoch': 3, 'best': 0.5},
    'model beside its average': lambda s: {'model': s, 'model_ema': as_other(s)},
    'state_dict beside ema': lambda s: {
        'state_dict': s,
        'ema_state_dict': {
            'steps': torch.tensor(4),
            **prefixed(as_other(s), 'module.'),
        },
    },
    'ema alone': lambda s: {
        'ema_state_dict': {'steps': torch.tensor(4), **prefixed(s, 'module.')}
    },
    'averaged by torch': lambda s: {
        'n_averaged': torch.tensor(4),
        **prefixed(s, 'module.'),
    },
    'distributed': lambda s: {'state_dict': prefixed(s, 'module.')},
    'distributed, bare': lambda s: prefixed(s, 'module.'),
    'compiled': lambda s: prefixed(s, '_orig_mod.'),
    'compiled in part': lambda s: {
        key.replace('backbone.', 'backbone._orig_mod.'): v for key, v in s.items()
    },
    'compiled and distributed': lambda s: prefixed(s, 'module._orig_mod.'),
    'attribute of a trainer': lambda s: {'state_dict': prefixed(s, 'model.')},
}
"""Where others put the weights -> a checkpoint of that form."""


@pytest.mark.parametrize('form', FORMS)
def test_every_form_starts_the_model(form, model, tmp_path):
    torch.save(FORMS[form](model.state_dict()), tmp_path / 'weights.pth')
    other = Small()
    checkpoint = load_checkpoint(other, str(tmp_path / 'weights.pth'), strict=True)
    for key, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key
    assert list(weights_of(checkpoint, 'weights.pth')) == list(model.state_dict())


@pytest.mark.parametrize('form', FORMS)
def test_every_form_starts_the_moving_average(form, model):
    """`EMAHook` reads `checkpoint['state_dict']` with the keys of the model."""

    class Run:
        _resume = False

    hook = HOOKS.build(dict(type='EMAHook', strict_load=True))
    hook.src_model, other = model, Small()
    hook.ema_model = ExponentialMovingAverage(other)
    hook.after_load_checkpoint(Run(), normalized(FORMS[form](model.state_dict())))
    for key, value in model.state_dict().items():
        assert torch.equal(hook.ema_model.module.state_dict()[key], value), key


def test_whole_modules_give_their_state_dict(model):
    """Only trusted files can hold modules."""
    for content in (model, {'model': model, 'epoch': 1}, {'ema': model, 'model': None}):
        state = weights_of(normalized(content), 'm.pt')
        assert torch.equal(state['head.weight'], model.head.weight)


def test_versions_of_layers_follow_their_keys(model):
    wrapped = nn.DataParallel(model).state_dict()
    assert 'module.backbone.1' in wrapped._metadata
    for content in (wrapped, {'state_dict': wrapped}):
        found = normalized(content)['state_dict']
        assert found._metadata == model.state_dict()._metadata


def test_bare_weights_stay_plain(model):
    bare = normalized(model.state_dict())
    assert 'state_dict' not in bare
    assert list(bare) == list(model.state_dict())
    assert bare['state_dict'] is bare
    with pytest.raises(KeyError, match='meta'):
        bare['meta']
    file = io.BytesIO()
    torch.save(bare, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    for plain in (loaded, copy.deepcopy(bare)):
        assert type(plain) is OrderedDict
        assert plain._metadata == model.state_dict()._metadata
        assert torch.equal(plain['head.weight'], model.head.weight)


def test_models_with_such_submodules_keep_their_keys():
    """A prefix goes only if all keys have it, and `model.` only before a backbone."""
    for state in (
        {'module.a': torch.ones(1), 'b': torch.ones(1)},
        {'model.0.weight': torch.ones(1), 'model.1.weight': torch.ones(1)},
        {'model.backbone.weight': torch.ones(1), 'neck.weight': torch.ones(1)},
    ):
        assert list(normalized(state)) == list(state)


def test_training_state_is_left_alone(model):
    average = {'steps': torch.tensor(4), **prefixed(model.state_dict(), 'module.')}
    state = {'state_dict': model.state_dict(), 'ema_state_dict': average, 'meta': {}}
    found = normalized(state)
    assert found['ema_state_dict'] is average
    assert found['state_dict'] is state['state_dict']
    assert found.keys() == state.keys()


@pytest.mark.parametrize(
    'content',
    [
        {'teacher': {'a': torch.ones(1)}, 'student': {'a': torch.ones(1)}},
        {'epoch': 3, 'config': 'x = 1'},
        {'backbone.weight': torch.ones(1), 'epoch': 3},
    ],
)
def test_what_cannot_be_told_is_named(content):
    assert normalized(content) is content
    with pytest.raises(CheckpointError, match=', '.join(content)) as error:
        weights_of(content, 'odd.pth')
    assert 'odd.pth' in str(error.value)


def test_other_content_passes():
    for content in (torch.ones(2), [1, 2], 'text', None, {}):
        assert normalized(content) is content
