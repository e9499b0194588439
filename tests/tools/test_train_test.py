"""train.py and test.py on a toy of mmengine's own scope, and their errors."""

import importlib.util
import json
import os
import pickle
import sys
import uuid
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from torch import nn
from torch.utils.data import Dataset

import mmir.adapters
from mmir.cli import cli
from mmir.utils.errors import UserError

ROOT = Path(__file__).parents[2]
CONFIG = """
default_scope = 'mmengine'
custom_imports = dict(imports=['mmir'], allow_failed_imports=False)
model = dict(type='ToyLine')
loader = dict(
    batch_size=4,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler'),
)
train_dataloader = dict(**loader, dataset=dict(type='ToyPoints', data_root='{root}'))
val_dataloader = train_dataloader
test_dataloader = train_dataloader
train_cfg = dict(by_epoch=True, max_epochs=4)
val_cfg = dict()
test_cfg = dict()
val_evaluator = dict(type='ToyError')
test_evaluator = val_evaluator
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
auto_scale_lr = dict(enable=False, base_batch_size=8)
custom_hooks = [dict(type='EMAHook'), dict(type='ToyStop', epoch={stop})]
randomness = dict(seed=1)
log_level = 'ERROR'
data_root = '{root}'
"""


class ToyLine(BaseModel):
    def __init__(self, checkpoints: dict | None = None) -> None:
        super().__init__()
        self.line = nn.Linear(2, 1)
        for file in (checkpoints or {}).values():
            self.load_state_dict(torch.load(file))

    def forward(self, x, y, mode='tensor'):
        error = self.line(x).squeeze(1) - y
        if mode == 'loss':
            return {'loss': error.square().mean()}
        return [{'error': float(e.abs())} for e in error]


class ToyPoints(Dataset):
    metainfo: dict = {}

    def __init__(self, data_root: str) -> None:
        x = np.random.default_rng(0).normal(size=(16, 2)).astype('float32')
        self.x, self.y = x, x @ np.float32([2, -1]) + np.float32(0.5)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return {'x': self.x[i], 'y': self.y[i]}


class ToyError(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [sample['error'] for sample in data_samples]

    def compute_metrics(self, results):
        return {'error': np.mean(results)}


class ToyStop(Hook):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def after_train_epoch(self, runner):
        if runner.epoch + 1 == self.epoch:
            raise KeyboardInterrupt


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f'tool_{name}', ROOT / f'tools/{name}.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


train, test = tool('train'), tool('test')


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    """Register the toys, work in a folder of their own, keep the environment."""
    for registry, toy in (
        (MODELS, ToyLine),
        (DATASETS, ToyPoints),
        (METRICS, ToyError),
        (HOOKS, ToyStop),
    ):
        monkeypatch.setitem(registry.module_dict, toy.__name__, toy)
    for name in ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'):
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)
    build = cli.build_runner

    def build_named(cfg):
        # mmengine names its loggers by the second, which two runs may share here.
        cfg.experiment_name = uuid.uuid4().hex
        return build(cfg)

    monkeypatch.setattr(cli, 'build_runner', build_named)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def config(tmp_path):
    def write(stop: int = 99, name: str = 'toy.py') -> str:
        (tmp_path / name).write_text(CONFIG.format(root=tmp_path, stop=stop))
        return name

    return write


def weights(path: str) -> dict:
    return torch.load(path, weights_only=True)['state_dict']


def metrics_of(out: str) -> dict:
    return json.loads(Path(out).read_text())['metrics']


def test_interrupted_and_resumed_equals_uninterrupted(config):
    train.main([config(), '--work-dir', 'whole'])
    with pytest.raises(KeyboardInterrupt):
        train.main([config(stop=3, name='stopped.py'), '--work-dir', 'parts'])
    assert not Path('parts/epoch_4.pth').exists()
    train.main([config(), '--work-dir', 'parts', '--resume'])
    whole, parts = weights('whole/epoch_4.pth'), weights('parts/epoch_4.pth')
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    results = [
        test.main([config(), f'{folder}/epoch_4.pth', '--work-dir', 'out'])
        for folder in ('whole', 'parts')
    ]
    assert results[0] == results[1]
    assert 0 < results[0]['error'] < 3


def test_resume_takes_a_path_and_starts_anew_without_checkpoint(config):
    train.main([config(), '--work-dir', 'a', '--resume'])
    train.main([config(), '--work-dir', 'b', '--resume', 'a/epoch_2.pth'])
    assert Path('b/epoch_3.pth').exists()
    assert not Path('b/epoch_2.pth').exists()
    with pytest.raises(UserError, match=r'--resume: no file a/epoch_9.pth'):
        train.main([config(), '--work-dir', 'b', '--resume', 'a/epoch_9.pth'])


