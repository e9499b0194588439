"""What `--cfg-options` may change."""

import pytest
from mmengine.config import Config

from mmir.cli.config import apply_options
from mmir.utils.errors import UserError


@pytest.fixture
def cfg():
    return Config(
        {
            'default_scope': 'mmengine',
            'data_root': 'data/set/',
            'lr': 0.1,
            'model': {'type': 'mmir.TensorFactConv', 'rank': 2, 'init_cfg': None},
            'optim_wrapper': {
                'type': 'OptimWrapper',
                'optimizer': {'type': 'SGD', 'lr': 0.1},
            },
            'train_dataloader': {
                'dataset': {
                    'type': 'Wrapper',
                    'datasets': [{'data_root': 'data/set/', 'ann_file': 'a.json'}],
                    'pipeline': [{'type': 'A'}, {'type': 'B', 'lr': 3}],
                }
            },
            'val_evaluator': {'ann_file': 'data/set/val/b.json'},
            'note': 'data/settle',
        }
    )


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('model.rank', 4),
        ('optim_wrapper.optimizer.lr', 0.5),
        ('optim_wrapper.optimizer.momentum', 0.9),
        ('optim_wrapper.clip_grad', {'max_norm': 1}),
        ('train_dataloader.dataset.pipeline.1.lr', 5),
        ('train_cfg', {'max_epochs': 3}),
        ('auto_scale_lr', {'enable': True}),
        ('model.bias', False),
        ('load_from', 'rgb.pth'),
        ('train_dataloader.batch_sampler', {'type': 'X'}),
    ],
)
def test_keys_that_exist_and_new_ones_are_set(cfg, key, value):
    apply_options(cfg, {key: value})
    node = cfg
    for part in key.split('.'):
        node = node[int(part)] if part.isdigit() else node[part]
    assert node == value


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        ('modl.rank', 'no key modl at the top of the config; did you mean model'),
        ('model.rnk', 'no key rnk in model; did you mean rank'),
        ('optim_wrapper.optimizer.lrr', 'did you mean lr'),
        ('optim_wrapper.optimiser.lr', 'did you mean optimizer'),
        ('load_form', 'did you mean load_from'),
        ('model.init_cfg.checkpoint', 'in model.init_cfg; it is a plain value'),
        ('train_dataloader.dataset.pipeline.2.lr', r'did you mean 0 or 1\?'),
        ('type', 'at the top of the config; did you mean model.type or optim_wrapper'),
        ('momentm.x', 'no key momentm at the top of the config'),
        ('val_evaluator.anfile', 'did you mean ann_file'),
    ],
)
def test_misspelled_keys_are_refused_and_nothing_changes(cfg, key, message):
    before = cfg.pretty_text
    with pytest.raises(UserError, match=message):
        apply_options(cfg, {'model.rank': 9, key: 1})
    assert cfg.pretty_text == before


def test_data_root_moves_every_path_below_it(cfg):
    apply_options(cfg, {'data_root': '/new'})
    dataset = cfg.train_dataloader.dataset.datasets[0]
    assert dataset.data_root == '/new/'
    assert dataset.ann_file == 'a.json'
    assert cfg.val_evaluator.ann_file == '/new/val/b.json'
    assert cfg.note == 'data/settle'
    assert type(cfg.model).__name__ == 'ConfigDict'
