"""Modules are changed when they are imported, or at once if they have been."""

import importlib
import sys

import pytest

from mmir.compat import import_hook


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Package with one module, which nothing has imported."""
    (tmp_path / 'toy_host').mkdir()
    (tmp_path / 'toy_host/__init__.py').write_text('')
    (tmp_path / 'toy_host/part.py').write_text('value = 1\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(import_hook, '_PATCHES', dict(import_hook._PATCHES))
    yield 'toy_host.part'
    for name in ('toy_host', 'toy_host.part'):
        sys.modules.pop(name, None)


def add(module):
    module.value += 10


def test_a_module_is_changed_after_it_ran(toy):
    import_hook.on_import(toy, add)
    import_hook.on_import(toy, add)  # ignored
    assert toy not in sys.modules
    assert importlib.import_module(toy).value == 11
    assert importlib.import_module(toy).value == 11


def test_an_imported_module_is_changed_at_once(toy):
    module = importlib.import_module(toy)
    import_hook.on_import(toy, add)
    assert module.value == 11


def test_other_modules_are_left_to_python(toy):
    import_hook.on_import(toy, add)
    assert import_hook.ImportHook.find_spec('toy_host') is None
    assert sys.meta_path.count(import_hook.ImportHook) == 1
