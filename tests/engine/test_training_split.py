"""Models of another split are refused, whatever is done with them."""

import logging
from types import SimpleNamespace

import pytest

from mmir.engine import TrainingSplitHook
from mmir.engine.training_split import training_split
from mmir.utils.errors import UserError


def runner_of(split, name):
    """A runner whose loop of this name has a dataset of a split."""
    dataset = SimpleNamespace(metainfo=dict(training_split=split) if split else {})
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset))
    return SimpleNamespace(logger=logging.getLogger('split'), **{f'{name}_loop': loop})


def loaded(split):
    """A hook that has seen a checkpoint of a split."""
    hook = TrainingSplitHook()
    meta = dict(dataset_meta=dict(training_split=split)) if split else {}
    hook.after_load_checkpoint(None, dict(meta=meta))
    return hook


@pytest.mark.parametrize('name', ['train', 'val', 'test'])
def test_another_split_is_refused(name):
    with pytest.raises(UserError, match=r'trained on trial 1, but .* of trial 2'):
        getattr(loaded('trial 1'), f'before_{name}')(runner_of('trial 2', name))
    hook = loaded('trial 1')
    getattr(hook, f'before_{name}')(runner_of('trial 1', name))
    getattr(hook, f'before_{name}')(runner_of(None, name))
    assert training_split(None) is None


def test_a_model_of_this_run_counts_as_trained():
    hook = TrainingSplitHook()
    hook.before_train(runner_of('trial 3', 'train'))
    assert hook.trained == 'trial 3'
    with pytest.raises(UserError, match='trained on trial 3'):
        hook.before_test(runner_of('trial 4', 'test'))


def test_weights_that_name_no_split_pass_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING, 'split'):
        loaded(None).before_test(runner_of('trial 2', 'test'))
    assert 'must come from trial 2' in caplog.text
