"""Adapter files: exact, complete, reversible, refused by other base models."""

import copy
import io
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from mmir.adapters import (
    adapt_,
    adapter_state,
    freeze_,
    load_adapter,
    load_adapter_state,
    merge_,
    save_adapter,
    switch_adapter_,
    unload_adapter,
)
from mmir.adapters.checksum import seal
from mmir.peft import ConvLoRA
from mmir.tensorfact import augment_, factorize_


def meta_of(adapter):
    """Return the input of `seal`: the metadata without checksums."""
    meta = dict(adapter['meta'])
    del meta['checksums'], meta['digest']
    return meta


class Net(nn.Module):
    """A small detector: factorized backbone, batch norm, head used twice."""

    def __init__(self, width=8, classes=3):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Conv2d(width, 8, 3)
        )
        self.bbox_head = nn.Conv2d(8, classes, 1)
        self.shared_head = self.bbox_head

    def forward(self, x):
        x = self.backbone(x)
        return self.bbox_head(x) + self.shared_head(2 * x)


def base(seed=0, rank=3, **options):
    torch.manual_seed(seed)
    model = Net(**options)
    factorize_(model, rank)
    return model.eval()


def adapted(model, name='ir', bn='all', seed=1, **options):
    """A copy of a base model, trained for some steps on another modality."""
    model = copy.deepcopy(model)
    torch.manual_seed(seed)
    augment_(model, name, 1)
    freeze_(model, name, norm=bn, **options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    model.train()
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 3, 9, 9) + 1).square().mean().backward()
        optimizer.step()
    return model.eval()


