"""Create the virtual environment `.venv` from requirements/lock.txt, or reuse it.

Standard library only, in syntax that old Pythons can parse: it has to start where
nothing is installed and report what is missing.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUPPORTED = ((3, 12), (3, 11), (3, 10))
NEEDED_GB = 7.0
ASK_VERSION = 'import sys; print(*sys.version_info[:2])'
OFFLINE = (
    'Temporary failure in name resolution',
    'NewConnectionError',
    'ConnectTimeoutError',
    'Network is unreachable',
    'Name or service not known',
    'ProxyError',
    'ReadTimeoutError',
)
NO_SPACE = ('No space left on device', 'Disk quota exceeded')


class EnvError(Exception):
    """Something is missing on this machine; the message says how to fix it."""


def version_of(python):
    """Return the (major, minor) version of an interpreter; None if it does not run."""
    try:
        answer = subprocess.run(
            [python, '-c', ASK_VERSION],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=60,
        ).stdout
        return tuple(int(number) for number in answer.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def find_python():
    """Find a supported interpreter: the running one, else python3.12, 3.11, 3.10."""
    names = ['python{}.{}'.format(*version) for version in SUPPORTED]
    for python in [sys.executable, *(shutil.which(name) for name in names)]:
        version = version_of(python) if python else None
        if version in SUPPORTED:
            return python, version
    running = '{}.{}'.format(*sys.version_info[:2])
    raise EnvError(
        f'Python 3.10, 3.11 or 3.12 is needed; python3 is {running} here and none of '
        f'{", ".join(names)} was found. Install one (Debian, Ubuntu: apt install '
        'python3.11 python3.11-venv), or name an environment of your own: '
        'make test PYTHON=/path/to/python'
    )


def fingerprint(lock, version):
    """Hash of what the environment depends on: lock file and Python version."""
    text = lock.read_text(encoding='utf-8') + '{}.{}'.format(*version)
    return hashlib.sha256(text.encode()).hexdigest()


def python_in(venv):
    """Path of the interpreter of an environment."""
    folder = venv / ('Scripts' if os.name == 'nt' else 'bin')
    return folder / ('python.exe' if os.name == 'nt' else 'python')


def is_current(venv, stamp):
    """Check whether the environment is complete and matches the fingerprint."""
    file = venv / 'mmir-stamp'
    return file.is_file() and file.read_text() == stamp and python_in(venv).exists()


def has_torch(venv):
    """Check whether the largest part of the environment is already on disk."""
    return any(venv.glob('lib/python*/site-packages/torch/version.py'))


def check_disk(venv):
    """Raise if there is not enough disk space for the environment."""
    free = shutil.disk_usage(venv.parent).free / 1e9
    if free < NEEDED_GB and not has_torch(venv):
        raise EnvError(
            f'creating the environment needs about {NEEDED_GB:.0f} GB of disk, but '
            f'only {free:.1f} GB are free in {venv.parent}'
        )


def explain(output):
    """Advice for the output of a failed command."""
    if any(mark in output for mark in NO_SPACE):
        return 'the disk is full: free about 7 GB (also in the folder of TMPDIR)'
    if any(mark in output for mark in OFFLINE):
        return (
            'the package index cannot be reached: check the network (and PIP_INDEX_URL '
            'or HTTPS_PROXY behind a mirror or proxy); packages installed so far are '
            'kept'
        )
    if 'ensurepip' in output:
        return 'this Python lacks venv (Debian, Ubuntu: apt install python3-venv)'
    return 'see the last lines above'


def call(command):
    """Run a command and show its output; raise with advice if it fails."""
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=str(ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
    lines = []
    for line in process.stdout:
        if not line.startswith(('Requirement already satisfied', 'Ignoring ')):
            print(line, end='', flush=True)
        lines = [*lines[-200:], line]
    if process.wait() != 0:
        raise EnvError(f'{command[0]} failed: {explain("".join(lines))}')


def commands(python, version, venv, lock):
    """List the commands that create the environment."""
    inner = python_in(venv)
    pip = [inner, '-m', 'pip', 'install', '--disable-pip-version-check', '--no-deps']
    steps = [
        [*pip, '-r', lock],
        [*pip, '--no-build-isolation', '-e', ROOT],
    ]
    if version_of(str(inner)) != version:
        steps.insert(0, [python, '-m', 'venv', '--clear', venv])
    return steps


def make(venv, lock, dry_run):
    """Create the environment unless it is up to date."""
    python, version = find_python()
    stamp = fingerprint(lock, version)
    if is_current(venv, stamp):
        return
    check_disk(venv)
    print(f'creating {venv} with {python}: about 6 GB on disk, takes some minutes')
    for command in commands(python, version, venv, lock):
        print('+', *command, flush=True)
        if not dry_run:
            call(command)
    if not dry_run:
        # Written last: an interrupted run leaves no stamp and is continued next time.
        part = venv / 'mmir-stamp.part'
        part.write_text(stamp)
        part.replace(venv / 'mmir-stamp')


def main(argv=None):
    parser = argparse.ArgumentParser(description='Create or reuse the environment.')
    parser.add_argument('--venv', type=Path, default=ROOT / '.venv')
    parser.add_argument('--lock', type=Path, default=ROOT / 'requirements' / 'lock.txt')
    parser.add_argument('--dry-run', action='store_true', help='only print commands')
    args = parser.parse_args(argv)
    try:
        make(args.venv.absolute(), args.lock, args.dry_run)
    except EnvError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
