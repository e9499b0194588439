"""The substitute module: found last, complete, with errors for missing operators."""

import importlib
import sys
from importlib.util import find_spec

import mmcv
import mmcv.ops
import pytest
import torch
from mmcv.utils.env import collect_env
from mmcv.utils.ext_loader import check_ops_exist

from mmir import compat
from mmir.compat.ops_finder import MODULE, OpsFinder


@pytest.fixture(autouse=True)
def substitute():
    if compat.ops_kind() == 'compiled':
        pytest.skip('mmcv has compiled operators here')


def test_it_is_an_ordinary_module():
    module = importlib.import_module(MODULE)
    assert module is mmcv._ext
    assert module.__spec__ == find_spec(MODULE)
    assert module.__spec__.origin.endswith('mmcv_ext.py')
    assert check_ops_exist()


def test_activation_happens_once():
    compat.activate()
    compat.activate()
    assert sys.meta_path.count(OpsFinder) == 1
    assert OpsFinder.find_spec('mmcv.ops') is None


def test_the_compiled_module_wins(tmp_path, monkeypatch):
    (tmp_path / '_ext.py').write_text('compiled = True\n')
    monkeypatch.setattr(mmcv, '__path__', [str(tmp_path), *mmcv.__path__])
    monkeypatch.setattr(mmcv, '_ext', mmcv._ext)  # restored afterwards
    monkeypatch.delitem(sys.modules, MODULE)
    assert compat.ops_kind() == 'compiled'
    assert importlib.import_module(MODULE).compiled
    assert compat.ops_kind() == 'compiled'


def test_hosts_import():
    for host in ('mmdet', 'mmseg', 'mmpretrain'):
        if find_spec(host):
            assert importlib.import_module(f'{host}.models')


def test_a_missing_operator_says_what_to_do():
    boxes, scores = torch.rand(3, 5), torch.rand(3)
    with pytest.raises(NotImplementedError, match=r"'nms_rotated'.*compiled"):
        mmcv.ops.nms_rotated(boxes, scores, 0.5)
    assert mmcv._ext.nms_rotated.__name__ == 'nms_rotated'


def test_private_names_are_no_operators():
    assert not hasattr(mmcv._ext, '__wrapped__')
    with pytest.raises(AttributeError, match=r"'mmcv._ext' has no attribute '_gone'"):
        mmcv._ext._gone  # noqa: B018


def test_environment_report():
    report = collect_env()
    assert report['MMCV Compiler'] == 'none (operators of mmir.compat)'
    assert report['MMCV CUDA Compiler'] == mmcv.ops.get_compiling_cuda_version()


def test_a_detector_trains_and_predicts_through_the_operators():
    pytest.importorskip('mmdet')
    from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

    extractor = SingleRoIExtractor(
        roi_layer={'type': 'RoIAlign', 'output_size': 4, 'sampling_ratio': 0},
        out_channels=2,
        featmap_strides=[4, 8],
    )
    ramp = torch.arange(32.0).expand(1, 2, 32, 32).clone().requires_grad_()
    pooled = extractor((ramp, ramp[..., ::2, ::2]), torch.tensor([[0, 8.0, 8, 72, 72]]))
    # x = 8 is pixel 2 of stride 4, so center 1.5; bins are 4 pixels wide.
    expected = 1.5 + 4 * (torch.arange(4) + 0.5)
    assert torch.allclose(pooled, expected.expand(1, 2, 4, 4))
    pooled.sum().backward()
    assert ramp.grad.sum() == pytest.approx(2 * 16)
