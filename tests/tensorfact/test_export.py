"""Exported models: plain convolutions only, and the output of the factors."""

import copy
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.cnn import ConvModule
from torch import nn

from mmir.adapters import merge_
from mmir.tensorfact import SPLITS, TensorFactConv, augment_, factorize_
from mmir.tensorfact.export import factored_module, to_factored_modules_

ALL = sorted(SPLITS)


def relative(value, reference):
    return ((value - reference).abs().max() / reference.abs().max()).item()


def layer_with_deltas(*args, split='ts_dd', rank=2, **geometry):
    """A layer with a delta that acts and one that is switched off."""
    layer = TensorFactConv(*args, **geometry, rank=rank, split=split)
    for name in ('ir', 'off'):
        layer.augment(name, 1)
        nn.init.normal_(layer.deltas[name].A, std=0.5)
    layer.enable_adapter('off', False)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer


geometries = st.fixed_dictionaries(
    {
        'kernel_size': st.sampled_from([3, (3, 5), (1, 3), 2]),
        'stride': st.sampled_from([1, 2, (2, 1)]),
        'padding': st.sampled_from([0, 1, (2, 1), 'valid', 'same']),
        'dilation': st.sampled_from([1, (1, 2)]),
        'groups': st.sampled_from([1, 2, 4]),
        'bias': st.booleans(),
        'padding_mode': st.sampled_from(['zeros', 'reflect', 'circular', 'replicate']),
    }
).filter(lambda g: g['padding'] != 'same' or g['stride'] == 1)


@settings(max_examples=80, deadline=None)
@given(geometry=geometries, split=st.sampled_from(ALL), seed=st.integers(0, 99))
@torch.no_grad()
def test_two_plain_convolutions_are_what_two_conv_computes(geometry, split, seed):
    torch.manual_seed(seed)
    layer = layer_with_deltas(4, 8, **geometry, split=split, rank=1).double()
    x = torch.randn(2, 4, 9, 11).double()
    pair = factored_module(layer)
    layer.mode = 'two_conv'
    assert relative(pair(x), layer(x)) < 1e-14
    layer.mode = 'reconstruct'
    assert relative(pair(x), layer(x)) < 1e-12
    assert [type(conv) for conv in pair] == [nn.Conv2d, nn.Conv2d]
    assert pair[0].bias is None
    assert (pair[1].bias is not None) == geometry['bias']


@pytest.mark.parametrize(
    ('split', 'first', 'second'),
    [
        ('ts_dd', (12, 1, 3, 5), (8, 6, 1, 1)),
        ('td_sd', (6, 2, 1, 5), (8, 3, 3, 1)),
        ('t_sdd', (6, 2, 3, 5), (8, 3, 1, 1)),
        ('tdd_s', (6, 2, 1, 1), (8, 3, 3, 5)),
    ],
)
def test_shapes_of_the_pair(split, first, second):
    layer = layer_with_deltas(4, 8, (3, 5), stride=(2, 1), groups=2, split=split)
    pair = factored_module(layer)
    assert tuple(pair[0].weight.shape) == first
    assert tuple(pair[1].weight.shape) == second
    strides = pair[0].stride, pair[1].stride
    assert tuple(a * b for a, b in zip(*strides, strict=True)) == (2, 1)


def test_flags_and_dtype_are_taken_over():
    layer = layer_with_deltas(4, 8, 3).half().eval()
    assert all(p.requires_grad for p in factored_module(layer).parameters())
    layer.requires_grad_(False)
    layer.bias.requires_grad_(True)
    before = copy.deepcopy(layer.state_dict())
    pair = factored_module(layer)
    assert {n: p.requires_grad for n, p in pair.named_parameters()} == {
        '0.weight': False, '1.weight': False, '1.bias': True
    }  # fmt: skip
    assert {p.dtype for p in pair.parameters()} == {torch.float16}
    assert not pair[0].training
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)


class Net(nn.Module):
    """A block, a convolution that is used twice, and a head."""

    def __init__(self, split='ts_dd', padding_mode='zeros'):
        super().__init__()
        self.block = ConvModule(
            3, 8, 3, stride=2, padding=1, norm_cfg={'type': 'BN'},
            efficient_conv_bn_eval=True,
        )  # fmt: skip
        self.conv = nn.Conv2d(8, 8, 3, padding=1, padding_mode=padding_mode)
        self.again = self.conv
        self.head = nn.Conv2d(8, 4, 1)
        factorize_(self, 2, split, exclude=['head'])
        augment_(self, 'ir', 1)
        for module in self.modules():
            if isinstance(module, TensorFactConv):
                nn.init.normal_(module.deltas['ir'].A, std=0.3)

    def forward(self, x):
        return self.head(self.again(self.conv(self.block(x))))


