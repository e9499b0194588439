"""Adapted transformers compile as a whole, for training and for inference."""

import copy

import pytest
import torch
from transformer_rows import METHODS, NETWORKS, case, images

EAGER = dict(fullgraph=True, backend='aot_eager')


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()


def without_dropout(backbone):
    """Dropout draws other numbers once compiled."""
    for module in backbone.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if getattr(module, 'drop_prob', 0) > 0:
            module.drop_prob = 0.0
    return backbone


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
    pytest.importorskip('mmpretrain')
    model = case(method, network).trained()
    first, x = without_dropout(model.backbone), images(model)
    second = copy.deepcopy(first)
    compiled = torch.compile(first, **EAGER)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x)[-1], second(x)[-1])
    outs = []
    for backbone, call in ((first, compiled), (second, second)):
        backbone.train()
        outs.append(call(x)[-1])
        outs[-1].square().mean().backward()
    torch.testing.assert_close(*outs)
    expected = dict(second.named_parameters())
    for name, parameter in first.named_parameters():
        gradient = expected[name].grad
        assert (parameter.grad is None) == (gradient is None), name
        if gradient is not None:
            difference = (parameter.grad - gradient).norm()
            assert difference <= 1e-4 * gradient.norm() + 1e-7, name
    # running statistics are updated once, although training computes adapters twice
    torch.testing.assert_close(
        dict(first.named_buffers()), dict(second.named_buffers())
    )
