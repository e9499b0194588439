"""Public types are found from every scope; missing ones say what to do."""

import subprocess
import sys
from pathlib import Path

import pytest
from mmengine import registry as root
from mmengine.registry import DefaultScope, Registry

import mmir
from mmir import registry

ROOT = Path(__file__).parents[1]
SCOPES = ('mmengine', 'mmdet', 'mmseg', 'mmpretrain', 'mmir')
ROOTS = {
    name: value
    for name, value in vars(root).items()
    if isinstance(value, Registry) and value.parent is None
}
BOUND = [
    (part, kind, name)
    for part, row in registry.PARTS.items()
    for kind, names in row.names.items()
    for name in names
    if kind
]

# Hides modules, as if they were not installed (or, with a message, broken).
HIDE = """
import sys
class Hide:
    def __init__(self, module, error=None):
        self.module, self.error = module, error
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] != self.module:
            return None
        if self.error is None:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
        raise self.error
"""


def python(code: str, **kwargs) -> subprocess.CompletedProcess:
    """Run code in a fresh interpreter that finds the checkout."""
    return subprocess.run(
        [sys.executable, '-W', 'error::UserWarning:mmir', '-c', HIDE + code],
        capture_output=True,
        text=True,
        cwd=kwargs.get('cwd', ROOT),
        timeout=300,
    )


def host_free_names() -> list[tuple[str, str]]:
    """List (registry, name) of what mmir registers in mmengine's root registries."""
    return [
        (kind, name)
        for kind, value in ROOTS.items()
        for name, found in value.module_dict.items()
        if found.__module__.startswith('mmir.')
    ]


@pytest.fixture
def scope(request):
    with DefaultScope.overwrite_default_scope(request.param):
        yield request.param


@pytest.mark.parametrize('scope', SCOPES, indirect=True)
def test_public_types_resolve_in_the_scope_of_every_host(scope):
    for part, kind, name in BOUND:
        above = next(r for r in ROOTS.values() if r.name == kind)
        with above.switch_scope_and_registry(None) as current:
            found = current.get(f'mmir.{name}')
        assert found is getattr(sys.modules[f'mmir.{part}'], name)
    names = host_free_names()
    assert len(names) >= 4
    for kind, name in names:
        with ROOTS[kind].switch_scope_and_registry(None) as current:
            prefixed, plain = current.get(f'mmir.{name}'), current.get(name)
        assert prefixed is plain is ROOTS[kind].module_dict[name]


@pytest.mark.parametrize('scope', SCOPES, indirect=True)
def test_a_layer_builds_in_the_scope_of_every_host(scope):
    cfg = {'in_channels': 4, 'out_channels': 6, 'kernel_size': 3, 'rank': 2}
    for name in ('TensorFactConv', 'mmir.TensorFactConv'):
        layer = root.MODELS.build({'type': name, **cfg})
        assert type(layer) is mmir.layers.TensorFactConv


@pytest.mark.parametrize('part', registry.PARTS)
def test_what_a_part_registers_is_exported(part):
    __import__(f'mmir.{part}')
    row, module = registry.PARTS[part], sys.modules[f'mmir.{part}']
    assert row.error is None, row.error
    assert module.__all__ == row.public
    assert {name for names in row.names.values() for name in names} <= {*row.public}


@pytest.mark.parametrize('part', registry.PARTS)
def test_host_bound_types_are_registered_in_the_child_only(part):
    __import__(f'mmir.{part}')
    for name, above in ROOTS.items():
        child = getattr(registry, name)
        assert (child.scope, child.parent) == ('mmir', above)
        listed = registry.PARTS[part].names.get(above.name, ())
        own = [n for n, c in child.module_dict.items() if _from(c, part)]
        assert sorted(own) == sorted(listed)


def _from(found, part: str) -> bool:
    return found.__module__.startswith(f'mmir.{part}')


