"""The environment is created once per lock file; missing tools are reported."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / 'tools/misc/make_env.py'
spec = importlib.util.spec_from_file_location('make_env', FILE)
make_env = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_env)

HERE = tuple(sys.version_info[:2])


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Give an empty place, a lock file, and a stand-in for the commands."""
    lock = tmp_path / 'lock.txt'
    lock.write_text('a==1\n')
    venv = tmp_path / 'env'
    called = []

    def call(command):
        called.append([str(part) for part in command])
        python = make_env.python_in(venv)
        python.parent.mkdir(parents=True, exist_ok=True)
        if not python.exists():
            python.symlink_to(sys.executable)

    monkeypatch.setattr(make_env, 'call', call)
    monkeypatch.setattr(make_env.shutil, 'disk_usage', disk(100))
    args = ['--venv', str(venv), '--lock', str(lock)]
    return SimpleNamespace(venv=venv, lock=lock, called=called, args=args)


def disk(gigabytes):
    return lambda path: SimpleNamespace(free=gigabytes * 1e9)


def test_made_once_and_again_when_the_lock_changes(place):
    assert make_env.main(place.args) == 0
    venv, install, package = place.called
    assert venv[1:] == ['-m', 'venv', '--clear', str(place.venv)]
    assert install[-3:] == ['--no-deps', '-r', str(place.lock)]
    assert package[-4:] == ['--no-deps', '--no-build-isolation', '-e', str(ROOT)]
    assert make_env.main(place.args) == 0
    assert len(place.called) == 3
    place.lock.write_text('a==2\n')
    assert make_env.main(place.args) == 0
    # The environment itself is kept: only the packages are brought up to date.
    assert [command[2] for command in place.called[3:]] == ['pip', 'pip']


def test_other_python_makes_it_anew(place, monkeypatch):
    assert make_env.main(place.args) == 0
    other = (3, 12) if HERE != (3, 12) else (3, 11)
    monkeypatch.setattr(make_env, 'find_python', lambda: ('other', other))
    assert make_env.main(place.args) == 0
    assert place.called[3][:4] == ['other', '-m', 'venv', '--clear']


def test_interrupted_run_is_taken_up_again(place, monkeypatch):
    good = make_env.call

    def cut(command):
        good(command)
        if '-r' in command:
            raise make_env.EnvError('cut off')

    monkeypatch.setattr(make_env, 'call', cut)
    assert make_env.main(place.args) == 2
    assert not (place.venv / 'mmir-stamp').exists()
    monkeypatch.setattr(make_env, 'call', good)
    assert make_env.main(place.args) == 0
    assert (place.venv / 'mmir-stamp').read_text() == make_env.fingerprint(
        place.lock, HERE
    )


def test_dry_run_changes_nothing(place, capsys):
    assert make_env.main([*place.args, '--dry-run']) == 0
    assert place.called == []
    assert not place.venv.exists()
    assert 'about 6 GB on disk' in capsys.readouterr().out


def test_full_disk_is_said_unless_the_large_part_is_there(place, monkeypatch, capsys):
    monkeypatch.setattr(make_env.shutil, 'disk_usage', disk(2.5))
    assert make_env.main(place.args) == 2
    said = capsys.readouterr().err
    assert said.startswith('error: creating the environment needs about 7 GB')
    assert '2.5 GB are free' in said
    torch = place.venv / 'lib/python3.11/site-packages/torch/version.py'
    torch.parent.mkdir(parents=True)
    torch.write_text('')
    assert make_env.main(place.args) == 0


def test_unsupported_python_looks_for_another(monkeypatch):
    versions = {'/usr/bin/python3': (3, 14), '/usr/bin/python3.11': (3, 11)}
    monkeypatch.setattr(make_env.sys, 'executable', '/usr/bin/python3')
    monkeypatch.setattr(
        make_env.shutil,
        'which',
        lambda name: f'/usr/bin/{name}' if f'/usr/bin/{name}' in versions else None,
    )
    monkeypatch.setattr(make_env, 'version_of', versions.get)
    assert make_env.find_python() == ('/usr/bin/python3.11', (3, 11))
    del versions['/usr/bin/python3.11']
    with pytest.raises(make_env.EnvError, match=r'3\.10, 3\.11 or 3\.12 is needed'):
        make_env.find_python()


