"""Complementarity loss next to the losses of an mmengine model."""

import copy
import pickle

import pytest
import torch
from complementarity_toy import (
    NEW,
    Nested,
    SumToy,
    Toy,
    Twice,
    delta_grads,
    has_hooks,
    inputs_of,
    leftovers,
    loss_of,
    term,
    toy,
    toy_with_loss,
)
from mmengine.model import (
    ExponentialMovingAverage,
)
from torch import Tensor, nn

from mmir.tensorfact.complementarity_hook import (
    attach_complementarity_,
    detach_complementarity_,
)


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(4, 3, 7, 6)


@pytest.mark.parametrize('form', ['cos2', 'paper', 'weight'])
def test_value_and_gradient(x, form):
    options = dict(p=1) if form == 'paper' else {}
    model = toy()
    attach_complementarity_(model, 0.3, form, **options)
    found = loss_of(model, x)
    model.zero_grad()
    found.backward()
    grads = delta_grads(model)
    assert all(g.abs().sum() > 0 for g in grads.values())
    got = {n for n, p in model.named_parameters() if p.grad is not None}
    assert got == set(grads)

    plain = toy()
    seen = inputs_of(plain, x)
    terms = [term(getattr(plain, n), seen[n], form, **options) for n in seen]
    expected = 0.3 * (terms[0] + terms[1]) / 2
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    expected.backward()
    for name, grad in delta_grads(plain).items():
        torch.testing.assert_close(grads[name], grad, rtol=1e-4, atol=1e-6)


def test_nothing_upstream_of_a_selected_layer_feels_it(x):
    model = toy()
    attach_complementarity_(model, layers=['^second$'])
    loss_of(model, x).backward()
    got = {n for n, p in model.named_parameters() if p.grad is not None}
    assert got == {'second.deltas.ir.A', 'second.deltas.ir.B'}


def test_losses_of_the_model_stay(x):
    model, plain = toy(), toy()
    attach_complementarity_(model)
    losses = model(x, mode='loss')
    assert list(losses) == ['loss_task', NEW]
    expected = plain(x, mode='loss')['loss_task']
    torch.testing.assert_close(losses['loss_task'], expected, rtol=1e-5, atol=0)


def test_off_is_free(x):
    model, plain = toy(), toy()
    keys = vars(model).keys()
    assert attach_complementarity_(model, 0) is None
    assert not has_hooks(model)
    assert vars(model).keys() == keys
    assert torch.equal(
        model(x, mode='loss')['loss_task'], plain(x, mode='loss')['loss_task']
    )
    assert attach_complementarity_(nn.Linear(1, 1), 0) is None


def test_detached_is_as_before(x):
    model, plain = toy(), toy()
    keys = list(model.state_dict())
    attach_complementarity_(model)
    assert has_hooks(model)
    assert list(model.state_dict()) == keys
    model.eval()
    loss_of(model.train(), x)
    detach_complementarity_(model)
    assert not has_hooks(model)
    model.load_state_dict(plain.state_dict())
    losses = model(x, mode='loss')
    assert list(losses) == ['loss_task']
    assert torch.equal(losses['loss_task'], plain(x, mode='loss')['loss_task'])
    with pytest.raises(ValueError, match='no complementarity loss is attached'):
        detach_complementarity_(model)


@pytest.mark.parametrize('case', ['eval', 'tensor', 'no_grad'])
def test_only_losses_to_learn_from_are_joined(x, case):
    model, plain = toy(), toy()
    attach_complementarity_(model)
    for one in (model, plain):
        one.train(case != 'eval')
    mode = 'tensor' if case == 'tensor' else 'loss'
    with torch.set_grad_enabled(case != 'no_grad'):
        found, expected = model(x, mode=mode), plain(x, mode=mode)
    if mode == 'loss':
        assert list(found) == ['loss_task']
        found, expected = found['loss_task'], expected['loss_task']
    assert torch.equal(found, expected)


def test_mode_may_be_positional(x):
    model = toy()
    attach_complementarity_(model)
    assert NEW in model(x, None, 'loss')
    assert isinstance(model(x, None, 'tensor'), Tensor)


def test_nothing_is_left_on_the_model(x):
    model = toy()
    attach_complementarity_(model)
    losses = model(x, mode='loss')
    assert not leftovers(model)
    sum(losses.values()).backward()
    assert not leftovers(model)


def test_an_error_in_the_model_leaves_nothing_behind(x):
    model = toy()
    attach_complementarity_(model)
    model.fault = True
    with pytest.raises(ArithmeticError, match='of the model'):
        model(x, mode='loss')
    assert not leftovers(model)
    model.fault = False
    plain = toy()
    attach_complementarity_(plain)
    assert torch.equal(loss_of(model, x), loss_of(plain, x))


