"""Damaged adapter files: no other value is ever loaded."""

import copy
import os

import numpy as np
import pytest
import torch
from torch import nn

from mmir.adapters import (
    adapt_,
    adapter_state,
    load_adapter,
    load_adapter_state,
    save_adapter,
)
from mmir.adapters.checksum import seal
from mmir.peft import ConvLoRA
from mmir.tensorfact import TensorFact, factorize_
from mmir.utils import files

X = torch.randn(1, 3, 9, 8, generator=torch.Generator().manual_seed(3))
METHODS = {'ConvLoRA': ConvLoRA(2), 'TensorFact': TensorFact(delta=1)}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3)
        )
        self.bbox_head = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        return self.bbox_head(self.backbone(x))


def base(method='ConvLoRA'):
    torch.manual_seed(0)
    model = Net()
    if method == 'TensorFact':  # its base has factors already
        factorize_(model, 2)
    return model.eval()


def trained(method='ConvLoRA'):
    """An adapted model whose adapters, norms and head have values of their own."""
    model = base(method)
    adapt_(model, METHODS[method], name='ir')
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise, alpha=0.1)
    return model.eval()


def mutated(raw, rng):
    """One random fault of a disk, a copy or a download."""
    data, size = bytearray(raw), len(raw)
    start = int(rng.integers(size))
    stop = min(size, start + int(rng.integers(1, 400)))
    kind = rng.choice(['bit', 'hole', 'noise', 'cut', 'lost', 'twice', 'swapped'])
    if kind == 'bit':
        data[start] ^= 1 << int(rng.integers(8))
    elif kind == 'hole':
        data[start:stop] = bytes(stop - start)
    elif kind == 'noise':
        data[start:stop] = rng.bytes(stop - start)
    elif kind == 'cut':
        del data[start:]
    elif kind == 'lost':
        del data[start:stop]
    elif kind == 'twice':
        data[start:start] = data[start:stop]
    else:
        other = int(rng.integers(size - (stop - start) + 1))
        part = data[start:stop]
        data[start:stop] = data[other : other + len(part)]
        data[other : other + len(part)] = part
    return bytes(data)


@pytest.mark.filterwarnings('ignore')
def test_random_damage_never_changes_a_value(tmp_path):
    """500 mutations: each is refused by name, or touches nothing that is read."""
    model, path, refused = trained(), tmp_path / 'ir.pth', 0
    save_adapter(model, path)
    raw, expected, before = path.read_bytes(), model(X), base()(X)
    rng = np.random.default_rng(0)
    fresh = base()
    for _ in range(500):
        path.write_bytes(mutated(raw, rng))
        try:
            load_adapter(fresh, path)
        except ValueError as error:
            refused += str(path) in str(error)
            assert torch.equal(fresh(X), before)
        else:
            assert torch.equal(fresh(X), expected)
            fresh = base()
    assert refused > 250  # by name; the rest is padding between the records


@pytest.mark.parametrize('method', METHODS)
def test_an_adapter_that_lacks_a_tensor_is_refused(method):
    """Whichever it lacks, also with checksums that agree."""
    adapter = adapter_state(trained(method))
    meta = {
        k: v for k, v in adapter['meta'].items() if k not in ('checksums', 'digest')
    }
    expected = trained(method)(X)
    model = base(method)
    load_adapter_state(model, adapter)
    assert torch.equal(model(X), expected)
    for key in adapter['state_dict']:
        rest = {k: v for k, v in adapter['state_dict'].items() if k != key}
        for damaged in (seal(meta, rest), {**adapter, 'state_dict': rest}):
            model = base(method)
            before = model(X)
            keys = list(model.state_dict())
            with pytest.raises(ValueError, match=key.replace('.', r'\.')):
                load_adapter_state(model, copy.deepcopy(damaged))
            assert torch.equal(model(X), before)
            assert list(model.state_dict()) == keys


def test_the_format_of_another_file_is_named(tmp_path):
    path = tmp_path / 'ir.pth'
    path.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9')
    with pytest.raises(ValueError, match=r'ir\.pth.*Git LFS pointer'):
        load_adapter(base(), path)
    torch.save(base(), path)
    with pytest.raises(ValueError, match=r'ir\.pth.*torch\.nn\.modules\.conv\.Conv2d'):
        load_adapter(base(), path)


def test_files_reach_the_disk_before_they_replace_others(tmp_path, monkeypatch):
    """After a power failure the name leads to the whole old or new file."""
    events = []
    fsync, replace = os.fsync, os.replace

    def synced(handle):
        target = os.readlink(f'/proc/self/fd/{handle}')
        events.append(('on disk', os.path.getsize(target), os.path.isdir(target)))
        fsync(handle)

    def replaced(source, target):
        events.append(('replaced', os.path.getsize(source), False))
        replace(source, target)

    monkeypatch.setattr(files.os, 'fsync', synced)
    monkeypatch.setattr(files.os, 'replace', replaced)
    size = save_adapter(trained(), tmp_path / 'ir.pth')
    assert events[:2] == [('on disk', size, False), ('replaced', size, False)]
    assert events[2][::2] == ('on disk', True)  # the new name itself
    events.clear()
    files.write_json({}, tmp_path / 'a.json')
    assert [event[0] for event in events] == ['replaced']
