"""`import mmir` adds nothing heavy to what torch, mmengine and mmcv have loaded."""

import json
import subprocess
import sys

import pytest
import torch

from mmir.adapters.tracing import exports_to_onnx

SCRIPT = """
import json, sys
import cv2, mmcv, mmcv.cnn, mmcv.transforms, mmengine, mmengine.registry, numpy, torch
before = set(sys.modules)
import mmir
print(json.dumps([sorted(set(sys.modules) - before), list(mmir.INACTIVE)]))
"""
HEAVY = ('torch._dynamo', 'torch._inductor', 'torch.onnx', 'torch.utils.flop_counter')
"""Modules of torch that take half a second or more to import, or load triton."""


@pytest.fixture(scope='module')
def loaded() -> set[str]:
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT], stdout=subprocess.PIPE, text=True
    )
    names, inactive = json.loads(done.stdout.splitlines()[-1])
    assert inactive == []
    return set(names)


def test_no_other_package_is_loaded(loaded):
    tops = {name.partition('.')[0] for name in loaded}
    others = {top for top in tops - sys.stdlib_module_names if not top.startswith('_')}
    assert others <= {'mmir', 'mmengine', 'mmcv', 'torch', 'numpy', 'cv2'}
    assert 'mmir' in others


def test_no_compiler_is_loaded(loaded):
    assert [name for name in loaded if name.startswith(HEAVY)] == []


def test_dynamo_takes_the_export_check_for_a_constant():
    @torch.compiler.assume_constant_result
    def marked() -> bool:
        return True

    assert vars(exports_to_onnx) == vars(marked)
