"""Folder = dependency: what each part may import, read from its source."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOSTS = {'mmdet', 'mmseg', 'mmpretrain', 'mmyolo'}
HOST_OF = {'det': 'mmdet', 'seg': 'mmseg', 'reid': 'mmpretrain'}
ORDER = (
    {'compat'},
    {'utils'},
    {'structures'},
    {'data'},
    {'transforms'},
    {'visualization', 'adapters'},
    {'tensorfact', 'peft', 'ivtuning', 'fusion'},
    {'layers'},
    {'engine'},
    {'evaluation'},
    {'testing'},
    set(HOST_OF),
    {'apis'},
    {'cli'},
)
LEVEL = {part: level for level, parts in enumerate(ORDER) for part in parts}
MIXED = {'compat', 'utils', 'apis', 'cli', *HOST_OF}
HOST_FREE = set(LEVEL) - MIXED
BOUND = {f'mmir.{part}' for part in (*HOST_OF, 'apis', 'cli')}
MMCV_FREE = {'mmcv', 'mmcv.cnn', 'mmcv.image', 'mmcv.transforms'}
OUTSIDE = {
    'torch',
    'numpy',
    'cv2',
    'mmengine',
    'mmcv',
    'mmir',
    'matplotlib',
    'tqdm',
    'PIL',
}


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
        elif part in ('apis', 'cli', 'utils'):
            lower = {f'mmir.{name}' for name in ('apis', 'cli') if part != 'utils'}
            bad = under(module, HOSTS | BOUND - lower | {'mmcv.ops'}) and (
                (line, module) in set(imports(path, True))
            )
        bad |= part in LEVEL and _is_uphill(part, module)
        if bad:
            found.append(f'mmir/{rel}:{line} imports {module}')
    return found


def _is_uphill(part: str, module: str) -> bool:
    """Tell whether a folder of `mmir/` imports one that is not below it."""
    names = module.split('.')
    other = names[1] if names[0] == 'mmir' and len(names) > 1 else part
    return other != part and LEVEL.get(other, -1) >= LEVEL[part]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def module_graph(files: list[Path]) -> dict[str, set[str]]:
    """Map each module to the modules of `files` that it imports, wherever it does."""
    known = {module_name(path): path for path in files}
    graph = {}
    for name, path in known.items():
        found = set(imported_names(path))
        parents = {full.rpartition('.')[0] for full in found - set(known)}
        graph[name] = ((found | parents) & set(known)) - {name}
    return graph


def imported_names(path: Path) -> Iterator[str]:
    """Yield the absolute names of what a file imports, `module.name` for each name."""
    package = list(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *([node.module] if node.module else [])]
            yield from ('.'.join([*module, alias.name]) for alias in node.names)


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return modules that import each other in a circle, [] if none do."""
    done: set[str] = set()

    def _walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        for other in sorted(graph[name]):
            if found := _walk(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := _walk(name, []))), [])


def package_files() -> list[Path]:
    files = sorted((ROOT / 'mmir').rglob('*.py'))
    return [path for path in files if '.mim' not in path.parts]


def _is_stdlib(top: str) -> bool:
    return top in sys.stdlib_module_names


def test_package_follows_the_rules():
    files = package_files()
    assert len(files) > 20
    assert [hit for path in files for hit in broken_rules(path)] == []


def test_every_folder_has_its_place():
    folders = {path.parent.name for path in (ROOT / 'mmir').glob('*/__init__.py')}
    assert folders <= set(LEVEL)


def test_no_modules_import_each_other_in_a_circle():
    graph = module_graph(package_files())
    assert 'mmir.data.check' in graph['mmir.data.coco']
    assert circle(graph) == []
    found = circle({**graph, 'mmir.data.check': {'mmir.data.coco'}})
    assert sorted(found) == ['mmir.data.check', 'mmir.data.coco']


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
        ('utils', 'def f():\n    import mmir.det', True),
        ('utils', 'from mmir.data import coco', True),
        ('utils', 'from mmir.compat import safe_globals', False),
        ('data', 'import mmdet', True),
        ('data', 'from mmir.transforms import loading', True),
        ('data', 'from ..structures import PairError', False),
        ('adapters', 'from mmir import visualization', True),
        ('engine', 'def f():\n    from mmir.evaluation import tables', True),
        ('cli', 'import mmdet', True),
        ('cli', 'def f():\n    import mmdet', False),
        ('cli', 'from mmir.apis import zoo', False),
        ('apis', 'from mmir.cli import study', True),
    ],
)
def test_the_check_itself(tmp_path, monkeypatch, part, source, caught):
    monkeypatch.setitem(globals(), 'ROOT', tmp_path)
    file = tmp_path / 'mmir' / part / 'x.py'
    file.parent.mkdir(parents=True)
    file.write_text(source)
    assert bool(broken_rules(file)) == caught
