"""Files that are no checkpoints are named, with advice that helps."""

import gzip
import json
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mmir.utils.checkpoint import CheckpointError, load_checkpoint, require_safe
from mmir.utils.foreign_files import foreign_format

STATE = {'a.weight': torch.arange(6.0).reshape(2, 3)}


def lfs(path: Path) -> None:
    path.write_text(
        'version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n'
    )


def script(path: Path) -> None:
    torch.jit.script(nn.Linear(2, 1)).save(str(path))


def program(path: Path) -> None:
    inputs = (torch.ones(1, 2),)
    torch.export.save(torch.export.export(nn.Linear(2, 1), inputs), str(path))


def onnx(path: Path) -> None:
    helper = pytest.importorskip('onnx').helper
    node = helper.make_node('Identity', ['x'], ['y'])
    ends = [helper.make_tensor_value_info(name, 1, [1]) for name in 'xy']
    graph = helper.make_graph([node], 'g', ends[:1], ends[1:])
    path.write_bytes(helper.make_model(graph).SerializeToString())


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('release/weights.pth', b'x')


def tar(path: Path) -> None:
    torch.save(STATE, path.with_name('inside.pth'))
    with tarfile.open(path, 'w') as file:
        file.add(path.with_name('inside.pth'), 'inside.pth')


def arrays(path: Path) -> None:
    with path.open('wb') as file:
        np.savez(file, a=np.ones(3))


def late_protocol(path: Path, **options: bool) -> None:
    torch.save(STATE, path, pickle_protocol=4, **options)


FILES = {
    'empty': (lambda p: p.touch(), r'empty \(0 bytes\)'),
    'zeros': (lambda p: p.write_bytes(bytes(5000)), 'nothing but zeros'),
    'git lfs': (lfs, 'a Git LFS pointer.*`git lfs pull`'),
    'web page': (
        lambda p: p.write_text('\n<!DOCTYPE html>\n<html><body>Sign in</body></html>'),
        'a web page, often an error or a login page',
    ),
    'xml': (
        lambda p: p.write_text('<?xml version="1.0"?><Error><Code>AccessDenied</Code>'),
        'an? XML document',
    ),
    'long web page': (
        lambda p: p.write_text('<html>' + 'é' * 3000, encoding='utf-8'),
        'a web page',
    ),
    'text': (lambda p: p.write_text('404: Not Found'), "text file.*'404: Not Found'"),
    'index': (
        lambda p: p.write_text(json.dumps({'weight_map': {'a': 'part-1'}})),
        'weights split over several files',
    ),
    'gzip': (lambda p: p.write_bytes(gzip.compress(b'x')), 'a gzip archive: unpack'),
    'tar': (tar, 'a tar archive: unpack'),
    'zip': (archive, r'a zip archive of release/weights\.pth: unpack'),
    'arrays': (arrays, 'numpy arrays'),
    'torchscript': (script, 'a TorchScript archive'),
    'torch.export': (program, r'a program of torch\.export'),
    'onnx': (onnx, 'an ONNX model'),
    'protocol 4': (late_protocol, 'pickle protocol 4.*container without network'),
    'protocol 4, old format': (
        lambda p: late_protocol(p, _use_new_zipfile_serialization=False),
        'pickle protocol 4.*container without network',
    ),
    'bare pickle': (
        lambda p: p.write_bytes(pickle.dumps({'a': 1}, protocol=2)),
        r'a bare pickle \(protocol 2\)',
    ),
}
"""Name -> how to write such a file, and what the message says."""


@pytest.mark.parametrize('name', FILES)
@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
def test_the_format_is_named(name, tmp_path):
    write, expected = FILES[name]
    path = tmp_path / 'weights.pth'
    write(path)
    for read in (load_checkpoint, require_safe):
        with pytest.raises(CheckpointError, match=expected) as error:
            read(path)
        assert str(path) in str(error.value)
        # Switching safety off would not help, or not be needed.
        assert 'trust' not in str(error.value)


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
def test_the_advice_for_late_protocols_works(zipped, tmp_path, monkeypatch):
    """The command in the message makes a file that loads safely."""
    path = tmp_path / 'weights.pth'
    content = {'state_dict': STATE, 'meta': {}}
    torch.save(content, path, pickle_protocol=4, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    command = str(error.value).split('python -c "')[1].split('"')[0]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)
    exec(command, {})
    assert torch.equal(load_checkpoint('plain.pth')['a.weight'], STATE['a.weight'])


def test_files_of_torch_are_not_foreign(tmp_path):
    path = tmp_path / 'w.pth'
    for options in ({}, {'_use_new_zipfile_serialization': False}):
        torch.save(STATE, path, **options)
        assert foreign_format(path) is None
    path.write_bytes(path.read_bytes()[:100])
    assert foreign_format(path) is None


def write_safetensors(path: Path) -> None:
    """By hand: length of the header, header, data."""
    row = dict(dtype='F32', shape=[2, 3], data_offsets=[0, 24])
    header = json.dumps({'__metadata__': {'format': 'pt'}, 'a.weight': row}).encode()
    data = STATE['a.weight'].numpy().tobytes()
    path.write_bytes(struct.pack('<Q', len(header)) + header + data)


@pytest.mark.parametrize('name', ['model.safetensors', 'model.pth'])
def test_safetensors_load(name, tmp_path):
    path = tmp_path / name
    write_safetensors(path)
    require_safe(path)
    assert torch.equal(load_checkpoint(path)['a.weight'], STATE['a.weight'])
    on_meta = load_checkpoint(path, map_location='meta')
    assert on_meta['a.weight'].device.type == 'meta'


def test_damaged_safetensors_are_named(tmp_path):
    path = tmp_path / 'model.safetensors'
    write_safetensors(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match='truncated') as error:
        load_checkpoint(path)
    assert 'trust' not in str(error.value)
