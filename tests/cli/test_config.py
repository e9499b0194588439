"""What `--cfg-options` may change."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmir.cli import config
from mmir.cli.config import apply_options, complete_loaders
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


CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(config, '_log', lines.append)
    return lines


@pytest.mark.parametrize('key', ['max_epochs', 'train_cfg.max_epochs'])
def test_the_number_of_epochs_takes_the_schedule_along(key, said):
    cfg = Config.fromfile(CONFIGS / 'tensorfact/yolo_flir_1pct.py')
    apply_options(cfg, {key: 2})
    warm, cosine = cfg.param_scheduler
    assert cfg.train_cfg.max_epochs == 2
    assert (warm.begin, warm.end) == (0, 1)
    assert (cosine.begin, cosine.end, cosine.T_max) == (1, 2, 1)
    assert cfg.train_cfg.val_interval == cfg.default_hooks.checkpoint.interval == 1
    assert 'param_scheduler.1.end: 200 -> 2' in said[0]


def test_other_options_win_over_what_the_epochs_scale():
    cfg = Config.fromfile(CONFIGS / 'tensorfact/yolo_flir_1pct.py')
    options = {'train_cfg.val_interval': 7, 'param_scheduler.1.T_max': 5}
    apply_options(cfg, {**options, 'max_epochs': 20})
    assert cfg.train_cfg.val_interval == 7
    assert [s.get('T_max') for s in cfg.param_scheduler] == [None, 5]
    apply_options(cfg, {'param_scheduler.1.eta_min_ratio': 0.5, 'max_epochs': 1})
    assert [s.type for s in cfg.param_scheduler] == ['LinearLR']


@pytest.mark.parametrize('value', [0, -1, 2.5, 'two'])
def test_a_number_of_epochs_that_is_none_is_refused(value):
    cfg = Config.fromfile(CONFIGS / 'tensorfact/yolo_flir_1pct.py')
    with pytest.raises(UserError, match=f'max_epochs={value}: set a positive integer'):
        apply_options(cfg, {'max_epochs': value})


def test_a_variable_sets_the_keys_it_gave_its_value(said):
    cfg = Config.fromfile(CONFIGS / 'tensorfact/yolo_flir_1pct.py')
    apply_options(cfg, {'num_workers': 0, 'base_lr': 0.5})
    complete_loaders(cfg)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert cfg[name].num_workers == 0
        assert 'persistent_workers' not in cfg[name]
    loaders = ('test', 'train', 'val')
    places = ', '.join(f'{name}_dataloader.num_workers' for name in loaders)
    assert said[0] == f'num_workers=0: set {places}'
    assert said[1].startswith('base_lr=0.5: a variable of the config file; keys that')


def test_workers_that_are_left_stay_persistent():
    cfg = Config.fromfile(CONFIGS / 'tensorfact/yolo_flir_1pct.py')
    cfg.train_dataloader.prefetch_factor = 4
    apply_options(cfg, {'val_dataloader.num_workers': 0})
    complete_loaders(cfg)
    assert cfg.train_dataloader.persistent_workers
    assert cfg.train_dataloader.prefetch_factor == 4
    assert 'persistent_workers' not in cfg.val_dataloader
