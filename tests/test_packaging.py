"""Wheel, sdist and editable install contain the files mim and mmengine need."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest
from mmengine.fileio import load
from modelindex.load_model_index import load as load_as_mim

import mmir
from mmir.utils.shipped import NOT_PUBLISHED, PREFIX, shipped_checkpoint

ROOT = Path(__file__).parents[1]
SOURCES = (
    'mmir',
    'configs',
    'tools',
    'demo',
    # What follows must not be in the wheel.
    'docs',
    'projects',
    'requirements',
    'tests',
    '.ci',
    'setup.py',
    'pyproject.toml',
    'MANIFEST.in',
    'Makefile',
    'README.md',
    'CHANGELOG.md',
    'CONTRIBUTING.md',
    'LICENSE',
    'model-index.yml',
    'dataset-index.yml',
)
EXTRAS = {
    *('onedl', 'classic', 'det', 'seg', 'reid'),
    *('mim', 'mminstall', 'sod', 'plots', 'deploy', 'docs', 'tests'),
}
HOSTS = ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain')
USE = """
import sys
import mmir
from mmengine.config import Config
from mmengine.hub import get_config
name = 'tensorfact/yolo_flir_1pct.py'
for cfg in (get_config(f'mmir::{name}'), Config.fromfile(sys.argv[1])):
    assert cfg.default_scope == 'mmdet', cfg.default_scope
    assert cfg.model.target == 'mmir.YOLOv7'
