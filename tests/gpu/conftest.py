"""The device of these tests: a CUDA GPU, or what `MMIR_GPU_TESTS_ON` names.

`MMIR_GPU_TESTS_ON=cpu` runs the same functions without a GPU, to find what is wrong in
the tests themselves; what only CUDA has is skipped then.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mmir import compat

compat.activate()
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'tools/benchmark'))


@pytest.fixture(scope='session')
def device() -> str:
    """Name of the device; tests are skipped where there is none."""
    wanted = os.environ.get('MMIR_GPU_TESTS_ON', 'cuda')
    if wanted == 'cuda' and not torch.cuda.is_available():
        pytest.skip('torch sees no CUDA GPU; `make gpu` runs this where there is one')
    return wanted


@pytest.fixture(autouse=True)
def _exact(device: str) -> Iterator[None]:
    """Sums of float32 products in float32, so that they compare with a CPU's."""
    kinds = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [kind.allow_tf32 for kind in kinds]
    for kind in kinds:
        kind.allow_tf32 = False
    yield
    for kind, value in zip(kinds, before, strict=True):
        kind.allow_tf32 = value


@pytest.fixture
def cuda(device: str) -> str:
    """The device, for what only CUDA has."""
    if device != 'cuda':
        pytest.skip('only CUDA has this')
    return device