def test_seed_and_options_change_the_run(config):
    options = [
        '--cfg-options',
        'train_cfg.max_epochs=1',
        'optim_wrapper.optimizer.lr=0',
    ]
    for seed in (3, 4, 3):
        train.main([config(), '--work-dir', 'w', '--seed', str(seed), *options])
        Path('w/epoch_1.pth').rename(f'{seed}.pth')
    assert not Path('w/epoch_2.pth').exists()
    first, second = weights('3.pth'), weights('4.pth')
    assert not torch.equal(first['line.weight'], second['line.weight'])


def test_default_work_dir_is_named_after_the_config(config):
    train.main([config(), '--cfg-options', 'train_cfg.max_epochs=1'])
    assert Path('work_dirs/toy/epoch_1.pth').exists()


def test_auto_scale_lr_scales_by_the_batch_size(config, monkeypatch):
    seen = []
    monkeypatch.setattr(
        ToyStop,
        'after_train',
        lambda self, runner: seen.append(runner.optim_wrapper.get_lr()['lr'][0]),
    )
    train.main([config(), '--work-dir', 'w', '--auto-scale-lr'])
    assert seen == [pytest.approx(0.1 * 4 / 8)]
    path = Path(config())
    path.write_text(path.read_text().replace('base_batch_size', 'base'))
    with pytest.raises(UserError, match='no auto_scale_lr'):
        train.main([str(path), '--work-dir', 'w', '--auto-scale-lr'])