def test_version_of_asks_the_interpreter(tmp_path):
    assert make_env.version_of(sys.executable) == HERE
    assert make_env.version_of(str(tmp_path / 'none')) is None
    shim = tmp_path / 'shim'
    shim.write_text('#!/bin/sh\necho no such version >&2; exit 127\n')
    shim.chmod(0o755)
    assert make_env.version_of(str(shim)) is None


@pytest.mark.parametrize(
    ('output', 'advice'),
    [
        ('OSError: [Errno 28] No space left on device', 'the disk is full'),
        ('NewConnectionError(... Network is unreachable)', 'cannot be reached'),
        ('Temporary failure in name resolution', 'cannot be reached'),
        ('ensurepip is not available', 'apt install python3-venv'),
        ('anything else', 'last lines above'),
    ],
)
def test_failures_are_explained(output, advice, capfd):
    code = f'print({output!r}); raise SystemExit(1)'
    with pytest.raises(make_env.EnvError, match=advice):
        make_env.call([sys.executable, '-c', code])
    assert output in capfd.readouterr().out


def test_success_is_shown_without_the_satisfied_lines(capfd):
    code = 'print("Requirement already satisfied: a"); print("Installed b")'
    make_env.call([sys.executable, '-c', code])
    assert capfd.readouterr().out == 'Installed b\n'


def make(*args: str, **variables: str) -> subprocess.CompletedProcess:
    # a make around the tests hands its own command line on
    inherited = ('MAKEFLAGS', 'MAKEOVERRIDES', 'MAKELEVEL', 'MFLAGS', 'PYTHON', 'STACK')
    kept = {k: v for k, v in os.environ.items() if k not in inherited}
    env = {**kept, **variables}
    return subprocess.run(
        ['make', '-n', *args], cwd=ROOT, capture_output=True, text=True, env=env
    )


@pytest.mark.parametrize('target', ['demo', 'test', 'test-all', 'lint'])
def test_targets_build_the_environment_or_use_the_given_one(target):
    if shutil.which('make') is None:
        pytest.skip('make is not installed')
    own = make(target)
    assert own.returncode == 0, own.stderr
    assert 'tools/misc/make_env.py' in own.stdout
    assert f'{ROOT}/.venv/bin/python' in own.stdout
    classic = make(target, 'STACK=classic')
    assert f'{ROOT}/.venv-classic/bin/python' in classic.stdout
    assert f'{ROOT}/.venv/bin/python' not in classic.stdout
    given = make(target, 'PYTHON=/opt/python')
    assert 'make_env.py' not in given.stdout
    assert given.stdout.startswith('/opt/python ')


@pytest.mark.parametrize(
    ('stack', 'venv', 'lock'),
    [('onedl', '.venv', 'lock.txt'), ('classic', '.venv-classic', 'classic-lock.txt')],
)
def test_each_stack_has_an_environment_of_its_own(stack, venv, lock):
    if shutil.which('make') is None:
        pytest.skip('make is not installed')
    done = make('test', f'STACK={stack}')
    assert f'make_env.py --venv {venv} --lock requirements/{lock}\n' in done.stdout
    assert f'{ROOT}/{venv}/bin/python -m pytest' in done.stdout
    assert (ROOT / 'requirements' / lock).is_file()
    wrong = make('test', 'STACK=new')
    assert wrong.returncode == 2
    assert "STACK is 'new', not onedl or classic" in wrong.stderr


def test_ci_runs_lint_then_the_tests(tmp_path):
    (tmp_path / 'make').write_text('#!/bin/sh\necho "$@" "$MMIR_REAL_DATA"\n')
    (tmp_path / 'make').chmod(0o755)
    env = {'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'MMIR_REAL_DATA': '/images'}
    result = subprocess.run(
        [ROOT / '.ci/run'], capture_output=True, text=True, env=env, check=True
    )
    assert result.stdout.splitlines() == ['lint /images', 'test /images']