print(mmir.__path__[0])
"""


@pytest.fixture(scope='module')
def tree(tmp_path_factory) -> Path:
    """Copy the sources, without what git ignores."""
    folder = tmp_path_factory.mktemp('tree')
    ignored = shutil.ignore_patterns('__pycache__', '.mim', '*.egg-info')
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, folder / name)
    return folder


def run(*command, cwd: Path) -> str:
    result = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={'PATH': '/usr/bin:/bin', 'HOME': str(cwd), 'OMP_NUM_THREADS': '1'},
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope='module')
def built(tree, tmp_path_factory) -> Path:
    """Build the sdist, and the wheel from the sdist."""
    out = tmp_path_factory.mktemp('dist')
    run('-m', 'build', '--no-isolation', '--outdir', out, tree, cwd=tree)
    return out


def files_in(*folders: str) -> set[str]:
    """List the files of folders of the checkout."""
    return {
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }


def shipped() -> set[str]:
    """List the files `.mim` must have."""
    indexes = {'model-index.yml', 'dataset-index.yml'}
    return files_in('configs', 'tools', 'demo') | indexes


def metadata(built: Path) -> Message:
    """Read the metadata of the wheel."""
    wheel = zipfile.ZipFile(next(built.glob('*.whl')))
    text = wheel.read(f'openmmir-{mmir.__version__}.dist-info/METADATA').decode()
    return message_from_string(text)


def test_sdist_has_the_sources_and_no_link(built):
    with tarfile.open(next(built.glob('*.tar.gz'))) as archive:
        names = {name.partition('/')[2] for name in archive.getnames()}
    assert shipped() <= names
    assert {'LICENSE', 'setup.py', 'mmir/py.typed'} <= names
    # Whoever packages it further builds the pages and runs the tests.
    assert files_in('docs', 'tests', 'projects', 'requirements', '.ci') <= names
    assert {'Makefile', 'CONTRIBUTING.md', 'CHANGELOG.md'} <= names
    assert not [name for name in names if name.startswith('mmir/.mim')]


def test_wheel_holds_only_mmir_with_mim_files(built):
    wheel = zipfile.ZipFile(next(built.glob('*.whl')))
    names = wheel.namelist()
    info = f'openmmir-{mmir.__version__}.dist-info'
    assert {name.split('/')[0] for name in names} == {'mmir', info}
    in_mim = {n.removeprefix('mmir/.mim/') for n in names if '/.mim/' in n}
    assert in_mim == shipped()
    assert 'mmir/py.typed' in names
    assert wheel.read(f'{info}/top_level.txt').decode().split() == ['mmir']
    assert f'{info}/entry_points.txt' not in names
    # One mim takes the folder of the first record, the other sorts before.
    record = wheel.read(f'{info}/RECORD').decode().splitlines()
    assert record[0].startswith('mmir/')
    assert min(record).startswith('mmir/')


def test_wheel_depends_on_no_host(built):
    data = metadata(built)
    always = [x for x in data.get_all('Requires-Dist') if 'extra ==' not in x]
    assert always
    assert not [line for line in always if any(host in line for host in HOSTS)]
    assert set(data.get_all('Provides-Extra')) == EXTRAS
    assert data['License'] == 'Apache-2.0'


def test_index_page_has_no_link_into_the_checkout(built):
    data = metadata(built)
    text = data.get_payload()
    assert data['Description-Content-Type'] == 'text/markdown'
    targets = re.findall(r'\]\(([^)]*)\)', text)
    assert not [target for target in targets if not target.startswith('https://')]
    assert '](docs/' in (ROOT / 'README.md').read_text()
    assert 'Adapters (`docs/adapters.md`)' in text
    assert '![' not in text
    assert 'this picture' not in text
    named = re.findall(r'\(`([\w./-]+\.md)`\)', text)
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).is_file()] == []
    urls = dict(url.split(', ') for url in data.get_all('Project-URL'))
    assert all(url.startswith('https://') for url in urls.values())
    assert 'Paper of TensorFact' in urls


def test_every_stack_installs_the_tested_opencv(built):
    needs = metadata(built).get_all('Requires-Dist')
    locks = {}
    for name in ('lock.txt', 'classic-lock.txt'):
        lines = (ROOT / 'requirements' / name).read_text().splitlines()
        locks[name] = dict(line.split(' ;')[0].split('==') for line in lines)
        assert locks[name]['opencv-python-headless'].startswith('4.12.')
        assert locks[name]['numpy'].startswith('2.2.')
    for extra in ('classic', 'seg', 'reid'):
        assert f'opencv-python<4.13; extra == "{extra}"' in needs
    assert 'numpy<2.3; extra == "classic"' in needs
    # [det]: mmdet's imaug caps both builds
    assert 'imaug' in locks['lock.txt']


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['wheel', 'sdist', 'editable'])
def test_installed_package_gives_its_configs_by_name(built, tree, tmp_path, kind):
    pip = ('-m', 'pip', 'install', '--no-deps', '--no-build-isolation', '-q')
    run('-m', 'venv', '--without-pip', tmp_path / 'env', cwd=tmp_path)
    site = next((tmp_path / 'env').glob('lib/python*/site-packages'))
    source = {
        'wheel': [next(built.glob('*.whl'))],
        'sdist': [next(built.glob('*.tar.gz'))],
        'editable': ['-e', tree],
    }[kind]
    run(*pip, '--target', site, *source, cwd=tmp_path)
    # The hosts come from this environment, without the mmir it may have.
    mine = [p for p in sys.path if p.endswith('site-packages')]
    lines = [f'import sys; sys.path.append({path!r})' for path in mine]
    (site / 'zz_hosts.pth').write_text('\n'.join(lines) + '\n')
    child = tmp_path / 'child.py'
    child.write_text("_base_ = 'mmir::tensorfact/yolo_flir_1pct.py'\n")
    (tmp_path / 'use.py').write_text(USE)
    # `make` puts the checkout on the path
    bare = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    result = subprocess.run(
        [tmp_path / 'env/bin/python', 'use.py', child],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=bare,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    where = Path(result.stdout.split()[-1])
    assert where == (tree if kind == 'editable' else site) / 'mmir'
    folders = [where / '.mim' / name for name in ('configs', 'tools', 'demo')]
    assert [f.is_symlink() for f in folders] == [kind == 'editable'] * 3
    assert (where / '.mim/tools/train.py').is_file()


def test_copies_where_links_cannot_be_made(tree, tmp_path, monkeypatch):
    code = (tree / 'setup.py').read_text().replace('\nsetup(', '\ndict(')
    space = {'__file__': str(tree / 'setup.py'), '__name__': 'setup'}
    exec(compile(code, 'setup.py', 'exec'), space)

    def refuse(*_):
        raise OSError('no links here')

    monkeypatch.setattr(Path, 'symlink_to', refuse)
    for name in ('configs', 'model-index.yml'):
        space['place'](tree / name, tmp_path / name, link=True)
    assert (tmp_path / 'configs/tensorfact/yolo_flir_1pct.py').is_file()
    assert not (tmp_path / 'configs').is_symlink()
    index = (tmp_path / 'model-index.yml').read_text()
    assert index == (ROOT / 'model-index.yml').read_text()


ONEDL = {
    'onedl-mmengine==0.10.12',
    'onedl-mmcv==2.3.6',
    'onedl-mmdetection==3.5.1',
    'onedl-mmsegmentation==1.4.2',
    'onedl-mmpretrain==1.3.6',
}
CLASSIC = {
    'mmengine==0.10.7',
    'mmcv-lite==2.1.0',
    'mmdet==3.3.0',
    'mmsegmentation==1.2.2',
    'mmpretrain==1.2.0',
}


def pins(lock: str) -> list[str]:
    """Read the requirements of a lock file, with their markers."""
    lines = (ROOT / 'requirements' / lock).read_text().splitlines()
    return [line for line in lines if line and line[0] != '#']


@pytest.mark.parametrize(
    ('lock', 'hosts', 'others'),
    [('lock.txt', ONEDL, CLASSIC), ('classic-lock.txt', CLASSIC, ONEDL)],
)
def test_project_table_pins_no_host_and_the_locks_pin_all(lock, hosts, others):
    assert 'scripts]' not in (ROOT / 'pyproject.toml').read_text()
    pinned = {line.split(';')[0].strip() for line in pins(lock)}
    assert all('==' in line for line in pinned)
    assert {'torch==2.11.0', 'torchvision==0.26.0'} | hosts <= pinned
    assert not {line.split('==')[0] for line in others} & {
        line.split('==')[0] for line in pinned
    }


def test_stacks_differ_in_the_hosts_only():
    more = set(pins('classic-lock.txt')) - set(pins('lock.txt'))
    assert more == CLASSIC


def test_licence_is_complete():
    text = (ROOT / 'LICENSE').read_text()
    assert 'Version 2.0, January 2004' in text
    assert all(f'   {n}. ' in text for n in range(1, 10))
    assert 'END OF TERMS AND CONDITIONS' in text


def test_paths_of_the_model_index_exist():
    for metafile in load(ROOT / 'model-index.yml')['Import']:
        for row in load(ROOT / metafile)['Models']:
            assert (ROOT / row['Config']).is_file(), row
    for name, row in load(ROOT / 'dataset-index.yml').items():
        assert (ROOT / row['script']).is_file(), name


def test_mim_finds_no_file_to_download():
    """As `mim download` reads the index: each address names the folder, not a file."""
    models = load_as_mim(str(ROOT / 'model-index.yml')).models
    assert len(models) > 20
    weights = {model.name: model.weights for model in models}
    for text in weights.values():
        assert [address.split('/')[-1] for address in text.split(',')] == ['']
        assert text.startswith(PREFIX)
        assert text == NOT_PUBLISHED or shipped_checkpoint(text.rstrip('/')).is_file()
    assert 'not published' in weights['yolo-tiny_flir_1pct']
    assert weights['yolo-tiny_scenes_rgb'] == 'mmir://yolo-tiny_scenes_rgb.pth/'