@torch.no_grad()
def test_whole_models_keep_sharing_and_blocks_work():
    torch.manual_seed(0)
    model, x = Net().double().eval(), torch.randn(2, 3, 10, 8).double()
    expected = model(x)
    assert to_factored_modules_(model) is model
    assert relative(model(x), expected) < 1e-13
    assert model.conv is model.again
    assert isinstance(model.block.conv, nn.Sequential)
    assert not any(isinstance(m, TensorFactConv) for m in model.modules())
    assert set(dict(model.head.named_parameters())) == {'weight', 'bias'}


def test_a_layer_alone_and_damaged_weights():
    layer = layer_with_deltas(4, 8, 3)
    assert isinstance(to_factored_modules_(layer), nn.Sequential)
    model = Net()
    model.conv.deltas['ir'].B.data[0, 0, 0] = float('inf')
    with pytest.raises(ValueError, match='conv: NaN or infinite weights'):
        to_factored_modules_(model)
    assert isinstance(model.block.conv, TensorFactConv)


def run_onnx(model, x, dynamo):
    """Nodes of the exported graph, and what the runtime makes of them."""
    onnx = pytest.importorskip('onnx')
    runtime = pytest.importorskip('onnxruntime')
    if dynamo:
        pytest.importorskip('onnxscript')
    file = io.BytesIO()
    torch.onnx.export(
        model, (x,), file, dynamo=dynamo, verbose=False, input_names=['x']
    )
    graph = onnx.load_from_string(file.getvalue()).graph
    providers = ['CPUExecutionProvider']
    session = runtime.InferenceSession(file.getvalue(), providers=providers)
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return [node.op_type for node in graph.node], torch.from_numpy(y)


@pytest.mark.parametrize('dynamo', [False, True])
@pytest.mark.parametrize('mode', ['zeros', 'reflect'])
@torch.no_grad()
def test_onnx_of_merged_and_factored_models(dynamo, mode):
    torch.manual_seed(0)
    model, x = Net(padding_mode=mode).eval(), torch.randn(1, 3, 16, 12)
    expected, pads = model(x), 2 * (mode == 'reflect')
    nodes, y = run_onnx(merge_(copy.deepcopy(model)), x, dynamo)
    assert nodes.count('Conv') == 4
    assert nodes.count('Pad') == pads
    assert set(nodes) <= {'Conv', 'Pad', 'Relu'} or mode == 'reflect'
    assert relative(y, expected) < 2e-6
    nodes, y = run_onnx(to_factored_modules_(model), x, dynamo)
    assert nodes.count('Conv') == 7
    assert nodes.count('Pad') == pads
    assert set(nodes) <= {'Conv', 'Pad', 'Relu', 'BatchNormalization'} or pads
    assert relative(y, expected) < 2e-5


@pytest.mark.parametrize('split', ALL)
@torch.no_grad()
def test_onnx_of_one_layer_of_every_split(split):
    torch.manual_seed(0)
    layer = layer_with_deltas(64, 64, 3, padding=1, split=split, rank=4).eval()
    layer.mode, x = 'reconstruct', torch.randn(1, 64, 12, 10)
    expected = layer(x)
    nodes, y = run_onnx(layer.merge(), x, False)
    assert nodes == ['Conv']
    assert relative(y, expected) < 2e-6
    nodes, y = run_onnx(factored_module(layer), x, False)
    assert nodes == ['Conv', 'Conv']
    assert relative(y, expected) < 2e-5


@pytest.mark.parametrize('dynamo', [False, True])
@pytest.mark.parametrize('training', [False, True])
def test_onnx_of_factors_is_refused_with_a_hint(dynamo, training):
    model = nn.Sequential(layer_with_deltas(4, 4, 3)).train(training)
    if dynamo:
        pytest.importorskip('onnxscript')
    hint = r'merge_\(model\)(.|\n)*to_factored_modules_\(model\)'
    with pytest.raises(Exception, match=hint):
        torch.onnx.export(
            model, (torch.randn(1, 4, 6, 6),), io.BytesIO(), dynamo=dynamo,
            verbose=False,
        )  # fmt: skip
    assert model(torch.randn(1, 4, 6, 6)).shape == (1, 4, 4, 4)