def test_import_loads_no_host_and_prints_nothing():
    result = python(
        'import mmir\n'
        'loaded = {"mmdet", "mmseg", "mmpretrain"} & set(sys.modules)\n'
        'assert not loaded, loaded\n'
        'assert mmir.INACTIVE == {}, mmir.INACTIVE\n'
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, '', '')


def test_absent_host_raises_the_install_line():
    result = python(
        'sys.meta_path.insert(0, Hide("mmdet"))\n'
        'import mmir\n'
        'from mmengine.registry import MODELS, DATASETS\n'
        'print(MODELS.build(dict(type="mmir.TensorFactConv", in_channels=3,\n'
        '      out_channels=8, kernel_size=3, rank=1)).out_channels)\n'
        'for kind, name in ((MODELS, "YOLOv7"), (DATASETS, "FLIRDataset")):\n'
        '    for attempt in range(2):\n'
        '        try:\n'
        '            kind.build(dict(type=f"mmir.{name}", depth=3))\n'
        '        except ImportError as error:\n'
        '            print(error, "|", type(error.__cause__).__name__)\n'
        'from mmir.det import OTAAssigner\n'
        'print(OTAAssigner.__doc__)\n'
    )
    lines = result.stdout.splitlines()
    message = 'mmir.det needs mmdetection, which is not installed: '
    message += '`pip install "openmmir[det]"` | ModuleNotFoundError'
    assert lines[0] == '8', result.stderr
    assert lines[1] == lines[2] == f'YOLOv7: {message}'
    assert lines[3] == lines[4] == f'FLIRDataset: {message}'
    assert 'OTAAssigner' in lines[5]


def test_broken_host_keeps_its_error():
    result = python(
        'import mmir\n'
        'sys.meta_path.insert(0, Hide("mmdet", AssertionError("MMCV==9 is used")))\n'
        'from mmir import registry\n'
        'registry.find_spec = lambda name: object()\n'
        'from mmengine.registry import MODELS\n'
        'try:\n'
        '    MODELS.build(dict(type="mmir.YOLOHead"))\n'
        'except ImportError as error:\n'
        '    print(repr(error.__cause__))\n'
        '    print(error)\n'
    )
    cause, message = result.stdout.splitlines()
    assert cause == "AssertionError('MMCV==9 is used')"
    assert 'mmdet is installed but' in message
    assert 'AssertionError: MMCV==9 is used' in message


def test_missing_mmengine_says_what_to_install():
    result = python('sys.meta_path.insert(0, Hide("mmengine"))\nimport mmir\n')
    assert result.returncode == 1
    assert 'openmmir[onedl]' in result.stderr.splitlines()[-1]


def test_broken_core_part_warns_and_leaves_the_rest():
    result = python(
        'import warnings; warnings.simplefilter("default")\n'
        'sys.meta_path.insert(0, Hide("cv2"))\n'
        'import mmir\n'
        'assert mmir.__version__\n'
        'print(sorted(mmir.INACTIVE))\n'
    )
    assert result.returncode == 0, result.stderr
    assert 'transforms' in result.stdout
    assert "mmir.transforms is off: ModuleNotFoundError: No module named 'cv2'" in (
        result.stderr
    )


def test_names_are_read_from_the_source(tmp_path):
    inner = tmp_path / 'inner'
    inner.mkdir()
    (tmp_path / 'some.py').write_text(
        'from mmengine.registry import HOOKS\n'
        'from mmir.registry import MODELS, TASK_UTILS as TASKS\n'
        '@MODELS.register_module()\nclass A: ...\n'
        '@MODELS.register_module("B")\ndef build_b(): ...\n'
        '@other\n@TASKS.register_module(name=["C", "D"], force=True)\nclass X: ...\n'
        '@HOOKS.register_module()\nclass OfAnotherRegistry: ...\n'
    )
    (inner / 'more.py').write_text(
        'from mmir.registry import MODELS\n@MODELS.register_module()\nclass E: ...\n'
    )
    (inner / 'none.py').write_text('raise RuntimeError("register_module")\n')
    names = registry.registered_names(tmp_path)
    assert names == {'model': {'A', 'B', 'E'}, 'task util': {'C', 'D'}}


