"""Each operator against the compiled one, where mmcv has it."""

import importlib

import pytest
import torch
from torch import Tensor

from mmir import compat
from mmir.compat.ops import boxes, deform_conv, focal_loss, ms_deform_attn, nms
from mmir.compat.ops import roi_align as regions

pytestmark = pytest.mark.slow


@pytest.fixture(params=['cpu', 'cuda'])
def device(request):
    if compat.ops_kind() != 'compiled':
        pytest.skip('mmcv has no compiled operators here')
    if request.param == 'cuda' and not torch.cuda.is_available():
        pytest.skip('no GPU')
    return torch.device(request.param)


def draw(*shape, seed=0, device='cpu'):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(device)


def random_boxes(count, device, seed=0):
    corner, size = draw(2, count, 2, seed=seed).abs() * 10 + 1
    return torch.cat([corner, corner + size], 1).to(device)


def compare(module, name, tensors, private=(), **options):
    """Run both on copies; returned values and every tensor must agree.

    `private` are the positions of buffers whose content is not compared.
    """
    compiled = importlib.import_module('mmcv._ext')
    results, copies = [], []
    for source in (module, compiled):
        own = [each.clone() for each in tensors]
        results.append(getattr(source, name)(*own, **options))
        copies.append([each for i, each in enumerate(own) if i not in private])
    if isinstance(results[0], Tensor):
        torch.testing.assert_close(*results)
    else:
        assert results[0] == results[1]
    for ours, theirs in zip(*copies, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    return copies[1]


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.1, 0.5, 0.8])
def test_nms(device, offset, threshold):
    tensors = [random_boxes(200, device), draw(200, seed=1, device=device)]
    kept = compare(nms, 'nms', tensors, iou_threshold=threshold, offset=offset)
    assert len(kept) == 2


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('method', [0, 1, 2])
def test_softnms(device, offset, method):
    if device.type != 'cpu':
        pytest.skip('compiled softnms exists on the CPU only')
    tensors = [random_boxes(80, device), draw(80, seed=1).sigmoid()]
    tensors.append(torch.zeros(80, 5))
    options = {'iou_threshold': 0.3, 'sigma': 0.5, 'min_score': 0.05}
    dets = compare(nms, 'softnms', tensors, method=method, offset=offset, **options)[2]
    assert (dets[:, 4] > 0).sum() > 1


def test_nms_match(device):
    if device.type != 'cpu':
        pytest.skip('compiled nms_match exists on the CPU only')
    dets = torch.cat([random_boxes(80, device), draw(80, 1, seed=1).sigmoid()], 1)
    assert compare(nms, 'nms_match', [dets], iou_threshold=0.4)


@pytest.mark.parametrize('mode', [0, 1])
@pytest.mark.parametrize('aligned', [False, True])
@pytest.mark.parametrize('offset', [0, 1])
def test_bbox_overlaps(device, mode, aligned, offset):
    ious = torch.zeros((9,) if aligned else (9, 9), device=device)
    tensors = [random_boxes(9, device), random_boxes(9, device, seed=1), ious]
    options = {'mode': mode, 'aligned': aligned, 'offset': offset}
    assert compare(boxes, 'bbox_overlaps', tensors, **options)[2].any()


@pytest.mark.parametrize('pool_mode', [0, 1])
@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('aligned', [False, True])
def test_roi_align(device, pool_mode, ratio, aligned):
    corners = random_boxes(12, device) * 2 - 8
    image = (torch.arange(12, device=device) % 2)[:, None]
    rois = torch.cat([image, corners], 1)
    options = {'aligned_height': 4, 'aligned_width': 3, 'spatial_scale': 0.5}
    options |= {'sampling_ratio': ratio, 'pool_mode': pool_mode, 'aligned': aligned}
    x = draw(2, 5, 14, 17, device=device)
    outputs = [torch.zeros(12, 5, 4, 3, device=device) for _ in range(3)]
    compare(regions, 'roi_align_forward', [x, rois, *outputs], (3, 4), **options)
    gradient = draw(12, 5, 4, 3, seed=2, device=device)
    results = []
    for source in (regions, importlib.import_module('mmcv._ext')):
        # Each stores the position of a maximum in its own way.
        own = [each.clone() for each in outputs]
        source.roi_align_forward(x, rois, *own, **options)
        result = torch.zeros_like(x)
        source.roi_align_backward(gradient, rois, *own[1:], result, **options)
        results.append(result)
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)
    assert results[0].any()


GEOMETRIES = pytest.mark.parametrize(
    ('stride', 'padding', 'dilation', 'groups', 'parts'),
    [((1, 1), (1, 1), (1, 1), 1, 1), ((2, 1), (2, 0), (1, 2), 2, 2)],
)


