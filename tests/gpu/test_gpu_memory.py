"""Peak memory of a training step."""

import pytest
import torch
from _detectors import adapted, batch, detector, optim_wrapper, resident_bytes
from _timing import peak_memory

pytestmark = pytest.mark.gpu


def needed(method: str, device: str) -> int:
    """Bytes of model, optimizer and a training step together at their peak."""
    model = adapted(detector('tiny'), method).to(device).train()
    optimizer = optim_wrapper(model, 'fp32')
    data = batch(*((8, 320) if device == 'cuda' else (2, 256)), device)
    for _ in range(2):  # creates the optimizer state
        model.train_step(data, optimizer)
    peak = peak_memory(lambda: model.train_step(data, optimizer), device)
    return resident_bytes(model, optimizer) + peak


def test_adapters_need_no_more_than_full_fine_tuning(device):
    """With AdamW: the summed kernels weigh less than its two moments of the weights."""
    peak = {name: needed(name, device) for name in ('Full', 'ConvLoRA', 'TensorFact')}
    assert peak['ConvLoRA'] <= peak['Full']
    assert peak['TensorFact'] <= peak['Full']


def test_a_frozen_body_keeps_no_activations(device):
    assert needed('Frozen', device) < needed('Full', device) / 2


def test_nothing_is_left_after_a_step(cuda):
    model = adapted(detector('tiny'), 'ConvLoRA').to(cuda).train()
    optimizer, data = optim_wrapper(model, 'fp32'), batch(2, 128, cuda)
    held = []
    for _ in range(6):
        model.train_step(data, optimizer)
        torch.cuda.synchronize()
        held.append(torch.cuda.memory_allocated())
    assert held[-1] <= held[2]
