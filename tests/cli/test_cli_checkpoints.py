"""Checkpoints named on the command line: checked before training, in every form."""

import os

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope

from mmir.cli import cli
from mmir.utils.errors import UserError


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.bbox_head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)


class Run:
    """The part of a runner that the check looks at."""

    model = Net()


class Gadget:
    def __reduce__(self):
        return os.mkdir, ('code_ran',)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    MessageHub._instance_dict.clear()
    DefaultScope._instance_dict.clear()


def saved(content, name='w.pth'):
    torch.save(content, name)
    return name


def test_weights_in_any_form_pass(folder):
    state = Net().state_dict()
    for content in (
        state,
        {'state_dict': state},
        {'model': {f'module.{k}': v for k, v in state.items()}},
        {'ema_state_dict': {f'module.{k}': v for k, v in state.items()}},
        {f'_orig_mod.{k}': v for k, v in state.items()},
    ):
        saved(content)
        for name in ('w.pth', f'file://{folder}/w.pth', f'{folder}/w.pth'):
            cli.check_checkpoint(name, 'load_from', False)
            cli.check_start(Run(), name, False)


@pytest.mark.parametrize('scheme', ['', 'file://'])
def test_faults_are_named_with_the_key_of_the_config(scheme, folder):
    state = Net().state_dict()
    where = f'{scheme}{folder}'
    saved({'student': state, 'teacher': state}, 'two.pth')
    saved({f'net.{k}': v for k, v in state.items()}, 'net.pth')
    saved({'state_dict': state, 'x': Gadget()}, 'evil.pth')
    (folder / 'page.pth').write_text('<html>Not found</html>')
    for name, message in {
        'two.pth': r'load_from: .*two\.pth has no weights.*Its keys: student, teacher',
        'net.pth': r"load_from: .*net\.pth(.|\n)*begin with 'net\.'",
        'evil.pth': r'load_from: .*evil\.pth.*contains: posix\.mkdir',
        'page.pth': r'load_from: .*page\.pth.*a web page',
    }.items():
        with pytest.raises(UserError, match=message):
            cli.check_start(Run(), f'{where}/{name}', False)
    for name, message in {
        'none.pth': r'--resume: no file .*none\.pth',
        'evil.pth': r'--resume: .*evil\.pth.*posix\.mkdir',
        'page.pth': r'--resume: .*a web page',
    }.items():
        with pytest.raises(UserError, match=message):
            cli.check_checkpoint(f'{where}/{name}', '--resume', False)
    assert not (folder / 'code_ran').exists()
    cli.check_checkpoint(f'{where}/evil.pth', '--resume', True)
    cli.check_start(Run(), f'{where}/evil.pth', True)
    assert (folder / 'code_ran').exists()


def test_a_failed_download_is_named():
    with pytest.raises(UserError, match=r'load_from: http://127\.0\.0\.1:9/w\.pth: '):
        cli.check_start(Run(), 'http://127.0.0.1:9/w.pth', False)
