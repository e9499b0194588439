"""Tracing and compilation include the whole layer and never use a stale kernel."""

import copy

import pytest
import torch
from mmengine.analysis import get_model_complexity_info
from torch import nn

from mmir.tensorfact import SPLITS, TensorFactConv

ALL = sorted(SPLITS)
MODES = ('reconstruct', 'two_conv')
X = torch.randn(2, 3, 8, 7, generator=torch.Generator().manual_seed(1))


def net(mode='reconstruct', split='ts_dd', **options):
    """A model whose middle layer has a delta that acts."""
    torch.manual_seed(0)
    layer = TensorFactConv(
        4, 6, 3, padding=1, rank=2, mode=mode, split=split, **options
    )
    layer.augment('ir', 1)
    nn.init.normal_(layer.deltas['ir'].A)
    return nn.Sequential(nn.Conv2d(3, 4, 1), layer, nn.ReLU())


def gradients(model, forward):
    model.zero_grad()
    forward(X).square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('split', ALL)
def test_compiled_forward_and_backward(mode, split):
    model = net(mode, split)
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(X), model(X), rtol=1e-5, atol=1e-5)
    own, theirs = gradients(model, model), gradients(model, compiled)
    torch.testing.assert_close(theirs, own, rtol=1e-5, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('mode', MODES)
def test_inductor(mode):
    model = net(mode)
    compiled = torch.compile(model, fullgraph=True)
    torch.testing.assert_close(compiled(X), model(X), rtol=1e-5, atol=1e-5)
    own, theirs = gradients(model, model), gradients(model, compiled)
    torch.testing.assert_close(theirs, own, rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_kept_kernel_breaks_no_graph_and_is_not_compiled_in():
    model = net().eval()
    compiled = torch.compile(model, fullgraph=True, backend='eager')
    kept = model(X)
    assert torch.equal(compiled(X), kept)
    for change in (
        lambda: model[1].A.mul_(2),
        lambda: model[1].deltas['ir'].B.zero_(),
        lambda: model[1].enable_adapter('ir', False),
        lambda: model.load_state_dict(net().state_dict()),
    ):
        change()
        assert torch.equal(compiled(X), model(X))
    assert not torch.equal(model(X), kept)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('strict', [False, True])
def test_torch_export(mode, training, strict):
    model = net(mode).train(training)
    with torch.no_grad():
        model(X)
    exported = torch.export.export(model, (X,), strict=strict)
    torch.testing.assert_close(exported.module()(X), model(X), rtol=1e-5, atol=1e-5)
    names = {spec.target for spec in exported.graph_signature.input_specs}
    assert {'1.A', '1.B', '1.deltas.ir.A', '1.deltas.ir.B', '1.bias'} <= names


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('training', [False, True])
def test_symbolic_tracing_takes_the_layer_for_a_leaf(mode, training):
    model = net(mode).train(training)
    traced = torch.fx.symbolic_trace(model)
    assert [node.target for node in traced.graph.nodes][1:-1] == ['0', '1', '2']
    assert traced.get_submodule('1') is model[1]
    assert torch.equal(traced(X), model(X))
    copied = copy.deepcopy(traced)
    assert torch.equal(copied(X), model(X))
    with pytest.raises(TypeError, match='not one alone'):
        torch.fx.symbolic_trace(model[1])


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('frozen', [False, True])
def test_torch_jit_trace(mode, frozen, tmp_path):
    model = net(mode).eval().requires_grad_(not frozen)
    model(X)  # keeps a kernel if frozen
    traced = torch.jit.trace(model, (X,))
    traced.save(tmp_path / 'model.pt')
    loaded, x = torch.jit.load(tmp_path / 'model.pt'), X.flip(-1)
    torch.testing.assert_close(loaded(x), model(x), rtol=1e-5, atol=1e-6)
    with torch.no_grad():  # the trace computes the kernel from the factors
        dict(loaded.named_parameters())['1.A'].mul_(3)
        model[1].A.mul_(3)
    torch.testing.assert_close(loaded(x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('split', ALL)
@pytest.mark.parametrize('groups', [1, 2])
def test_operations_are_counted(split, groups):
    positions, rank = 8 * 7, 2 + 1
    rows, cols = SPLITS[split].matrix_shape((6, 4 // groups, 3, 3))
    first = {'ts_dd': 4 * cols}.get(split, groups * cols)

    def count(mode):
        model = net(mode, split, groups=groups)[1].eval()
        x = torch.zeros(1, 4, 8, 7)
        return get_model_complexity_info(
            model, inputs=(x,), show_table=False, show_arch=False
        )

    info = count('two_conv')
    assert info['flops'] == rank * positions * (rows + first)
    assert info['params'] == rank * (rows + cols) + 6
    info = count('reconstruct')
    assert info['flops'] == positions * rows * cols + rank * rows * cols
