"""Adapted transformers compile as a whole, for training and for inference."""

import copy

import pytest
import torch
from transformer_rows import METHODS, NETWORKS, case, images

from mmir.adapters.block import BlockLayer


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()


@pytest.mark.parametrize(
    ('network', 'method'),
    [
        pytest.param(
            *(network, method),
            marks=() if (network, method) == ('vit', 'IVTuning') else pytest.mark.slow,
        )
        for network in NETWORKS
        for method in METHODS
        if network == 'vit' or not method.startswith('VPT')  # refused, see test_vpt.py
        if method != 'LoRA'  # no layer on a block: graphs break where the host's do
    ],
)
def test_compiled_training_and_inference(network, method):
    model = adapted(method, network)
    assert_compiled_is_equal(
        model.backbone, images(model), fullgraph=True, backend='aot_eager'
    )


@pytest.mark.slow
def test_inductor():
    model = adapted('IVTuning', 'vit')
    assert_compiled_is_equal(model.backbone, images(model), fullgraph=True)


@pytest.mark.parametrize('method', ['IVTuning', 'AdaptFormer'])
def test_gradient_checkpointing_breaks_the_graph_and_nothing_else(method):
    model = adapted(method, 'vit')
    for module in model.modules():
        if isinstance(module, BlockLayer):
            module.with_cp = True
    assert_compiled_is_equal(model.backbone, images(model), backend='aot_eager')


def adapted(method, network):
    """A trained model without dropout, which draws other numbers once compiled."""
    pytest.importorskip('mmpretrain')
    model = case(method, network).trained()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if getattr(module, 'drop_prob', 0) > 0:
            module.drop_prob = 0.0
    return model


def assert_compiled_is_equal(first, x, **options):
    """Compare a compiled backbone with a copy that is not compiled."""
    second = copy.deepcopy(first)
    compiled = torch.compile(first, **options)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x)[-1], second(x)[-1])
    outs = []
    for backbone, call in ((first, compiled), (second, second)):
        backbone.train()
        outs.append(call(x)[-1])
        # not their squares: after the last layer norm the mean of those is a constant
        weights = torch.linspace(-1, 1, outs[-1].numel()).view_as(outs[-1])
        (outs[-1] * weights).sum().backward()
    torch.testing.assert_close(*outs)
    expected = dict(second.named_parameters())
    largest = max(p.grad.norm() for p in second.parameters() if p.grad is not None)
    for name, parameter in first.named_parameters():
        gradient = expected[name].grad
        assert (parameter.grad is None) == (gradient is None), name
        if gradient is not None:
            difference = (parameter.grad - gradient).norm()
            assert difference <= 1e-4 * gradient.norm() + 1e-7 * largest, name
    # running statistics are updated once, although training computes adapters twice
    torch.testing.assert_close(
        dict(first.named_buffers()), dict(second.named_buffers())
    )