X = torch.randn(2, 3, 10, 9, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize('bn', ['all', 'affine', 'stats', 'frozen'])
def test_file_round_trip_is_exact_and_reversible(tmp_path, bn):
    model = base()
    trained, before = adapted(model, bn=bn), model(X)
    path = tmp_path / 'deltas' / 'ir.pth'
    size = save_adapter(trained, path)
    assert os.listdir(path.parent) == ['ir.pth']
    assert path.stat().st_size == size
    load_adapter(model, path)
    assert torch.equal(model(X), trained(X))
    assert not torch.equal(model(X), before)
    for _ in range(2):
        switch_adapter_(model, 'ir', False)
        assert torch.equal(model(X), before)
        switch_adapter_(model, 'ir', True)
        switch_adapter_(model, 'ir', True)
        assert torch.equal(model(X), trained(X))
    keys = list(base().state_dict())
    unload_adapter(model, 'ir')
    assert torch.equal(model(X), before)
    assert list(model.state_dict()) == keys
    load_adapter(model, path)
    assert torch.equal(model(X), trained(X))


def test_holds_what_changed_and_nothing_else():
    model = base()
    trained = adapted(model)
    delta = adapter_state(trained)
    old, new = model.state_dict(), trained.state_dict()
    changed = {k for k in new if k not in old or not torch.equal(old[k], new[k])}
    assert set(delta['state_dict']) == changed
    assert all(torch.equal(v, new[k]) for k, v in delta['state_dict'].items())
    assert delta['meta']['name'] == 'ir'
    row = {'kind': 'TensorFactConv', 'options': {'rank': 1}}
    assert delta['meta']['layers'] == {'backbone.0': row, 'backbone.2': row}
    # Copies: later training does not change the adapter.
    with torch.no_grad():
        trained.bbox_head.weight.zero_()
    assert delta['state_dict']['bbox_head.weight'].abs().max() > 0
    assert not any(v.requires_grad for v in delta['state_dict'].values())


def test_shared_modules_stand_in_the_file_once():
    delta = adapter_state(adapted(base()))['state_dict']
    assert delta['bbox_head.weight'] is delta['shared_head.weight']


@pytest.mark.parametrize('name', ['first', 'second'])
def test_loads_on_a_plain_layer_with_two_names(name):
    plain = nn.Module()
    plain.first = plain.second = nn.Conv2d(3, 3, 3)
    trained, x = copy.deepcopy(plain), X[:, :3]
    adapt_(trained, ConvLoRA(2))
    nn.init.normal_(trained.first.adapters['ir'].A)
    load_adapter_state(plain, adapter_state(trained))
    assert plain.first is plain.second
    assert getattr(plain, name)(x).equal(trained.first(x))
    unload_adapter(plain, 'ir')
    assert type(getattr(plain, name)) is nn.Conv2d


def test_loads_into_a_model_built_for_the_stage():
    trained = adapted(base())
    delta, model = adapter_state(trained), base()
    augment_(model, 'ir', 1)
    freeze_(model, 'ir')
    load_adapter_state(model, delta)
    assert torch.equal(model.eval()(X), trained(X))
    assert model.backbone[0].deltas['ir'].A.requires_grad
    again = adapter_state(model)
    assert again['meta'] == delta['meta']


def test_delta_after_a_checkpoint_and_a_copy():
    trained, model = adapted(base()), base()
    augment_(model, 'ir', 1)
    freeze_(model, 'ir')
    model.load_state_dict(trained.state_dict())
    average = copy.deepcopy(model).requires_grad_(False)
    for source in (model, average):
        fresh = base()
        load_adapter_state(fresh, adapter_state(source))
        assert torch.equal(fresh(X), trained(X))
    assert all(
        not p.requires_grad for n, p in fresh.named_parameters() if 'deltas' in n
    )


def test_loaded_delta_is_no_state_and_survives_copies():
    model, keys = base(), list(base().state_dict())
    before = model(X)
    load_adapter_state(model, adapter_state(adapted(model)))
    extra = set(model.state_dict()) - set(keys)
    assert all('.deltas.ir.' in key for key in extra)
    copied = copy.deepcopy(model)
    switch_adapter_(copied, 'ir', False)
    assert torch.equal(copied(X), before)
    assert not torch.equal(model(X), before)


def test_two_deltas_of_one_base():
    model = base()
    before = model(X)
    first, second = adapted(model), adapted(model, 'nir', seed=5)
    load_adapter_state(model, adapter_state(first))
    switch_adapter_(model, 'ir', False)
    load_adapter_state(model, adapter_state(second))
    assert torch.equal(model(X), second(X))
    switch_adapter_(model, 'nir', False)
    assert torch.equal(model(X), before)
    switch_adapter_(model, 'ir', True)
    assert torch.equal(model(X), first(X))
    switch_adapter_(model, 'nir', True)
    with pytest.raises(ValueError, match="switch 'nir' off first"):
        switch_adapter_(model, 'ir', False)
    unload_adapter(model, 'nir')
    assert torch.equal(model(X), first(X))


def test_delta_on_top_of_a_delta():
    model = base()
    first = adapted(model, bn='frozen')
    second = adapted(first, 'nir', bn='frozen', seed=5)
    deltas = adapter_state(first), adapter_state(second)
    with pytest.raises(ValueError, match=r'another model: .*deltas\.ir\.A is missing'):
        load_adapter_state(model, deltas[1])
    for delta in deltas:
        load_adapter_state(model, delta)
    assert torch.equal(model(X), second(X))


def perturb(model):
    with torch.no_grad():
        model.backbone[2].A.mul_(1.001)
    return model


@pytest.mark.parametrize(
    ('other', 'message'),
    [
        (lambda: base(seed=7), r'backbone\.0\.bias has other values'),
        (lambda: base(rank=4), r'backbone\.0\.kernel has rank 4, not rank 3'),
        (lambda: base(width=16), r'backbone\.0\.bias has shape \[16\], not \[8\]'),
        (
            lambda: perturb(base()),
            r'another model: backbone\.2\.kernel has other values$',
        ),
        (lambda: Net(), r'backbone\.0\.kernel is missing in the model'),
        (
            lambda: base(classes=5),
            r'bbox_head\.weight of shape \(3, 8, 1, 1\), .*\(5, 8',
        ),
    ],
)
def test_delta_of_another_model_is_refused(other, message):
    delta, model = adapter_state(adapted(base())), other().eval()
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message):
        load_adapter_state(model, delta)
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_rounding_of_the_factors_is_no_other_model():
    delta, model = adapter_state(adapted(base())), base()
    with torch.no_grad():
        model.backbone[0].A.mul_(-2)
        model.backbone[0].B.mul_(-0.5 * (1 + 1e-7))
    load_adapter_state(model, delta)
    assert 'ir' in model.backbone[0].deltas


