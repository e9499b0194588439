"""No door of mmengine runs the code of a checkpoint; sound ones pass through all."""

import functools
import http.server
import os
import threading
from pathlib import Path

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader, load_checkpoint
from safetensors.torch import save_file
from test_checkpoint import SWITCHES, Line, Malicious, toy_runner

from mmir.utils.checkpoint import (
    CheckpointError,
    UnsafeCheckpointError,
    trust_checkpoints,
)

pytestmark = pytest.mark.usefixtures('keep_globals')
EMA = {'type': 'EMAHook', 'momentum': 0.5}


@pytest.fixture
def keep_globals():
    yield
    MessageHub._instance_dict.clear()
    DefaultScope._instance_dict.clear()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder and home of a fresh user, with no switch of torch set."""
    for name in SWITCHES:
        monkeypatch.setenv(name, '')
        del os.environ[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path))
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    return tmp_path


@pytest.fixture
def served(folder):
    """Address of a web server that serves the folder."""
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(folder)
    )
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


class Holder(BaseModule):
    """Module with the submodule that the checkpoint holds."""

    def __init__(self, init_cfg=None, inner=None):
        super().__init__(init_cfg)
        self.linear = torch.nn.Linear(2, 1)
        self.inner = inner


def by_function(name):
    model = Line()
    load_checkpoint(model, name, map_location='cpu')
    return model


def by_runner(name):
    runner = toy_runner(Path('w'), 1)
    runner.load_checkpoint(name)
    return runner.model


def by_load_from(name):
    runner = toy_runner(Path('w'), 1, load_from=name, custom_hooks=[EMA])
    runner.call_hook('before_run')
    runner.load_or_resume()
    average = next(h for h in runner.hooks if 'EMA' in type(h).__name__).ema_model
    assert torch.equal(average.module.linear.weight, runner.model.linear.weight)
    return runner.model


def by_init_cfg(name):
    holder = Holder(dict(type='Pretrained', checkpoint=name))
    holder.init_weights()
    return holder


def by_prefix(name):
    class Inner(BaseModule):
        def __init__(self):
            super().__init__(dict(type='Pretrained', checkpoint=name, prefix='linear'))
            self.weight, self.bias = torch.nn.Linear(2, 1).parameters()

    holder = Holder()
    holder.linear = Inner()
    holder.linear.init_weights()
    return holder


DOORS = (by_function, by_runner, by_load_from, by_init_cfg, by_prefix)


def names_of(path, served):
    """Ways to name a file in the current folder, which is also the home."""
    return (
        path.name,
        str(path),
        f'~/{path.name}',
        f'file://{path}',
        f'{served}/{path.name}',
    )


@pytest.mark.parametrize('door', DOORS)
def test_malicious_files_run_nowhere(door, folder, served):
    path, trace = folder / 'evil.pth', folder / 'code_ran'
    state = {key: value + 1 for key, value in Line().state_dict().items()}
    torch.save({'state_dict': state, 'extra': Malicious(trace)}, path)
    for name in names_of(path, served):
        with pytest.raises(UnsafeCheckpointError) as error:
            door(name)
        message = str(error.value)
        assert 'evil.pth' in message
        assert 'builtins.exec' in message
        assert 'trust_checkpoints()' in message
        assert '--trust-checkpoint' in message
    assert not trace.exists()
    # The payload is live: whoever opts out runs it.
    trust_checkpoints()
    assert torch.equal(door('evil.pth').linear.weight, state['linear.weight'])
    assert trace.exists()


def test_the_variable_of_torch_is_an_opt_out(folder, monkeypatch):
    torch.save({'linear.bias': torch.ones(1), 'x': Malicious(folder / 'ran')}, 'e.pth')
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    by_function('e.pth')
    assert (folder / 'ran').exists()


def test_other_schemes_are_safe_too(folder):
    """Also those of mmengine's zoo in a file of the user, and registered by others."""
    torch.save({'linear.bias': torch.ones(1), 'x': Malicious(folder / 'ran')}, 'e.pth')
    (folder / 'open_mmlab.json').write_text('{"evil": "e.pth"}')

    @CheckpointLoader.register_scheme(prefixes='other://', force=True)
    def load_from_other(name, map_location=None):
        return torch.load(name[8:], weights_only=False)

    try:
        for name in ('openmmlab://evil', 'open-mmlab://evil', 'other://e.pth'):
            with pytest.raises(UnsafeCheckpointError, match=r'evil|e\.pth') as error:
                by_function(name)
            assert error.value.names == ['builtins.exec']
    finally:
        del CheckpointLoader._schemes['other://']
    assert not (folder / 'ran').exists()


