"""Freed memory is kept, so that it is not cleared again."""

import subprocess
import sys

import pytest

from mmir.utils.allocator import keep_freed_memory

PROGRAM = """
import resource
import sys

import torch

from mmir.utils.allocator import keep_freed_memory

if sys.argv[1] == 'keep':
    assert keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(6):
    blocks = [torch.zeros(10 * 2**20).fill_(1) for _ in range(3)]  # 40 MiB each
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(word: str) -> int:
    command = [sys.executable, '-c', PROGRAM, word]
    return int(subprocess.run(command, check=True, capture_output=True).stdout)


@pytest.mark.skipif(sys.platform != 'linux', reason='the allocator is that of glibc')
def test_pages_are_cleared_once() -> None:
    """Six rounds of the same blocks: without, each round has to clear them again.

    Blocks above 32 MiB always come from the system, whatever glibc has learned.
    """
    assert page_faults('keep') < 0.5 * page_faults('plain')


@pytest.mark.parametrize('platform', ['darwin', 'win32'])
def test_other_systems_are_left_alone(monkeypatch, platform: str) -> None:
    monkeypatch.setattr(sys, 'platform', platform)
    assert not keep_freed_memory()


@pytest.mark.skipif(sys.platform != 'linux', reason='the C library is loaded')
def test_other_allocators_are_left_alone(monkeypatch) -> None:
    class Library:
        """A C library without mallopt, such as musl."""

    monkeypatch.setattr('ctypes.CDLL', lambda name: Library())
    assert not keep_freed_memory()
