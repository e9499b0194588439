"""The shell scripts start the tools with the right launcher and arguments."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize('name', ['dist_train', 'dist_test', 'slurm_train'])
def test_scripts_parse_and_explain_themselves(name):
    script = ROOT / f'tools/{name}.sh'
    assert os.access(script, os.X_OK)
    result = subprocess.run([script], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, '')
    assert f'{name}.sh' in result.stderr
    assert 'CONFIG' in result.stderr


@pytest.mark.parametrize(
    ('name', 'args', 'launcher'),
    [
        ('dist_train', ['c.py', '2', '--amp'], 'pytorch'),
        ('dist_test', ['c.py', 'w.pth', '2', '--out', 'm.json'], 'pytorch'),
        ('slurm_train', ['part', 'job', 'c.py', '--amp'], 'slurm'),
    ],
)
def test_scripts_hand_their_arguments_on(tmp_path, name, args, launcher):
    for program in ('srun', 'python'):
        (tmp_path / program).write_text(f'#!/bin/sh\necho {program} "$@"\n')
        (tmp_path / program).chmod(0o755)
    env = {'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'GPUS': '2'}
    command = [ROOT / f'tools/{name}.sh', *args]
    said = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    words = said.stdout.split()
    assert words[words.index('--launcher') + 1] == launcher
    assert words[-1] == args[-1]
    assert 'c.py' in words
    assert '--nproc_per_node=2' in words or '--ntasks=2' in words
