"""Checkpoints: no code runs, plain content loads, files are complete or absent."""

import argparse
import hashlib
import os
import pickle
import re
from pathlib import Path

import mmengine.runner
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from torch.utils.data import Dataset

from mmir.utils.checkpoint import (
    CheckpointError,
    UnsafeCheckpointError,
    load_checkpoint,
    refuse_unsafe_checkpoints,
    require_safe,
    save_checkpoint_atomic,
    sha256_of,
    trust_checkpoints,
)

SWITCHES = ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD')


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in SWITCHES:
        monkeypatch.setenv(name, '')  # so that it is restored whatever happens
        del os.environ[name]


class Malicious:
    """Pickles as code that leaves a file behind."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return exec, (f'open({str(self.trace)!r}, "w").close()',)


def write_zip(content, path):
    torch.save(content, path)


def write_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def write_zip_protocol_4(content, path):
    torch.save(content, path, pickle_protocol=4)


def write_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


def write_pickle_protocol_4(content, path):
    path.write_bytes(pickle.dumps(content, protocol=4))


WRITERS = pytest.mark.parametrize(
    'write',
    [
        write_zip,
        write_legacy,
        write_zip_protocol_4,
        write_pickle,
        write_pickle_protocol_4,
    ],
)
# torch lists nothing of these, but it does not load them either.
UNLISTED = {
    write_zip_protocol_4: 'saved with pickle protocol 4',
    write_pickle: 'a bare pickle (protocol 2)',
    write_pickle_protocol_4: 'a bare pickle (protocol 4)',
}


@pytest.fixture
def trace(tmp_path):
    return tmp_path / 'code_ran'


@WRITERS
def test_malicious_files_are_refused_by_name(write, tmp_path, trace):
    path = tmp_path / 'weights.pth'
    write({'state_dict': {}, 'meta': Malicious(trace)}, path)
    for read in (load_checkpoint, require_safe):
        with pytest.raises(CheckpointError) as refused:
            read(path)
        assert UNLISTED.get(write, 'builtins.exec') in str(refused.value)
        assert str(path) in str(refused.value)
        # Advised only where it is the one way to load the file.
        opt_in = '--trust-checkpoint' in str(refused.value)
        assert opt_in == (write not in UNLISTED)
    assert not trace.exists()


@WRITERS
def test_malicious_files_do_not_run_in_mmengine(write, tmp_path, trace):
    path = tmp_path / 'weights.pth'
    write({'state_dict': {}, 'meta': Malicious(trace)}, path)
    refuse_unsafe_checkpoints()
    with pytest.raises(CheckpointError, match=r'weights\.pth'):
        mmengine.runner.load_checkpoint(torch.nn.Linear(1, 1), str(path))
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=False)
    assert not trace.exists()


def test_the_payload_is_live(tmp_path, trace):
    path = tmp_path / 'weights.pth'
    write_zip({'state_dict': {}, 'meta': Malicious(trace)}, path)
    refuse_unsafe_checkpoints()
    content = load_checkpoint(path, trust=True)
    assert trace.exists()
    assert content == {'state_dict': {}, 'meta': None}
    # Trusting one file does not extend to the next.
    assert os.environ[SWITCHES[0]] == '1'


def test_getattr_gadget_is_refused_by_name(tmp_path):
    class Gadget:
        def __reduce__(self):
            return getattr, (HistoryBuffer, '__init__')

    for write in (write_zip, write_legacy):
        write({'meta': Gadget(), 'weight': torch.ones(2)}, tmp_path / 'gadget.pth')
        with pytest.raises(UnsafeCheckpointError) as refused:
            load_checkpoint(tmp_path / 'gadget.pth')
        assert refused.value.names == ['builtins.getattr']


@WRITERS
def test_harmless_foreign_objects_need_the_opt_in(write, tmp_path):
    path = tmp_path / 'weights.pth'
    write({'args': argparse.Namespace(lr=0.1)}, path)
    with pytest.raises(
        CheckpointError, match=re.escape(UNLISTED.get(write, 'argparse.Namespace'))
    ):
        load_checkpoint(path)
    if write in (write_zip, write_legacy, write_zip_protocol_4):
        assert load_checkpoint(path, trust=True)['args'].lr == 0.1


def test_switches_exclude_each_other(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save({'args': argparse.Namespace(lr=0.1)}, path)
    trust_checkpoints()
    with pytest.warns(UserWarning, match='forcing weights_only=False'):
        assert torch.load(path)['args'].lr == 0.1
    refuse_unsafe_checkpoints()
    assert [os.environ.get(name) for name in SWITCHES] == ['1', None]
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=False)
    trust_checkpoints()
    assert [os.environ.get(name) for name in SWITCHES] == [None, '1']


@pytest.mark.parametrize('write', [write_zip, write_legacy])
def test_plain_checkpoints_load(write, tmp_path):
    path = tmp_path / 'weights.pth'
    content = {'state_dict': {'w': torch.randn(3, 2)}, 'meta': {'epoch': 3, 'n': (1,)}}
    write(content, path)
    require_safe(path)
    loaded = load_checkpoint(str(path))
    assert torch.equal(loaded['state_dict']['w'], content['state_dict']['w'])
    assert loaded['meta'] == content['meta']
    on_meta = load_checkpoint(path, map_location='meta')
    assert on_meta['state_dict']['w'].device.type == 'meta'


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.pth does not exist'):
        load_checkpoint(tmp_path / 'none.pth')
    with pytest.raises(FileNotFoundError, match='is a folder'):
        require_safe(tmp_path)
    assert require_safe('https://example.org/weights.pth') is None


def damaged(name, folder):
    good = folder / 'good.pth'
    writer = write_legacy if name == 'cut off legacy' else write_zip
    writer({'w': torch.randn(64, 64), 'h': HistoryBuffer([1.0], [1])}, good)
    raw = good.read_bytes()
    return {
        'noise': bytes(range(256)) * 8,
        'cut off': raw[: len(raw) // 2],
        'cut off legacy': raw[: len(raw) // 2],
    }[name]


@pytest.mark.parametrize('name', ['noise', 'cut off', 'cut off legacy'])
def test_damaged_files(name, tmp_path):
    path = tmp_path / 'bad.pth'
    path.write_bytes(damaged(name, tmp_path))
    with pytest.raises(CheckpointError, match='cannot be read') as error:
        load_checkpoint(path)
    assert not isinstance(error.value, UnsafeCheckpointError)
    assert f'{path} ({path.stat().st_size} bytes)' in str(error.value)
    assert 'weights_only' not in str(error.value)  # it would not help
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        load_checkpoint(path, trust=True)


def test_a_tensor_alone_is_no_checkpoint(tmp_path):
    torch.save(torch.ones(2), tmp_path / 'tensor.pth')
    with pytest.raises(CheckpointError, match='holds a Tensor, not a dictionary'):
        load_checkpoint(tmp_path / 'tensor.pth')


class Points(Dataset):
    metainfo = {'classes': ('person', 'car')}

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {'inputs': torch.tensor([index / 8, 1.0]), 'data_samples': index}


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return {'loss': (self.linear(torch.stack(tuple(inputs))) - 2).pow(2).mean()}


def toy_runner(folder, epochs, **options):
    torch.manual_seed(0)
    return mmengine.runner.Runner(
        model=Line(),
        work_dir=str(folder),
        train_dataloader={
            'dataset': Points(),
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            'batch_size': 4,
            'num_workers': 0,
        },
        train_cfg={'by_epoch': True, 'max_epochs': epochs},
        optim_wrapper={'optimizer': {'type': 'AdamW', 'lr': 0.1}},
        param_scheduler=[
            {'type': 'LinearLR', 'start_factor': 0.5, 'end': 3, 'by_epoch': False},
            {'type': 'CosineAnnealingLR', 'T_max': 4, 'end': 4},
        ],
        default_hooks={'logger': {'type': 'LoggerHook', 'interval': 1}},
        cfg=Config({}),
        log_level='ERROR',
        experiment_name=f'{folder.name}_{epochs}',
        **options,
    )


@pytest.fixture
def keep_globals():
    """Runners leave a default scope and message hubs behind."""
    yield
    MessageHub._instance_dict.clear()
    DefaultScope._instance_dict.clear()


@pytest.mark.usefixtures('keep_globals')
def test_training_resumes_safely_and_exactly(tmp_path):
    refuse_unsafe_checkpoints()
    whole = toy_runner(tmp_path / 'whole', 4)
    whole.train()
    toy_runner(tmp_path / 'parts', 2).train()
    saved = tmp_path / 'parts' / 'epoch_2.pth'
    require_safe(saved)
    content = load_checkpoint(saved)
    assert content['meta']['epoch'] == 2
    assert {'state_dict', 'optimizer', 'param_schedulers'} <= content.keys()
    history = content['message_hub']['log_scalars']['train/loss']
    assert isinstance(history, HistoryBuffer)
    assert len(history.data[0]) == 4
    resumed = toy_runner(tmp_path / 'parts', 4, load_from=str(saved), resume=True)
    resumed.train()
    assert resumed.iter == whole.iter == 8
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value)
    first, second = (
        runner.message_hub.get_scalar('train/loss') for runner in (whole, resumed)
    )
    assert first.data[0].tolist() == second.data[0].tolist()
    assert first.mean() == second.mean()


def test_saving_replaces_the_file_in_one_step(tmp_path):
    path = tmp_path / 'new' / 'folder' / 'delta.pth'
    for value in (1.0, 2.0):
        save_checkpoint_atomic({'w': torch.tensor(value)}, path)
        assert load_checkpoint(path)['w'] == value
    assert [each.name for each in path.parent.iterdir()] == ['delta.pth']


def test_a_failed_save_leaves_no_trace(tmp_path):
    path = tmp_path / 'delta.pth'
    save_checkpoint_atomic({'w': torch.ones(1)}, path)
    digest = sha256_of(path)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        save_checkpoint_atomic({'w': torch.ones(9), 'f': lambda: None}, path)
    assert sha256_of(path) == digest
    assert os.listdir(tmp_path) == ['delta.pth']


@pytest.mark.parametrize('size', [0, 3, (1 << 20) + 1])
def test_sha256(size, tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(b'x' * size)
    assert sha256_of(path) == hashlib.sha256(b'x' * size).hexdigest()
