"""CSK-Net on a GPU: the results of the CPU, and a training step in each precision."""

import sys
from pathlib import Path

import pytest
import torch
from _detectors import PRECISIONS, optim_wrapper

pytest.importorskip('mmseg')
sys.path.insert(0, str(Path(__file__).parents[1] / 'seg/csknet'))

from small_csknet import CHANNELS, EXCHANGE, batch, csk_net, logits

pytestmark = pytest.mark.gpu
MIXED = ('rgb',), (), ('ir',), ()  # what each sample lacks


@pytest.mark.parametrize('split', [None, 'avgpool', 'fft'])
def test_a_mixed_batch_equals_the_cpu(device, split) -> None:
    fusion = dict(type='mmir.GatedSpectralUnit', split=split)
    net = csk_net(shared=EXCHANGE, head=dict(fusion=fusion))
    x, samples = batch(*MIXED)
    wanted = logits(net, x, samples)
    got = logits(net.to(device), x.to(device), samples).cpu()
    torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize('precision', PRECISIONS)
def test_a_step_in_each_precision(device, precision) -> None:
    """Contrast and the penalty of sparsity are on; the batch is mixed."""
    if precision == 'fp16' and device == 'cpu':
        pytest.skip('AmpOptimWrapper of the host refuses a CPU')
    exchange = dict(EXCHANGE['channel_exchange'], sparsity=1e-4)
    options = dict(channel_exchange=exchange, spatial_exchange={})
    contrast = dict(channels=CHANNELS, loss=dict(max_views=2))
    net = csk_net(shared=options, contrast=contrast).float().to(device).train()
    wrapper = optim_wrapper(net, precision)
    x, samples = batch(*MIXED)
    before = {k: v.clone() for k, v in net.named_parameters()}
    for _ in range(5):
        with wrapper.optim_context(net):
            losses = net.loss(x.float().to(device), [s.to(device) for s in samples])
        total, log = net.parse_losses(losses)
        assert total.isfinite(), log
        wrapper.update_params(total)
    changed = [k for k, v in net.named_parameters() if not torch.equal(v, before[k])]
    assert all(v.isfinite().all() for v in net.state_dict().values())
    for name in ('copies.rgb', 'copies.ir', 'decoders.rgb', 'decoders.ir', 'fusion'):
        assert any(name in key for key in changed)
