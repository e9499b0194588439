"""Insertion of adapters of any class: where they belong, or nowhere."""

import sys
from importlib import import_module, reload
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmir.adapters import (
    PLAIN_CONVS,
    PLAIN_LINEARS,
    AdapterLayer,
    NameFilter,
    insert_adapters_,
)
from mmir.adapters.layer import KINDS
from mmir.peft import LoRAConv2d


class Through(nn.Module):
    """An adapter that has layers of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.map = nn.Linear(channels, channels)
        self.enabled = True


class ThroughLinear(AdapterLayer):
    stands_on = PLAIN_LINEARS

    def add_adapter(self, name: str, width: int = 1) -> None:
        self.check_name(name)
        if width < 1 or (width > 4 and len(self.weight) == 3):
            raise ValueError(f'width {width} is wrong')
        self.adapters[name] = Through(len(self.weight))


@pytest.fixture(autouse=True, scope='module')
def unknown_to_others():
    yield
    del KINDS['ThroughLinear']


EVERYWHERE = NameFilter(None, [])


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 2, 1), nn.Linear(4, 5), nn.Linear(5, 3))


def insert(model: nn.Module, name: str, kinds: list, **options: Any) -> list[str]:
    return list(insert_adapters_(model, name, kinds, EVERYWHERE, **options).layers)


def test_each_kind_takes_what_it_stands_on():
    model = network()
    assert insert(model, 'ir', [LoRAConv2d, ThroughLinear]) == ['0', '1', '2']
    assert [type(layer) for layer in model] == [LoRAConv2d, *[ThroughLinear] * 2]
    assert model[0].original in PLAIN_CONVS


def test_shared_layers_stay_shared():
    model = network()
    model.append(model[2])
    assert insert(model, 'ir', [ThroughLinear]) == ['1', '2']
    assert model[2] is model[3]


def test_layers_within_adapters_get_none():
    model = network()
    insert(model, 'ir', [ThroughLinear])
    assert insert(model, 'night', [ThroughLinear]) == ['1', '2']
    assert list(model[1].adapters) == ['ir', 'night']
    assert type(model[1].adapters['ir'].map) is nn.Linear


@pytest.mark.parametrize('before', [(), ('night',)])
def test_a_refusal_leaves_the_model_unchanged(before: tuple[str, ...]):
    model = network()
    for name in before:
        insert(model, name, [ThroughLinear])
    layers, keys = list(model), list(model.state_dict())
    with pytest.raises(ValueError, match=r'^2: width 5 is wrong'):
        insert(model, 'ir', [ThroughLinear], width=5)
    with pytest.raises(TypeError, match='depth'):
        insert(model, 'ir', [ThroughLinear], depth=5)
    assert all(a is b for a, b in zip(model, layers, strict=True))
    assert list(model.state_dict()) == keys


@pytest.mark.parametrize(
    'model', [nn.Sequential(nn.ReLU()), nn.Linear(2, 2), nn.MultiheadAttention(4, 2)]
)
def test_nothing_to_adapt_is_said(model: nn.Module):
    with pytest.raises(ValueError, match='nothing to adapt: no Linear; check'):
        insert(model, 'ir', [ThroughLinear])


def test_released_it_is_the_layer_it_was():
    plain = network()[1].eval()
    hook = plain.register_forward_hook(lambda *_: None)
    layer = ThroughLinear.from_base(plain)
    assert layer.weight is plain.weight
    assert not layer.adapters.training
    again = layer.release()
    assert type(again) is nn.Linear
    assert again.__dict__.keys() == plain.__dict__.keys()
    assert again._modules == plain._modules == {}
    assert hook.id in again._forward_hooks
    with pytest.raises(ValueError, match=r'a ThroughLinear cannot stand on a Conv2d$'):
        ThroughLinear.from_base(nn.Conv2d(2, 2, 1))


def test_a_second_class_of_the_same_name_is_refused():
    known = KINDS['LoRAConv2d']
    with pytest.raises(TypeError, match=r'LoRAConv2d already, in mmir\.peft\.'):

        class LoRAConv2d(AdapterLayer):
            pass

    assert KINDS['LoRAConv2d'] is known


def test_a_module_may_be_imported_again(tmp_path, monkeypatch):
    source = 'from mmir.adapters import AdapterLayer\nclass Again(AdapterLayer): pass\n'
    (tmp_path / 'own_layers.py').write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    first = import_module('own_layers').Again
    second = reload(import_module('own_layers')).Again
    spec = spec_from_file_location('other_name', tmp_path / 'own_layers.py')
    monkeypatch.setitem(sys.modules, 'other_name', module_from_spec(spec))
    spec.loader.exec_module(sys.modules['other_name'])
    third = KINDS.pop('Again')
    assert first is not second is not third
    assert third.__module__ == 'other_name'


def test_layers_a_model_is_built_with_say_so():
    class Built(AdapterLayer):
        def forward(self, x: Tensor) -> Tensor:
            return x

    del KINDS['Built']
    with pytest.raises(ValueError, match='build the model with it first'):
        Built.from_base(nn.Linear(2, 2))