TOY = """
from mmir.registry import HOOKS, fail_part
__all__ = ['A', 'B']
try:
    @HOOKS.register_module()
    class A: ...
    from .inner import B
except Exception as error:
    globals().update(fail_part('toy', error))
"""
OWN = {
    'NameError': 'undefined',
    'SyntaxError': 'def f(:',
    'ModuleNotFoundError': 'import mmir.nowhere',
    'ImportError': 'from mmir.structures import nothing',
    'TypeError': 'class C(dict, int): ...',
    'KeyError': 'HOOKS.register_module("A", module=list)',  # registered twice
    'OSError': 'open("/no/such/file")',
}
FOREIGN = {
    'ModuleNotFoundError': 'import no_such_host',
    'ImportError': 'from broken_host import nothing',
    'AssertionError': 'import broken_host.old',
    'SyntaxError': 'import broken_host.syntax',
    'RuntimeError': 'import broken_host.nested',
}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Writes `mmir.toy`, a part on a broken host; its `inner` has the code given."""
    host = tmp_path / 'broken_host'
    for name, code in (
        ('__init__', ''),
        ('old', 'assert False, "too old"'),
        ('syntax', 'def f(:'),
        ('nested', 'def f():\n    raise RuntimeError\nf()'),
    ):
        host.mkdir(exist_ok=True)
        (host / f'{name}.py').write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    here = tmp_path / 'mmir'
    monkeypatch.setattr(mmir, '__path__', [*mmir.__path__, str(here)])
    monkeypatch.setattr(registry, '_HERE', here)
    monkeypatch.setitem(
        registry.PARTS, 'toy', registry.Part('toy', 'no_such_host', 'nothing')
    )
    monkeypatch.setattr(registry.HOOKS, '_module_dict', {})

    def write(code: str, package: str = TOY) -> None:
        (here / 'toy').mkdir(parents=True)
        (here / 'toy/__init__.py').write_text(package)
        (here / 'toy/inner.py').write_text(
            f'from mmir.registry import HOOKS\n{code}\n'
            '@HOOKS.register_module()\nclass B: ...\n'
        )

    yield write
    for name in [n for n in sys.modules if n.startswith(('mmir.toy', 'broken_host'))]:
        del sys.modules[name]
    vars(mmir).pop('toy', None)


@pytest.mark.parametrize('error', OWN)
def test_an_error_of_our_own_is_raised(toy, error):
    toy(OWN[error])
    with pytest.raises(Exception) as first:
        registry.HOOKS.get('mmir.B')
    assert first.type.__name__ == {'OSError': 'FileNotFoundError'}.get(error, error)
    # not that A is registered already
    with pytest.raises(Exception) as second:
        registry.HOOKS.get('mmir.B')
    assert repr(second.value) == repr(first.value)


@pytest.mark.parametrize('error', FOREIGN)
def test_an_error_of_the_host_switches_the_part_off(toy, error):
    toy(FOREIGN[error])
    for name in 'AB':  # A was registered before the import failed
        with pytest.raises(ImportError, match=f'{name}: mmir.toy needs nothing, which'):
            registry.HOOKS.get(f'mmir.{name}')()
    assert type(registry.PARTS['toy'].error).__name__ == error
    assert registry.HOOKS.module_dict == {
        name: getattr(mmir.toy, name) for name in 'AB'
    }


@pytest.mark.parametrize('error', OWN)
def test_an_own_error_in_a_host_free_part_is_raised(toy, error, monkeypatch):
    toy(OWN[error], package='class A: ...\nfrom .inner import B')
    monkeypatch.setitem(registry.HOOKS.module_dict, 'A', dict)
    monkeypatch.setattr(mmir, 'INACTIVE', {})
    with pytest.raises(Exception) as raised:
        mmir._switch_on('toy')
    assert raised.type.__name__ == {'OSError': 'FileNotFoundError'}.get(error, error)
    assert mmir.INACTIVE == {}


@pytest.mark.parametrize('error', FOREIGN)
def test_a_broken_library_switches_a_host_free_part_off(toy, error, monkeypatch):
    toy(FOREIGN[error], package='from .inner import B')
    monkeypatch.setattr(mmir, 'INACTIVE', {})
    with pytest.warns(UserWarning, match=f'mmir.toy is off: {error}'):
        mmir._switch_on('toy')
    assert type(mmir.INACTIVE['toy']).__name__ == error


@pytest.mark.parametrize('scope', ['mmir'], indirect=True)
def test_names_of_a_loaded_host_are_found_in_scope_mmir(scope):
    from mmdet.models import DetDataPreprocessor

    assert registry.MODELS.get('DetDataPreprocessor') is DetDataPreprocessor
    built = root.MODELS.build({'type': 'DetDataPreprocessor', '_scope_': 'mmir'})
    assert type(built) is DetDataPreprocessor
    assert registry.MODELS.get('NoSuchThing') is None


def test_scope_prefix_does_not_reach_into_hosts():
    import mmdet.models  # noqa: F401

    with DefaultScope.overwrite_default_scope('mmdet'):
        assert root.MODELS.get('mmir.DetDataPreprocessor') is None


@pytest.mark.parametrize('scope', ['mmir'], indirect=True)
def test_ambiguous_names_in_scope_mmir_are_refused(scope):
    import mmdet.models  # noqa: F401
    import mmseg.models  # noqa: F401

    with pytest.raises(KeyError, match=r'mmdet.FPN.*mmseg.FPN'):
        registry.MODELS.get('FPN')


def test_register_all_modules_logs_what_is_off(monkeypatch):
    import logging

    from mmir.utils import setup

    said = []
    monkeypatch.setattr(setup, 'print_log', lambda *args: said.append(args))
    monkeypatch.setitem(mmir.INACTIVE, 'engine', OSError('gone'))
    monkeypatch.setattr(registry.PARTS['det'], 'error', OSError('no ops'))
    setup.register_all_modules()
    assert [level for _, _, level in said] == [logging.WARNING] * 2
    assert said[0][0] == 'mmir.engine is off: gone'
    assert 'no ops' in said[1][0]


@pytest.mark.parametrize('name', ['yolo-tiny_flir_1pct', 'yolo-tiny_drone_ir_full'])
def test_inferencer_of_the_host_by_name(name, monkeypatch, tmp_path):
    import numpy as np
    import torch
    from mmdet.apis import DetInferencer
    from mmengine.infer import BaseInferencer

    from mmir.apis import get_model

    # the zoo of the checkout, also where mmir is not installed
    monkeypatch.setattr(
        BaseInferencer, '_get_repo_or_mim_dir', staticmethod(lambda _: str(ROOT))
    )
    assert name in BaseInferencer.list_models('mmir')
    weights = str(tmp_path / 'weights.pth')
    given = dict(scope='mmir', device='cpu', show_progress=False)
    previous = DefaultScope._instance_dict.copy()
    try:
        torch.save({'state_dict': get_model(name).state_dict()}, weights)
        # not the boxes of random weights
        with pytest.raises(FileNotFoundError, match='no weights of this model'):
            DetInferencer(name, **given)
        infer = DetInferencer(name, weights, **given)
        found = infer(np.zeros((48, 64, 3), np.uint8), no_save_vis=True)
    finally:
        DefaultScope._instance_dict = previous
    assert type(infer.model).__module__.startswith('mmir.det.yolov7')
    prediction = found['predictions'][0]
    assert len(prediction['bboxes']) == len(prediction['labels']) > 0
    assert all(0 <= x <= 64 for x1, _, x2, _ in prediction['bboxes'] for x in (x1, x2))
