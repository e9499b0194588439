"""One training step per method and precision."""

from typing import Any

import pytest
import torch
from _detectors import METHODS, PRECISIONS, adapted, batch, detector, optim_wrapper
from any_host import HOSTS
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmir.adapters import adapter_layers, stage_of

pytestmark = pytest.mark.gpu

STEPS = 20
"""Steps at most; with loss scaling the first ones may only lower the scale."""


@pytest.fixture(scope='module', params=['yolov7-tiny', 'rtmdet', 'faster_rcnn'])
def plain(request: pytest.FixtureRequest) -> tuple[nn.Module, dict[str, Any]]:
    """A model with random weights, and two images with boxes."""
    torch.manual_seed(0)
    if request.param == 'yolov7-tiny':
        yield detector('tiny'), batch(2, 64, 'cpu')
        return
    host = HOSTS[request.param]
    with DefaultScope.overwrite_default_scope(host.scope):
        yield MODELS.build(host.model_config()), host.batch()


@pytest.mark.parametrize('precision', PRECISIONS)
@pytest.mark.parametrize('method', METHODS)
def test_a_step_changes_what_is_declared(device, plain, method, precision):
    if precision == 'fp16' and device == 'cpu':
        pytest.skip('AmpOptimWrapper of the host refuses a CPU')
    model = adapted(plain[0], method).to(device).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = optim_wrapper(model, precision)
    trained = {k for k, p in model.named_parameters() if p.requires_grad}
    for _ in range(STEPS):
        losses = model.train_step(plain[1], optimizer)
        assert losses['loss'].isfinite()
        after = model.state_dict()
        changed = {k for k in before if not torch.equal(before[k], after[k])}
        if changed & trained:
            break
    assert all(v.isfinite().all() for v in after.values())
    assert all(v.device.type == device for v in after.values())
    assert changed <= set(stage_of(model).changed)
    # an update that starts at zero lets nothing through to its other factor yet
    learning = {k for k in trained if not k.endswith('.B')}
    assert len(changed & learning) >= len(learning) / 2
    first = {k for k in learning if '.ir.' in k}
    assert len(first) == len(adapter_layers(model))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
def test_adapters_learn_in_full_precision_under_autocast(device, dtype):
    """Kernels are summed in float32: in half precision, updates round to zero."""
    for method in ('TensorFact', 'ConvLoRA'):
        model = adapted(detector('tiny'), method).to(device).train()
        data = model.data_preprocessor(batch(2, 64, device), True)
        with torch.autocast(device, dtype):
            features = model.extract_feat(data['inputs'])
            layers = list(adapter_layers(model).values())
            kernels = [layer.kernel() for layer in layers]
        assert {f.dtype for f in features} == {dtype}
        assert {k.dtype for k in kernels} == {torch.float32}
