"""Names and paths in the documentation exist, and its Python code runs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob('*.md'),
        *(ROOT / 'docs').rglob('*.md'),
        *(ROOT / 'configs').rglob('*.md'),
        *(ROOT / 'projects').rglob('*.md'),
        *(ROOT / 'demo').rglob('*.md'),
    ]
)
FOLDERS = 'mmir|tools|configs|docs|tests|requirements|projects|demo'
# Paths of the checkout as pages write them; `<name>`, `*` and `{a,b}` are no paths.
PATH = re.compile(rf'(?<![\w/.:-])((?:{FOLDERS})/[\w./-]*\w/?)(?![\w<*{{/-])')
LINK = re.compile(r'\]\(([^)#:\s]+)(?:#[^)]*)?\)')
COMMAND = re.compile(r'python (tools/\S+\.py)((?:\\\n|[^\n`])*)')
RUN = re.compile(r'<!-- run: (\w+) -->\n```python\n(.*?)```', re.DOTALL)
names = pytest.mark.parametrize(
    'page', PAGES, ids=lambda page: str(page.relative_to(ROOT))
)


def missing(paths: set[str]) -> list[str]:
    """Return the paths that are not in the checkout."""
    return sorted(p for p in paths if not (ROOT / p).exists())


@names
def test_paths_exist(page: Path) -> None:
    assert missing(set(PATH.findall(page.read_text()))) == []


@names
def test_links_lead_somewhere(page: Path) -> None:
    found = {(page.parent / link).resolve() for link in LINK.findall(page.read_text())}
    assert missing({str(path.relative_to(ROOT)) for path in found}) == []


def test_table_of_contributing_names_paths() -> None:
    table = (ROOT / 'CONTRIBUTING.md').read_text().partition('## Where things go')[2]
    rows = [line for line in table.splitlines() if line.startswith('| ')][1:]
    named = [PATH.findall(row) for row in rows]
    assert sum(map(bool, named)) >= len(rows) - 2
    assert missing({path for paths in named for path in paths}) == []


def options_of_tools() -> dict[str, set[str]]:
    """Long options of each tool on any page."""
    found: dict[str, set[str]] = {}
    for page in PAGES:
        for tool, rest in COMMAND.findall(page.read_text()):
            rest = rest.partition('  #')[0]
            found.setdefault(tool, set()).update(re.findall(r'--[a-z][\w-]*', rest))
    return found


def source_of(tool: str) -> str:
    """Source of a tool, of the parser tools share, and of helpers beside the tool."""
    beside = sorted((ROOT / tool).parent.glob('_*.py'))
    sources = [ROOT / tool, ROOT / 'mmir/cli/cli.py', *beside]
    return '\n'.join(source.read_text() for source in sources)


def test_commands_have_the_options() -> None:
    options = options_of_tools()
    assert {'tools/train.py', 'tools/test.py'} <= options.keys()
    for tool, used in options.items():
        known = {
            node.value
            for node in ast.walk(ast.parse(source_of(tool)))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        assert used <= known | {'--help'}, (tool, used - known)


class Toy(nn.Module):
    """A body and a head, enough to adapt."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.Conv2d(16, 8, 3)
        )
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


@pytest.mark.parametrize(
    ('page', 'title'),
    [
        ('adapters', 'python'),
        ('tensorfact', 'python'),
        ('tensorfact', 'plan'),
        ('export', 'merge'),
        ('index', 'scenes'),
        ('reid_protocol', 'rank'),
        ('reid_protocol', 'people'),
    ],
)
def test_blocks_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str, title: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model, x = Toy().eval(), torch.randn(2, 8, 9, 9)
    rgb_model = Toy().eval()
    rgb_model.load_state_dict(model.state_dict())
    block = dict(RUN.findall((ROOT / 'docs' / f'{page}.md').read_text()))[title]
    block = block.replace('train=60, val=30', 'train=1, val=1')
    block = block.replace('train=12, test=8, images=4', 'train=1, test=1, images=1')
    exec(block, {'model': model, 'rgb_model': rgb_model})
    with torch.no_grad():
        assert torch.equal(rgb_model.eval()(x), rgb_model(x))
        assert torch.isfinite(model.eval()(x)).all()
    if page == 'index':
        assert (tmp_path / 'data/scenes/val/thermal_annotations.json').is_file()


def test_python_blocks_are_python() -> None:
    count = 0
    for page in PAGES:
        blocks = re.findall(r'```python\n(.*?)```', page.read_text(), re.DOTALL)
        for block in blocks:
            ast.parse(block, filename=str(page))
        count += len(blocks)
    assert count > 20


@pytest.mark.slow
@pytest.mark.parametrize('tool', sorted(options_of_tools()))
def test_tools_start(tool: str) -> None:
    command = [sys.executable, str(ROOT / tool), '--help']
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert 'usage' in done.stdout