def test_amp_needs_a_gpu_and_a_plain_wrapper(config, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(UserError, match='needs a GPU'):
        train.main([config(), '--amp'])
    cfg = cli.load_config(config())
    monkeypatch.setattr(cli, 'has_accelerator', lambda: True)
    train.set_amp(cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.loss_scale == 'dynamic'
    cfg.optim_wrapper.type = 'ApexOptimWrapper'
    with pytest.raises(UserError, match='ApexOptimWrapper'):
        train.set_amp(cfg)


def test_missing_start_weights_are_named(config):
    with pytest.raises(UserError, match=r'load_from: no file rgb.pth'):
        train.main([config(), '--cfg-options', 'load_from=rgb.pth'])


@pytest.mark.parametrize('which', ['resume', 'test', 'adapter', 'load_from'])
def test_malicious_checkpoint_is_refused_before_anything_runs(config, which):
    mark = Path('ran').absolute()
    train.main([config(), '--work-dir', 'w'])
    torch.save({'state_dict': {}, 'evil': Evil(mark)}, 'evil.pth')
    run, args = {
        'resume': (train, ['--resume', 'evil.pth']),
        'load_from': (train, ['--cfg-options', 'load_from=evil.pth']),
        'test': (test, ['evil.pth']),
        'adapter': (test, ['w/epoch_4.pth', '--adapter', 'evil.pth']),
    }[which]
    with pytest.raises(UserError, match='system'):
        run.main([config(), *args, '--work-dir', 'x'])
    assert not mark.exists()
    assert not Path('x').exists()


def test_trusted_checkpoint_is_loaded(config):
    train.main([config(), '--work-dir', 'w'])
    content = torch.load('w/epoch_4.pth', weights_only=False)
    mark = Path('ran').absolute()
    torch.save({**content, 'extra': Evil(mark)}, 'mine.pth')
    command = [config(), 'mine.pth', '--work-dir', 'x', '--trust-checkpoint']
    assert test.main(command) == test.main([config(), 'w/epoch_4.pth'])
    assert mark.exists()


def test_out_writes_metrics_or_predictions(config):
    train.main([config(), '--work-dir', 'w'])
    common = [config(), 'w/epoch_4.pth', '--work-dir', 'x', '--out']
    metrics = test.main([*common, 'results/m.json'])
    record = json.loads(Path('results/m.json').read_text())
    assert record['metrics'] == pytest.approx(metrics)
    assert (record['checkpoint'], record['demo']) == ('w/epoch_4.pth', False)
    assert [p.name for p in Path('results').iterdir()] == ['m.json']
    test.main([*common, 'p.pkl'])
    predictions = pickle.loads(Path('p.pkl').read_bytes())
    errors = [sample['error'] for sample in predictions]
    assert len(errors) == 16
    assert np.mean(errors) == pytest.approx(metrics['error'])
    with pytest.raises(UserError, match=r'\.json file'):
        test.main([*common, 'p.csv'])


def test_checkpoint_that_does_not_fit_is_refused(config):
    torch.save(
        {'state_dict': {'line.weight': torch.ones(1, 2), 'x': torch.ones(1)}}, 'c'
    )
    with pytest.raises(UserError, match=r'c does not fit the config(.|\n)*line.bias'):
        test.main([config(), 'c', '--work-dir', 'x'])


def test_without_checkpoint_the_config_names_the_weights(config):
    alone = config()
    train.main([alone, '--work-dir', 'w'])
    trained = torch.load('w/epoch_4.pth', weights_only=False)['state_dict']
    torch.save(trained, 'part.pth')
    parts = "model = dict(type='ToyLine', checkpoints=dict(line=None))\n"
    Path('late.py').write_text(Path(alone).read_text() + parts)
    option = ['--cfg-options', 'model.checkpoints.line=part.pth']
    assert test.main(['late.py', *option]) == test.main([alone, 'w/epoch_4.pth'])
    for path in (alone, 'late.py'):
        with pytest.raises(UserError, match='name a checkpoint to test'):
            test.main([path])


def test_adapters_load_in_order_and_before_the_merge(config, monkeypatch):
    train.main([config(), '--work-dir', 'w'])
    torch.save({}, 'one.pth')
    torch.save({}, 'two.pth')
    calls = []

    def load_adapter(model, path, **_):
        calls.append(path)
        model.line.weight.data.fill_(len(calls))

    def merge_(model):
        calls.append('merge')
        model.line.bias.data.fill_(9.0)

    monkeypatch.setattr(mmir.adapters, 'load_adapter', load_adapter, raising=False)
    monkeypatch.setattr(mmir.adapters, 'merge_', merge_, raising=False)
    adapters = ['--adapter', 'one.pth', '--adapter', 'two.pth', '--merge']
    got = test.main([config(), 'w/epoch_4.pth', '--work-dir', 'x', *adapters])
    assert calls == ['one.pth', 'two.pth', 'merge']
    points = ToyPoints('')
    expected = np.abs(points.x.sum(1) * 2 + 9 - points.y).mean()
    assert got['error'] == pytest.approx(expected, rel=1e-5)


def test_adapter_of_another_model_is_a_message(config, monkeypatch):
    train.main([config(), '--work-dir', 'w'])
    torch.save({}, 'd.pth')

    def load_adapter(model, path, **_):
        raise ValueError('adapter of another model')

    monkeypatch.setattr(mmir.adapters, 'load_adapter', load_adapter, raising=False)
    with pytest.raises(UserError, match='adapter of another model'):
        test.main([config(), 'w/epoch_4.pth', '--adapter', 'd.pth'])


@pytest.mark.parametrize(
    ('hook', 'expected'),
    [
        ('DetVisualizationHook', {'draw': True, 'test_out_dir': '/tmp/s'}),
        ('mmdet.DetVisualizationHook', {'draw': True, 'test_out_dir': '/tmp/s'}),
        ('SegVisualizationHook', {'draw': True}),
        ('VisualizationHook', {'enable': True, 'out_dir': '/tmp/s'}),
    ],
)
def test_show_dir_switches_the_hook_of_each_host_on(config, hook, expected):
    cfg = cli.load_config(config())
    cfg.default_hooks = {'visualization': {'type': hook}}
    cfg.visualizer = {'type': 'Visualizer'}
    test.set_show_dir(cfg, '/tmp/s')
    assert cfg.default_hooks.visualization == {'type': hook, **expected}
    assert (cfg.visualizer.get('save_dir') == '/tmp/s') == hook.startswith('Seg')


def test_show_dir_without_a_known_hook_is_refused(config):
    train.main([config(), '--work-dir', 'w'])
    with pytest.raises(UserError, match=r'type is none; known are DetVis'):
        test.main([config(), 'w/epoch_4.pth', '--show-dir', 's'])


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['nothere.py'], 'no config nothere.py; similar names: '),
        (['toy.py', '--cfg-options', 'modle.x=1'], 'did you mean model?'),
        (['bad.py'], 'config bad.py has an error'),
        (['toy.py', '--demo'], '--demo: this config has no demo'),
    ],
)
def test_user_errors_are_one_message_and_exit_code_2(config, capsys, args, message):
    config()
    Path('nothere1.py').write_text('x = 1\n')
    Path('bad.py').write_text('x = = 1\n')
    assert cli.run(lambda: train.main(args)) == 2
    out = capsys.readouterr()
    assert out.err.startswith('error: ')
    assert message in out.err
    assert 'Traceback' not in out.err
    assert not Path('work_dirs').exists()


def test_only_the_first_rank_speaks(config, capsys, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    assert cli.run(lambda: train.main(['nothere.py'])) == 2
    assert capsys.readouterr().err == ''


def test_demo_runs_on_what_the_demo_makes_of_the_config(config, monkeypatch, capsys):
    import types

    def apply_demo(cfg, work_dir):
        cfg.train_cfg.max_epochs = 1
        cfg.train_dataloader.dataset.data_root = '.'
        return cfg

    fake = types.SimpleNamespace(apply_demo=apply_demo)
    monkeypatch.setitem(sys.modules, 'mmir.testing.demo', fake)
    train.main([config(), '--demo'])
    assert 'SYNTHETIC' in capsys.readouterr().out
    assert [p.name for p in Path('work_dirs/toy_demo').glob('*.pth')] == ['epoch_1.pth']