def test_damaged_or_foreign_deltas():
    good = adapter_state(adapted(base()))
    bad = copy.deepcopy(good)
    bad['state_dict']['backbone.0.deltas.ir.A'][0] = float('nan')
    flipped = copy.deepcopy(good)
    flipped['meta']['layers']['backbone.0']['options']['rank'] = 2
    cases = [
        (bad, r'backbone\.0\.deltas\.ir\.A of the adapter is damaged'),
        (seal(meta_of(bad), bad['state_dict']), 'holds NaN or infinite'),
        (flipped, 'the metadata of the adapter is damaged'),
        (seal(meta_of(flipped), good['state_dict']), 'has shape|of shape'),
        (base().state_dict(), "not the result of adapter_state: no 'meta'"),
        ([1], 'not the result of adapter_state'),
        ({**good, 'meta': {**good['meta'], 'format': 'x'}}, "unknown format 'x'"),
    ]
    for delta, message in cases:
        model = base()
        with pytest.raises(ValueError, match=message):
            load_adapter_state(model, delta)
        assert not model.backbone[0].deltas
    model = base()
    load_adapter_state(model, good)
    with pytest.raises(ValueError, match="'ir' is loaded already"):
        load_adapter_state(model, good)


def test_nothing_half_written(tmp_path):
    path, trained = tmp_path / 'ir.pth', adapted(base())
    save_adapter(trained, path)
    content = path.read_bytes()
    with torch.no_grad():
        trained.bbox_head.bias[0] = float('nan')
    with pytest.raises(ValueError, match=r'bbox_head\.bias of the adapter holds NaN'):
        save_adapter(trained, path)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ['ir.pth']


def test_failed_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path, trained = tmp_path / 'ir.pth', adapted(base())
    path.write_bytes(b'old')

    def full_disk(obj, file):
        Path(file).write_bytes(b'half')
        raise OSError('No space left on device')

    monkeypatch.setattr(torch, 'save', full_disk)
    with pytest.raises(OSError, match='No space left'):
        save_adapter(trained, path)
    assert path.read_bytes() == b'old'
    assert os.listdir(tmp_path) == ['ir.pth']


class Evil:
    def __reduce__(self):
        return os.mkdir, ('executed',)


def test_unsafe_and_broken_files_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    torch.save({'meta': Evil()}, buffer)
    for name, content in [('evil.pth', buffer.getvalue()), ('text.pth', b'no zip')]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf'{name} is not a file of save_adapter'):
            load_adapter(base(), tmp_path / name)
    assert not (tmp_path / 'executed').exists()
    torch.save(base().state_dict(), tmp_path / 'base.pth')
    with pytest.raises(ValueError, match=r'base\.pth: not the result of'):
        load_adapter(base(), tmp_path / 'base.pth')
    with pytest.raises(FileNotFoundError):
        load_adapter(base(), tmp_path / 'missing.pth')


def test_without_a_stage_or_a_loaded_delta():
    model = base()
    with pytest.raises(ValueError, match='or call adapt_ before training'):
        adapter_state(model)
    with pytest.raises(ValueError, match="'ir' was not loaded from a file"):
        switch_adapter_(adapted(model), 'ir', False)


def test_merging_ends_the_stage_and_forgets_loaded_deltas():
    model = base()
    load_adapter_state(model, adapter_state(adapted(model)))
    for layer in (model.backbone[0], model.backbone[2]):
        layer.mode = 'reconstruct'
    expected = model(X)
    assert torch.equal(merge_(model)(X), expected)
    with pytest.raises(ValueError, match="'ir' was not loaded from a file"):
        switch_adapter_(model, 'ir', False)
    with pytest.raises(ValueError, match='in no stage of adaptation'):
        adapter_state(model)
