"""What `--cfg-options` may change, and which data has to be there."""

import pytest
from mmengine.config import Config

from mmir.utils.config import UserError, apply_options, check_data, find_type


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
    ],
)
def test_known_keys_and_parameters_of_the_type_are_set(cfg, key, value):
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
        ('model.init_cfg.checkpoint', 'model.init_cfg is a plain value'),
        ('train_dataloader.dataset.pipeline.2.lr', r"known: \['0', '1'\]"),
        ('max_epochs', 'no key max_epochs at the top'),
        ('lr', r'variable of the config file(.|\n)*optim_wrapper.optimizer.lr, train_'),
        ('val_evaluator.anfile', 'did you mean ann_file'),
    ],
)
def test_unknown_keys_are_refused_and_nothing_changes(cfg, key, message):
    before = cfg.pretty_text
    with pytest.raises(UserError, match=message):
        apply_options(cfg, {'model.rank': 9, key: 1})
    assert cfg.pretty_text == before


def test_new_keys_of_loops_and_seeds_are_known_by_their_takers(cfg):
    cfg.train_cfg = {'by_epoch': True, 'max_epochs': 2}
    cfg.randomness = {'seed': 1}
    options = {'train_cfg.val_interval': 2, 'randomness.deterministic': True}
    apply_options(cfg, options)
    assert cfg.train_cfg.val_interval == 2
    assert cfg.randomness.deterministic
    with pytest.raises(UserError, match='did you mean val_interval'):
        apply_options(cfg, {'train_cfg.val_intervall': 2})


def test_data_root_moves_every_path_below_it(cfg):
    apply_options(cfg, {'data_root': '/new'})
    dataset = cfg.train_dataloader.dataset.datasets[0]
    assert dataset.data_root == '/new/'
    assert dataset.ann_file == 'a.json'
    assert cfg.val_evaluator.ann_file == '/new/val/b.json'
    assert cfg.note == 'data/settle'
    assert type(cfg.model).__name__ == 'ConfigDict'


def test_missing_paths_are_all_named(cfg, tmp_path):
    with pytest.raises(UserError) as caught:
        check_data(cfg, ('train_dataloader', 'val_evaluator', 'test_dataloader'))
    message = str(caught.value)
    where = 'train_dataloader.dataset.datasets.0'
    assert f'{where}.data_root: no folder data/set/' in message
    assert f'{where}.ann_file: no file data/set/a.json' in message
    assert 'val_evaluator.ann_file: no file data/set/val/b.json' in message
    assert '--demo' in message
    (tmp_path / 'val').mkdir()
    (tmp_path / 'a.json').write_text('{}')
    (tmp_path / 'val/b.json').write_text('{}')
    apply_options(cfg, {'data_root': str(tmp_path)})
    dataset = cfg.train_dataloader.dataset.datasets[0]
    dataset.data_prefix = {'img': 'val', 'seg': ''}
    assert check_data(cfg, ('train_dataloader', 'val_evaluator')) is None
    dataset.data_prefix = {'img': 'images'}
    with pytest.raises(UserError, match=r'data_prefix.img: no folder .*/images'):
        check_data(cfg, ('train_dataloader',))


def test_flir_message_says_where_it_comes_from():
    node = {'type': 'mmir.FLIRDataset', 'data_root': 'data/F', 'ann_file': 'x.json'}
    cfg = Config({'train_dataloader': {'dataset': node}})
    with pytest.raises(UserError, match=r'Teledyne FLIR(.|\n)*--demo'):
        check_data(cfg, ('train_dataloader',))


def test_remote_data_is_left_to_its_backend():
    node = {'data_root': 's3://bucket/x', 'ann_file': 'y.json'}
    cfg = Config({'train_dataloader': {'dataset': node}})
    assert check_data(cfg, ('train_dataloader',)) is None


def test_types_are_found_in_any_registry_and_scope():
    from torch.optim import SGD

    from mmir.layers import TensorFactConv

    assert find_type('SGD', None) is SGD
    assert find_type('mmir.TensorFactConv', 'mmdet') is TensorFactConv
    assert find_type('NoSuchThing', 'mmdet') is None
    assert find_type('FasterRCNN', 'mmdet').__module__.startswith('mmdet.')
