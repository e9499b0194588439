"""Folder = dependency: what each part may import, read from its source."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOSTS = {'mmdet', 'mmseg', 'mmpretrain', 'mmyolo'}
HOST_OF = {'det': 'mmdet', 'seg': 'mmseg', 'reid': 'mmpretrain'}
HOST_FREE = {
    'layers',
    'fusion',
    'peft',
    'transforms',
    'structures',
    'engine',
    'evaluation',
    'visualization',
    'testing',
}
BOUND = {f'mmir.{part}' for part in (*HOST_OF, 'apis')}
MMCV_FREE = {'mmcv', 'mmcv.cnn', 'mmcv.image', 'mmcv.transforms'}
OUTSIDE = {'torch', 'numpy', 'cv2', 'mmengine', 'mmcv', 'mmir', 'matplotlib', 'tqdm'}


def imports(path: Path, top_only: bool = False) -> Iterator[tuple[int, str]]:
    """Yield line and absolute name of the modules a file imports.

    `from mmir import det` counts as an import of mmir.det.
    """
    package = list(path.relative_to(ROOT).parent.parts)
    tree = ast.parse(path.read_text(encoding='utf-8'))
    nodes = _outside_functions(tree) if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = '.'.join([*base, *([node.module] if node.module else [])])
            yield node.lineno, module
            if module in ('mmir', 'mmcv'):
                yield from ((node.lineno, f'{module}.{a.name}') for a in node.names)


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield child
            yield from _outside_functions(child)


def under(module: str, names: set[str]) -> bool:
    return any(module == name or module.startswith(f'{name}.') for name in names)


def broken_rules(path: Path) -> list[str]:
    """List the imports of a file of `mmir/` that its folder does not allow."""
    rel = path.relative_to(ROOT / 'mmir')
    part = rel.parts[0]
    found = []
    for line, module in imports(path):
        top = module.split('.')[0]
        bad = under(module, HOSTS - {HOST_OF.get(part, '')})
        if part in HOST_OF:
            bad |= under(module, BOUND - {f'mmir.{part}'})
            bad |= under(module, {'mmcv.ops'}) and part != 'det'
        elif part in HOST_FREE:
            bad |= under(module, BOUND | {'mmcv.ops'})
            bad |= (
                top == 'mmcv'
                and not under(module, MMCV_FREE - {'mmcv'})
                and (module != 'mmcv')
            )
            bad |= top not in OUTSIDE and not _is_stdlib(top)
        elif part == 'registry.py':
            bad |= top not in ('mmengine',) and not _is_stdlib(top)
        elif part == '__init__.py':
            bad |= under(module, BOUND)
        elif part == 'compat':
            bad = under(module, HOSTS) and (line, module) in set(imports(path, True))
            bad |= (
                top == 'mmir'
                and module != 'mmir'
                and not under(module, {'mmir.compat'})
            )
        elif part in ('apis', 'utils'):
            bad = under(module, HOSTS | BOUND | {'mmcv.ops'}) and (
                (line, module) in set(imports(path, True))
                and not (part == 'apis' and under(module, {'mmir.apis'}))
            )
        if bad:
            found.append(f'mmir/{rel}:{line} imports {module}')
    return found


def _is_stdlib(top: str) -> bool:
    return top in sys.stdlib_module_names


def test_package_follows_the_rules():
    files = sorted((ROOT / 'mmir').rglob('*.py'))
    files = [p for p in files if '.mim' not in p.parts]
    assert len(files) > 20
    assert [hit for path in files for hit in broken_rules(path)] == []


def test_tools_import_hosts_only_inside_functions():
    hits = [
        f'{path.relative_to(ROOT)}:{line} imports {module}'
        for path in sorted((ROOT / 'tools').rglob('*.py'))
        for line, module in imports(path, top_only=True)
        if under(module, HOSTS | {'mmcv.ops'})
    ]
    assert hits == []


def test_configs_import_nothing_but_bases():
    hits = [
        f'{path.relative_to(ROOT)}:{line} imports {module}'
        for path in sorted((ROOT / 'configs').rglob('*.py'))
        for line, module in imports(path)
    ]
    assert hits == []


@pytest.mark.parametrize(
    ('part', 'source', 'caught'),
    [
        ('layers', 'import mmdet.models', True),
        ('layers', 'from mmcv.ops import nms', True),
        ('layers', 'from mmcv import ops', True),
        ('layers', 'from mmcv.cnn import ConvModule', False),
        ('transforms', 'def f():\n    import mmseg', True),
        ('transforms', 'from mmir.det import YOLOv7', True),
        ('transforms', 'import pandas', True),
        ('det', 'from mmdet.models import X', False),
        ('det', 'from mmcv.ops import nms', False),
        ('det', 'import mmseg', True),
        ('det', 'from ..seg import CSKNet', True),
        ('compat', 'def f():\n    import mmpretrain', False),
        ('compat', 'import mmpretrain', True),
        ('compat', 'from mmir.utils import x', True),
        ('utils', 'import mmdet', True),
        ('utils', 'def f():\n    import mmir.det', False),
    ],
)
def test_the_check_itself(tmp_path, monkeypatch, part, source, caught):
    monkeypatch.setitem(globals(), 'ROOT', tmp_path)
    file = tmp_path / 'mmir' / part / 'x.py'
    file.parent.mkdir(parents=True)
    file.write_text(source)
    assert bool(broken_rules(file)) == caught
