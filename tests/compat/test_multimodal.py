"""mmpretrain imports where `transformers` lacks what its multimodal models use."""

import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.registry import Registry

from mmir.compat import multimodal

ROOT = Path(__file__).parents[2]
# What a new release keeps: enough for mmpretrain to take it as fit.
KEPT = "__version__ = '5.1.0'\nclass AutoConfig: ...\nclass PreTrainedModel: ...\n"
USE = """
import mmir
import mmdet.models
import torch
from mmpretrain import get_model
from mmpretrain.registry import MODELS

print(get_model('resnet18_8xb16_cifar10')(torch.zeros(1, 3, 32, 32)).shape)
for name in ('OFA', 'BlipCaption'):
    try:
        MODELS.build(dict(type=name))
    except ImportError as error:
        print(error)
"""


@pytest.fixture
def transformers5(tmp_path: Path) -> Path:
    """Folder with a `transformers` 5 that has next to nothing."""
    (tmp_path / 'transformers').mkdir()
    (tmp_path / 'transformers/__init__.py').write_text(KEPT)
    info = tmp_path / 'transformers-5.1.0.dist-info'
    info.mkdir()
    info.joinpath('METADATA').write_text(
        'Metadata-Version: 2.1\nName: transformers\nVersion: 5.1.0\n'
    )
    return tmp_path


def test_all_but_the_multimodal_models_work(transformers5: Path) -> None:
    pytest.importorskip('mmpretrain')
    pytest.importorskip('mmdet')
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', USE],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={'PYTHONPATH': f'{transformers5}:{ROOT}', 'OMP_NUM_THREADS': '1'},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shape, *refused = done.stdout.splitlines()[-3:]
    assert shape == 'torch.Size([1, 10])'
    for name, line in zip(('OFA', 'BlipCaption'), refused, strict=True):
        assert line.startswith(f"'{name}' of mmpretrain does not work with transfor")
        assert 'transformers 5.1.0, which has no `transformers.' in line
        assert 'pip install "transformers<4.52"' in line


def write(package: Path, code: str) -> Path:
    """Write a module of multimodal models into a package."""
    file = package / 'models/multimodal/a/net.py'
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code)
    return package


@pytest.mark.parametrize(
    ('code', 'missing'),
    [
        ('from transformers import AutoConfig, Gone', 'transformers.Gone'),
        ('from transformers.gone import X', 'transformers.gone.X'),
        ('try:\n    from transformers import Gone\nexcept ImportError:\n    Gone = 1',
         'transformers.Gone'),
        ('def f():\n    from transformers import Gone', None),
        ('"""from transformers import Gone"""', None),
        ('from transformers_extra import Gone', None),
        ('from transformers import AutoConfig, PreTrainedModel', None),
    ],
)  # fmt: skip
def test_names_are_those_imported_with_the_module(
    transformers5: Path, monkeypatch, tmp_path: Path, code: str, missing: str | None
) -> None:
    monkeypatch.syspath_prepend(str(transformers5))
    for name in [n for n in sys.modules if n.partition('.')[0] == 'transformers']:
        monkeypatch.delitem(sys.modules, name)
    assert multimodal.missing_name(write(tmp_path / 'host', code)) == missing
    sys.modules.pop('transformers', None)


def test_placeholders_keep_their_names() -> None:
    registry = Registry('toy multimodal models')
    multimodal._register_placeholders('transformers.Gone')(['A', 'B'], registry)
    assert [registry.get(name).__name__ for name in 'AB'] == ['A', 'B']
