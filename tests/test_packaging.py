"""Wheel, sdist and editable install contain the files mim and mmengine need."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from mmengine.fileio import load

import mmir

ROOT = Path(__file__).parents[1]
SOURCES = (
    'mmir',
    'configs',
    'tools',
    'demo',
    'projects',  # must not be in the wheel
    'setup.py',
    'pyproject.toml',
    'MANIFEST.in',
    'README.md',
    'LICENSE',
    'model-index.yml',
    'dataset-index.yml',
)
EXTRAS = {
    *('onedl', 'classic', 'det', 'seg', 'reid'),
    *('mim', 'mminstall', 'deploy', 'docs', 'tests'),
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


def shipped() -> set[str]:
    """List the files `.mim` must have."""
    files = {
        str(path.relative_to(ROOT))
        for folder in ('configs', 'tools', 'demo')
        for path in (ROOT / folder).rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }
    return files | {'model-index.yml', 'dataset-index.yml'}


def test_sdist_has_the_sources_and_no_link(built):
    with tarfile.open(next(built.glob('*.tar.gz'))) as archive:
        names = {name.partition('/')[2] for name in archive.getnames()}
    assert shipped() <= names
    assert {'LICENSE', 'setup.py', 'mmir/py.typed'} <= names
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
    wheel = zipfile.ZipFile(next(built.glob('*.whl')))
    info = f'openmmir-{mmir.__version__}.dist-info'
    lines = wheel.read(f'{info}/METADATA').decode().splitlines()
    needed = [line for line in lines if line.startswith('Requires-Dist')]
    always = [line for line in needed if 'extra ==' not in line]
    assert always
    assert not [line for line in always if any(host in line for host in HOSTS)]
    extras = [x.split()[1] for x in lines if x.startswith('Provides-Extra')]
    assert set(extras) == EXTRAS
    assert 'License: Apache-2.0' in lines


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['wheel', 'editable'])
def test_installed_package_gives_its_configs_by_name(built, tree, tmp_path, kind):
    pip = ('-m', 'pip', 'install', '--no-deps', '--no-build-isolation', '-q')
    run('-m', 'venv', '--without-pip', tmp_path / 'env', cwd=tmp_path)
    site = next((tmp_path / 'env').glob('lib/python*/site-packages'))
    source = [next(built.glob('*.whl'))] if kind == 'wheel' else ['-e', tree]
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
    assert where == (site if kind == 'wheel' else tree) / 'mmir'
    folders = [where / '.mim' / name for name in ('configs', 'tools', 'demo')]
    assert [f.is_symlink() for f in folders] == [kind == 'editable'] * 3
    assert (where / '.mim/tools/train.py').is_file()


def test_copies_where_links_cannot_be_made(tree, tmp_path, monkeypatch):
    code = (tree / 'setup.py').read_text().replace('setup(cmdclass', 'dict(cmdclass')
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


def test_project_table_pins_no_host_and_the_lock_pins_all():
    assert 'scripts]' not in (ROOT / 'pyproject.toml').read_text()
    lock = (ROOT / 'requirements/lock.txt').read_text().splitlines()
    pinned = [line.split(';')[0].strip() for line in lock if line and line[0] != '#']
    assert all('==' in line for line in pinned)
    wanted = {
        'torch==2.11.0',
        'torchvision==0.26.0',
        'onedl-mmengine==0.10.12',
        'onedl-mmcv==2.3.6',
        'onedl-mmdetection==3.5.1',
        'onedl-mmsegmentation==1.4.2',
        'onedl-mmpretrain==1.3.6',
    }
    assert wanted <= set(pinned)


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
