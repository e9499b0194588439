"""Complementarity loss in different training setups."""

import pytest
import torch
import torch.distributed as dist
from complementarity_toy import (
    NEW,
    SumToy,
    delta_grads,
    leftovers,
    loss_of,
    toy,
    toy_with_loss,
)
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from mmir.tensorfact.complementarity_hook import (
    attach_complementarity_,
    detach_complementarity_,
)


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(4, 3, 7, 6)


@pytest.mark.parametrize('reentrant', [True, False])
def test_activation_checkpointing(x, reentrant):
    model, plain = toy(reentrant=reentrant), toy()
    for one in (model, plain):
        attach_complementarity_(one, type='weight')
        sum(one(x, mode='loss').values()).backward()
    for name, grad in delta_grads(plain).items():
        torch.testing.assert_close(delta_grads(model)[name], grad)
    detach_complementarity_(model)
    attach_complementarity_(model, layers=['first'])
    sum(model(x, mode='loss').values()).backward()
    detach_complementarity_(model)
    attach_complementarity_(model)
    if reentrant:
        with pytest.raises(RuntimeError, match=r"checkpointing.*type='weight'"):
            model(x, mode='loss')
    else:
        losses = model(x, mode='loss')
        with pytest.raises(CheckpointError):
            sum(losses.values()).backward()
    assert not leftovers(model)


def test_train_step_in_mixed_precision(x):
    model = toy()
    attach_complementarity_(model)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 0.1))
    with torch.autocast('cpu', torch.bfloat16):
        loss = loss_of(model, x)
        found = model.train_step(dict(inputs=list(x)), wrapper)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(found[NEW].item())
    assert list(found) == ['loss', 'loss_task', NEW]
    total = found['loss_task'] + found[NEW]
    assert found['loss'].item() == pytest.approx(total.item())
    exact = loss_of(toy_with_loss(), x)
    assert loss.item() == pytest.approx(exact.item(), rel=0.05)
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    'target', ['forward', pytest.param('train_step', marks=pytest.mark.slow), 'whole']
)
@pytest.mark.parametrize('form', ['cos2', 'weight'])
def test_compiled(x, target, form):
    """As the host's runner does it: the function of the model is replaced."""
    torch._dynamo.reset()
    model, plain = toy(), toy()
    attach_complementarity_(plain, type=form)
    attach_complementarity_(model, type=form)
    compiled = torch.compile(model, backend='eager') if target == 'whole' else model
    if target != 'whole':
        function = torch.compile(
            getattr(model, target), backend='eager', fullgraph=target == 'forward'
        )
        setattr(model, target, function)
    wrappers = [
        OptimWrapper(torch.optim.SGD(m.parameters(), 0.1)) for m in (model, plain)
    ]
    for _ in range(4):
        if target == 'whole':
            found = compiled(x, mode='loss')
            wrappers[0].update_params(sum(found.values()))
        else:
            found = model.train_step(dict(inputs=x), wrappers[0])
        expected = plain.train_step(dict(inputs=x), wrappers[1])
        torch.testing.assert_close(found[NEW], expected[NEW], rtol=1e-4, atol=1e-6)
        assert not leftovers(model)
    for name, value in plain.named_parameters():
        found = model.get_parameter(name)
        torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-5)


def _rank(rank: int, folder: str) -> None:
    """One process of a data parallel training."""
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2
    )
    torch.set_num_threads(1)
    model = MMDistributedDataParallel(toy(SumToy))
    attach_complementarity_(model)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 0.01))
    torch.manual_seed(rank)
    for _ in range(4):
        found = model.train_step(dict(inputs=torch.randn(4, 3, 7, 6)), wrapper)
        assert NEW in found
        assert all(v.isfinite() for v in found.values())
    detach_complementarity_(model)
    attach_complementarity_(model)
    losses = model(torch.randn(4, 3, 7, 6), mode='loss')
    sum(losses.values()).backward()
    assert not leftovers(model.module)
    grads = delta_grads(model.module)
    values = {n: p.detach() for n, p in model.module.named_parameters()}
    one = loss_of(model.module, ramp()).detach()
    torch.save((grads, values, one), f'{folder}/{rank}.pth')
    dist.destroy_process_group()


def ramp() -> Tensor:
    return torch.ones(4, 3, 7, 6) * torch.arange(6.0)


@pytest.mark.slow
def test_two_ranks(tmp_path):
    torch.multiprocessing.spawn(_rank, (str(tmp_path),), nprocs=2)
    (grads, values, loss), (others, same, again) = (
        torch.load(tmp_path / f'{rank}.pth') for rank in range(2)
    )
    start = dict(toy(SumToy).named_parameters())
    for name, grad in grads.items():
        assert grad.isfinite().all()
        assert torch.equal(grad, others[name])
        assert not torch.equal(values[name], start[name])
    for name, value in values.items():
        assert torch.equal(value, same[name])
    assert torch.equal(loss, again)
    model = toy(SumToy)
    model.load_state_dict(values, strict=False)
    attach_complementarity_(model)
    alone = loss_of(model, ramp())
    assert loss.item() == pytest.approx(2 * alone.item(), rel=1e-5)
