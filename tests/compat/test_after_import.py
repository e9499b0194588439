"""Patches of host modules, and what those of older hosts make right."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import mmcv
import numpy as np
import pytest
import torch
from torch import nn

from mmir import compat
from mmir.compat import after_import, hue, moving_average


@pytest.fixture
def toy_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose `__init__` uses what its module `parts` gives."""
    (tmp_path / 'toyhost').mkdir()
    (tmp_path / 'toyhost/__init__.py').write_text('from .parts import VALUE\n')
    (tmp_path / 'toyhost/parts.py').write_text('VALUE = 1\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(after_import, 'PATCHES', dict(after_import.PATCHES))
    yield
    for name in ('toyhost', 'toyhost.parts'):
        sys.modules.pop(name, None)


def double(module) -> None:
    module.VALUE *= 2


def test_the_package_sees_the_patched_module(toy_host: None) -> None:
    after_import.patch_after_import('toyhost.parts', double)
    after_import.patch_after_import('toyhost.parts', double)
    assert importlib.import_module('toyhost').VALUE == 2
    assert sys.meta_path.count(after_import.PatchingFinder) == 1
    assert after_import.PatchingFinder.find_spec('toyhost.other') is None


def test_a_module_that_is_there_is_patched_now(toy_host: None) -> None:
    module = importlib.import_module('toyhost.parts')
    after_import.patch_after_import('toyhost.parts', double)
    after_import.patch_after_import('toyhost.parts', double)
    assert module.VALUE == 2


def test_activating_again_patches_nothing_twice() -> None:
    before, function = dict(after_import.PATCHES), mmcv.adjust_hue
    compat.activate()
    assert before == after_import.PATCHES
    assert mmcv.adjust_hue is mmcv.image.adjust_hue is function


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('factor', [-0.5, -0.2, -1 / 255, 0.0, 0.3])
def test_hues_turn_both_ways(backend: str, factor: float) -> None:
    rng = np.random.default_rng(0)
    img = rng.integers(0, 256, (12, 10, 3), np.uint8)
    there = mmcv.adjust_hue(img, factor, backend)
    assert there.dtype == np.uint8
    if backend == 'cv2':
        hsv = cv2.cvtColor(img, cv2.COLOR_BGR2HSV_FULL)
        hsv[..., 0] = (hsv[..., 0].astype(int) + int(factor * 255)) % 256
        expected = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR_FULL)
        assert np.array_equal(there, expected)
    else:
        pure = np.zeros((1, 1, 3), np.uint8)
        pure[..., 2] = 200  # red becomes blue or magenta one way, green the other
        blue, green = (mmcv.adjust_hue(pure, sign / 3, backend) for sign in (-1, 1))
        assert blue[0, 0].argmax() == 0
        assert green[0, 0].argmax() == 1


def test_other_hues_are_refused_as_before() -> None:
    with pytest.raises(ValueError, match='not in'):
        mmcv.adjust_hue(np.zeros((1, 1, 3), np.uint8), -0.6)


def test_products_of_a_hue_wrap_like_numpy_1() -> None:
    products = [hue.WrappedHue(f) * 255 for f in (-0.5, -20 / 255, 0, 0.5)]
    assert products == [129, 236, 0, 127]


class Rounding:
    """The average of mmdet 3.3, with its formula."""

    momentum = 0.0123

    def avg_func(self, averaged, source, steps) -> None:
        averaged.mul_(1 - self.momentum).add_(source, alpha=self.momentum)


def test_the_average_of_a_frozen_weight_is_that_weight() -> None:
    torch.manual_seed(0)
    frozen, one, other = torch.randn(3, 500)
    plain, patched = frozen.clone(), frozen.clone()
    for _ in range(20):
        Rounding().avg_func(plain, frozen, 0)
    assert not plain.equal(frozen)  # this is what the shim is for

    class Host(Rounding):
        avg_func = Rounding.avg_func

    moving_average.patch(SimpleNamespace(ExpMomentumEMA=Host))
    Host().avg_func(patched, frozen, 0)
    assert patched.equal(frozen)
    averaged, expected = one.clone(), one.clone()
    Host().avg_func(averaged, other, 0)
    Rounding().avg_func(expected, other, 0)
    assert averaged.equal(expected)
    assert not averaged.equal(one)


def test_averages_of_the_host_keep_frozen_weights() -> None:
    layers = pytest.importorskip('mmdet.models').layers
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
    average = layers.ExpMomentumEMA(model, momentum=0.01, gamma=10)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(5):
        with torch.no_grad():
            model[1].weight += 0.1
        average.update_parameters(model)
    found = average.module.state_dict()
    moved = {name for name, value in start.items() if not found[name].equal(value)}
    assert moved == {'1.weight'}
