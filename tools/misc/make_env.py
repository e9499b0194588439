"""Make the virtual environment `.venv` from requirements/lock.txt; reuse it if it fits.

Pure standard library, and syntax that an old Python still reads: it has to start where
nothing is installed and say what is missing.
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
    """What is missing on this machine, and what to do."""


def version_of(python):
    """Ask an interpreter for its (major, minor); None if it does not run."""
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
    """Hash what the environment depends on: the lock file and the Python version."""
    text = lock.read_text(encoding='utf-8') + '{}.{}'.format(*version)
    return hashlib.sha256(text.encode()).hexdigest()


def python_in(venv):
    """Path of the interpreter of an environment."""
    folder = venv / ('Scripts' if os.name == 'nt' else 'bin')
    return folder / ('python.exe' if os.name == 'nt' else 'python')


def is_current(venv, stamp):
    """Tell whether the environment is complete and was made for this fingerprint."""
    file = venv / 'mmir-stamp'
    return file.is_file() and file.read_text() == stamp and python_in(venv).exists()


def has_torch(venv):
    """Tell whether the large part of the environment is already on the disk."""
    return any(venv.glob('lib/python*/site-packages/torch/version.py'))


def check_disk(venv):
    """Raise if there is no room for the environment."""
    free = shutil.disk_usage(venv.parent).free / 1e9
    if free < NEEDED_GB and not has_torch(venv):
        raise EnvError(
            f'the environment needs about {NEEDED_GB:.0f} GB of disk while it is made '
            f'and {free:.1f} GB are free under {venv.parent}'
        )


def explain(output):
    """Turn the output of a failed command into what to do about it."""
    if any(mark in output for mark in NO_SPACE):
        return 'the disk is full: free about 7 GB (also in the folder TMPDIR names)'
    if any(mark in output for mark in OFFLINE):
        return (
            'the package index cannot be reached: check the network (and PIP_INDEX_URL '
            'or HTTPS_PROXY behind a mirror or proxy); what was installed is kept'
        )
    if 'ensurepip' in output:
        return (
            'Python comes without venv here (Debian, Ubuntu: apt install python3-venv)'
        )
    return 'see the last lines above'


def call(command):
    """Run a command, show what it says, explain it if it fails."""
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
    """List the commands that make the environment."""
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
    """Make the environment unless it is current."""
    python, version = find_python()
    stamp = fingerprint(lock, version)
    if is_current(venv, stamp):
        return
    check_disk(venv)
    print(f'making {venv} with {python}: about 6 GB on disk, minutes to download')
    for command in commands(python, version, venv, lock):
        print('+', *command, flush=True)
        if not dry_run:
            call(command)
    if not dry_run:
        # Last: an interrupted run leaves no stamp and is taken up again.
        part = venv / 'mmir-stamp.part'
        part.write_text(stamp)
        part.replace(venv / 'mmir-stamp')


def main(argv=None):
    parser = argparse.ArgumentParser(description='Make or reuse the environment.')
    parser.add_argument('--venv', type=Path, default=ROOT / '.venv')
    parser.add_argument('--lock', type=Path, default=ROOT / 'requirements' / 'lock.txt')
    parser.add_argument('--dry-run', action='store_true', help='only say what to do')
    args = parser.parse_args(argv)
    try:
        make(args.venv.absolute(), args.lock, args.dry_run)
    except EnvError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