def deformable(stride, padding, dilation, groups, parts, device):
    x, weight = draw(2, 8, 11, 12), draw(6, 8 // groups, 3, 3, seed=1)
    size = [
        (n + 2 * p - 2 * d - 1) // s + 1
        for n, p, d, s in zip(x.shape[2:], padding, dilation, stride, strict=True)
    ]
    offset = 2 * draw(2, 18 * parts, *size, seed=2)
    mask = draw(2, 9 * parts, *size, seed=3).sigmoid()
    output = draw(2, 6, *size, seed=4)
    return [each.to(device) for each in (x, weight, offset, mask, output)]


@GEOMETRIES
def test_deform_conv(device, stride, padding, dilation, groups, parts):
    geometry = (stride, padding, dilation, groups, parts)
    x, weight, offset, _, gradient = deformable(*geometry, device)
    buffers = [x.new_empty(0), x.new_empty(0)]
    names = ('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW')
    options = dict(zip(names, (*stride, *padding, *dilation), strict=True))
    options |= {'kH': 3, 'kW': 3, 'group': groups, 'deformable_group': parts}
    options |= {'im2col_step': 2}
    tensors = [x, weight, offset, torch.zeros_like(gradient), *buffers]
    output = compare(deform_conv, 'deform_conv_forward', tensors, (4, 5), **options)[3]
    assert output.any()
    tensors = [x, offset, gradient, torch.zeros_like(x), torch.zeros_like(offset)]
    tensors += [weight, buffers[0]]
    compare(deform_conv, 'deform_conv_backward_input', tensors, (6,), **options)
    tensors = [x, offset, gradient, torch.zeros_like(weight), *buffers]
    name = 'deform_conv_backward_parameters'
    compare(deform_conv, name, tensors, (4, 5), scale=0.5, **options)


@GEOMETRIES
@pytest.mark.parametrize('with_bias', [False, True])
def test_modulated(device, stride, padding, dilation, groups, parts, with_bias):
    geometry = (stride, padding, dilation, groups, parts)
    x, weight, offset, mask, gradient = deformable(*geometry, device)
    bias = draw(6, seed=5, device=device) if with_bias else x.new_empty(0)
    empty = x.new_empty(0)
    names = ('stride', 'pad', 'dilation')
    pairs = zip(names, (stride, padding, dilation), strict=True)
    options = {f'{k}_{a}': n for k, v in pairs for a, n in zip('hw', v, strict=True)}
    options |= {'kernel_h': 3, 'kernel_w': 3, 'group': groups}
    options |= {'deformable_group': parts, 'with_bias': with_bias}
    tensors = [x, weight, bias, empty, offset, mask, torch.zeros_like(gradient), empty]
    name = 'modulated_deform_conv_forward'
    assert compare(deform_conv, name, tensors, (3, 7), **options)[5].any()
    sources = (x, weight, bias, offset, mask)
    tensors = [x, weight, bias, empty, offset, mask, empty]
    tensors += [*(torch.zeros_like(each) for each in sources), gradient]
    name = 'modulated_deform_conv_backward'
    compare(deform_conv, name, tensors, (3, 6), **options)


def test_sigmoid_focal_loss(device):
    if device.type != 'cuda':
        pytest.skip('the compiled operator exists on the GPU only')
    logits, weight = 3 * draw(20, 5, device=device), draw(5, device=device).abs()
    target = torch.arange(20, device=device) % 5
    for factor in (weight, weight[:0]):
        for name in ('sigmoid_focal_loss_forward', 'sigmoid_focal_loss_backward'):
            tensors = [logits, target, factor, torch.zeros_like(logits)]
            assert compare(focal_loss, name, tensors, gamma=2.0, alpha=0.25)[3].any()


def test_ms_deform_attn(device):
    if device.type != 'cuda':
        pytest.skip('the compiled operator exists on the GPU only')
    shapes = torch.tensor([[6, 7], [3, 4]], device=device)
    starts = torch.tensor([0, 42], device=device)
    value = draw(2, 54, 3, 8, device=device)
    places = draw(2, 9, 3, 2, 4, 2, seed=1, device=device).sigmoid() * 1.2 - 0.1
    weights = draw(2, 9, 3, 2, 4, seed=2, device=device).sigmoid()
    tensors = [value, shapes, starts, places, weights]
    compare(ms_deform_attn, 'ms_deform_attn_forward', tensors, im2col_step=2)
    gradient = draw(2, 9, 24, seed=3, device=device)
    outputs = [torch.zeros_like(each) for each in (value, places, weights)]
    tensors += [gradient, *outputs]
    name = 'ms_deform_attn_backward'
    assert compare(ms_deform_attn, name, tensors, im2col_step=2)[6].any()