@pytest.mark.parametrize(
    'clone', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_copies_made_in_the_middle_of_training(x, clone):
    model = toy()
    attach_complementarity_(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    losses = model(x, mode='loss')
    clone(model)
    sum(losses.values()).backward()
    twin = clone(model)
    optimizer.step()
    twin = clone(model)
    assert torch.equal(loss_of(twin, x), loss_of(model, x))
    detach_complementarity_(twin)
    assert not has_hooks(twin)
    assert has_hooks(model)
    assert NEW in model(x, mode='loss')
    attach_complementarity_(twin)


def test_moving_average_of_a_model(x):
    model = toy()
    attach_complementarity_(model)
    average = ExponentialMovingAverage(model, momentum=0.5)
    for _ in range(2):
        sum(model(x, mode='loss').values()).backward()
        average.update_parameters(model)
    average.eval()
    assert torch.equal(average.module(x), copy.deepcopy(average.module)(x))
    assert not leftovers(average)


def test_inactive_layers_do_not_count(x):
    model, plain = toy(), toy()
    attach_complementarity_(model, 1.0)
    second = term(plain.second, inputs_of(plain, x)['second'], 'cos2')
    model.first.deltas.ir.requires_grad_(False)
    torch.testing.assert_close(loss_of(model, x), second, rtol=1e-5, atol=0)
    model.first.deltas.ir.requires_grad_(True)
    model.first.eval()
    torch.testing.assert_close(loss_of(model, x), second, rtol=1e-5, atol=0)
    model.train().first.enable_adapter('ir', False)
    alone = loss_of(model, x)
    plain.first.enable_adapter('ir', False)
    second = term(plain.second, inputs_of(plain, x)['second'], 'cos2')
    torch.testing.assert_close(alone, second, rtol=1e-5, atol=0)
    model.second.enable_adapter('ir', False)
    assert list(model(x, mode='loss')) == ['loss_task']


def test_a_layer_that_is_used_twice_counts_once(x):
    model = toy(Twice)
    nn.init.zeros_(model.first.deltas.ir.A)
    attach_complementarity_(model, 1.0)
    middle = model.first(x).detach()
    last = model.second(middle).detach()
    calls = [term(model.second, inputs, 'cos2') for inputs in (middle, last)]
    expected = (0 + (calls[0] + calls[1]) / 2) / 2
    torch.testing.assert_close(loss_of(model, x), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize('form', ['cos2', 'weight'])
def test_scale_of_losses_that_are_sums(x, form):
    def value(kind, inputs) -> float:
        return loss_of(toy_with_loss(kind, type=form), inputs).item()

    one = value(Toy, x)
    for inputs in (x, list(x)):
        assert value(SumToy, inputs) == pytest.approx(4 * one, rel=1e-6)


def test_images_are_counted_in_one_modality(x):
    model = toy_with_loss(SumToy)
    one = loss_of(toy_with_loss(), x).item()
    forward = model.forward
    model.forward = lambda inputs, mode: forward(inputs['ir'], mode=mode)
    found = model({'ir': x, 'rgb': x}, mode='loss')[NEW]
    assert found.item() == pytest.approx(4 * one, rel=1e-6)


def test_models_that_return_no_dict(x):
    model = toy()
    attach_complementarity_(model)
    model.forward = lambda inputs, mode: model.first(inputs).mean()
    with pytest.raises(TypeError, match='Toy returned Tensor in mode'):
        model(x, mode='loss')


def test_wrong_arguments():
    for error, options, message in (
        (ValueError, dict(weight=-1), 'not negative, not -1'),
        (ValueError, dict(weight=float('nan')), 'weight must be finite'),
        (ValueError, dict(type='l2'), "unknown complementarity loss 'l2'"),
        (TypeError, dict(layers='first'), 'give a list of expressions'),
        (TypeError, dict(color=1), 'color'),
        (ValueError, dict(layers=['first', 'x9']), "'x9' matches no factorized"),
        (ValueError, dict(layers=['first']), 'none among the selected ones'),
    ):
        model = toy()
        model.first.enable_adapter('ir', False)
        with pytest.raises(error, match=message):
            attach_complementarity_(model, **options)
        assert not has_hooks(model)
    with pytest.raises(ValueError, match='the model has none: call augment_ first'):
        attach_complementarity_(Toy())
    model = toy()
    attach_complementarity_(model)
    with pytest.raises(ValueError, match='attached already, detach_complementarity_'):
        attach_complementarity_(model)


def test_a_model_may_call_itself(x):
    losses = toy_with_loss(Nested)(x, mode='loss')
    assert torch.equal(losses[NEW], loss_of(toy_with_loss(), x))


def test_an_interrupted_pass_is_forgotten(x):
    model = toy_with_loss()
    hook = model.head.register_forward_hook(_interrupt)
    with pytest.raises(KeyboardInterrupt):
        model(x, mode='loss')
    hook.remove()
    model.load_state_dict(toy().state_dict())  # batch norms have seen the pass
    assert torch.equal(model.eval()(x), toy().eval()(x))
    copy.deepcopy(model)
    assert torch.equal(loss_of(model.train(), x), loss_of(toy_with_loss(), x))
    assert not leftovers(model)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
