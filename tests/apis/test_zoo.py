"""Shipped models are listed, found and built by name."""

import pytest
import torch
from mmengine.fileio import load
from mmengine.infer import BaseInferencer
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn

from mmir.apis import find_config, get_model, list_models, zoo
from mmir.utils import shipped

CONFIG = """
default_scope = 'mmengine'
model = dict(type='ToyZooModel', width=3)
"""


class ToyZooModel(BaseModel):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.line = nn.Linear(2, width)

    def forward(self, x):
        return self.line(x)


@pytest.fixture
def toy_zoo(tmp_path, monkeypatch):
    """Replace the shipped zoo by one with a single layer."""
    (tmp_path / 'model-index.yml').write_text('Import:\n  - m/metafile.yml\n')
    (tmp_path / 'm').mkdir()
    (tmp_path / 'm/a.py').write_text(CONFIG)
    (tmp_path / 'm/metafile.yml').write_text(
        'Models:\n  - {Name: toy_conv, Alias: [tc], Config: m/a.py}\n'
        '  - {Name: other, Config: m/a.py}\n'
    )
    monkeypatch.setattr(zoo, 'zoo_root', lambda: tmp_path)
    monkeypatch.setitem(MODELS.module_dict, 'ToyZooModel', ToyZooModel)
    return tmp_path


def test_names_aliases_and_patterns(toy_zoo):
    assert list_models() == ['other', 'tc', 'toy_conv']
    assert list_models('t*') == ['tc', 'toy_conv']
    assert list_models('none*') == []
    assert find_config('tc') == find_config('toy_conv') == toy_zoo / 'm/a.py'
    with pytest.raises(KeyError, match=r'no model toy_con; did you mean.*toy_conv'):
        find_config('toy_con')


def test_model_is_built_in_its_scope_and_loads_weights(toy_zoo, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')
    model = get_model('tc')
    assert not model.training
    assert model.cfg.model.width == model.line.out_features == 3
    state = {key: torch.ones_like(value) for key, value in model.state_dict().items()}
    torch.save({'state_dict': state}, toy_zoo / 'w.pth')
    loaded = get_model('tc', checkpoint=str(toy_zoo / 'w.pth')).state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    torch.save({'state_dict': {}}, toy_zoo / 'w.pth')
    with pytest.raises(RuntimeError, match='missing keys'):
        get_model('tc', checkpoint=str(toy_zoo / 'w.pth'))


def test_shipped_models_are_listed_alike_by_mmengine():
    names = list_models()
    assert names
    assert sorted(BaseInferencer.list_models('mmir')) == names
    assert all(find_config(name).is_file() for name in names)
    assert (zoo.zoo_root() / 'model-index.yml').is_file()


def test_installation_without_index_is_explained(tmp_path, monkeypatch):
    file = tmp_path / 'mmir/utils/shipped.py'
    monkeypatch.setattr(shipped, '__file__', str(file))
    with pytest.raises(FileNotFoundError, match='pip install -e'):
        zoo.zoo_root()
    index = tmp_path / 'mmir/.mim/model-index.yml'
    index.parent.mkdir(parents=True)
    index.write_text('Import: []\n')
    assert zoo.zoo_root() == index.parent
    assert load(index) == {'Import': []}