def test_other_loads_of_the_process_are_left_alone(folder):
    """Whoever calls torch.load himself decides himself."""
    torch.save({'linear.bias': torch.ones(1), 'x': Malicious(folder / 'ran')}, 'e.pth')
    with pytest.raises(UnsafeCheckpointError):
        by_function('e.pth')
    assert [os.environ.get(name) for name in SWITCHES] == [None, None]
    torch.load('e.pth', weights_only=False)
    assert (folder / 'ran').exists()


@pytest.mark.parametrize('form', ['runner', 'bare', 'module.', 'model', 'safetensors'])
@pytest.mark.parametrize('door', DOORS)
def test_sound_files_pass(door, form, folder, served):
    runner = toy_runner(folder / 'run', 1, custom_hooks=[EMA])
    runner.train()
    path = folder / 'run/epoch_1.pth'
    content = torch.load(path, weights_only=False)
    assert {'message_hub', 'optimizer', 'ema_state_dict'} <= content.keys()
    state = content['state_dict']
    if form == 'bare':
        torch.save(state, path)
    elif form == 'model':
        torch.save({'model': state, 'epoch': 3}, path)
    elif form == 'module.':
        torch.save({'state_dict': {f'module.{k}': v for k, v in state.items()}}, path)
    elif form == 'safetensors':
        path = path.with_suffix('.safetensors')
        save_file(dict(state), path)
    (folder / path.name).write_bytes(path.read_bytes())
    for name in names_of(folder / path.name, served):
        assert torch.equal(door(name).linear.weight, state['linear.weight'])


@pytest.mark.parametrize('resume', [True, 'file'])
def test_resuming_is_safe_and_exact(resume, folder):
    toy_runner(folder / 'run', 1, custom_hooks=[EMA]).train()
    path = folder / 'run/epoch_1.pth'
    name = None if resume is True else f'file://{path}'
    options = dict(load_from=name, resume=True, custom_hooks=[EMA])
    resumed, whole = (
        toy_runner(folder / 'run', 2, **options),
        toy_runner(folder / 'whole', 2, custom_hooks=[EMA]),
    )
    for runner in (resumed, whole):
        runner.train()
    assert resumed.iter == whole.iter == 4
    assert torch.equal(resumed.model.linear.weight, whole.model.linear.weight)
    content = torch.load(path, weights_only=False)
    evil = {**content, 'extra': Malicious(folder / 'ran')}
    for latest in (path, folder / 'run/epoch_2.pth'):
        torch.save(evil, latest)
    with pytest.raises(UnsafeCheckpointError, match=r'epoch_.\.pth.*builtins\.exec'):
        toy_runner(folder / 'run', 3, **options).train()
    assert not (folder / 'ran').exists()


@pytest.mark.parametrize('place', ['cfg', 'config'])
def test_config_texts_do_not_run(place, folder):
    """mmengine executes `meta.config` when it resumes, `meta.cfg` in Inferencers."""
    toy_runner(folder / 'run', 1).train()
    path = folder / 'run/epoch_1.pth'
    content = torch.load(path, weights_only=False)
    content['meta'][place] = f'open({str(folder / "ran")!r}, "w").close()'
    torch.save(content, path)
    with pytest.raises(UnsafeCheckpointError, match=f'Python code in meta.{place}'):
        toy_runner(folder / 'run', 2, resume=True).train()
    assert not (folder / 'ran').exists()
    if place == 'config':
        trust_checkpoints()
        toy_runner(folder / 'run', 2, resume=True).train()
        assert (folder / 'ran').exists()


def test_what_is_no_checkpoint_is_named_after_a_download(folder, served):
    (folder / 'w.pth').write_text('<!doctype html><html>Sign in</html>')
    with pytest.raises(CheckpointError, match=r'hub/checkpoints/w\.pth.*a web page'):
        by_function(f'{served}/w.pth')
