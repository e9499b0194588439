"""What is not a plain convolution comes out of every surgery as it went in."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from mmir.adapters import (
    adapt_,
    load_adapter,
    merge_,
    merge_state_dict,
    save_adapter,
    switch_adapter_,
    why_not_plain,
    why_tied,
)
from mmir.peft import BitFit, ConvLoRA, Frozen
from mmir.tensorfact import (
    TensorFact,
    TensorFactConv,
    compression_plan,
    factorize_,
    to_factored_modules_,
)

X = torch.randn(2, 8, 9, 7, generator=torch.Generator().manual_seed(3))
FULL = dict(rank='full', skip_growing=False, exclude=())


class Net(nn.Module):
    """`odd` is the convolution that a test makes special; `other` may be tied to it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.odd = nn.Conv2d(8, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.other = nn.ConvTranspose2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.odd(self.first(x)).relu())
        return self.head(self.last(self.other(x)))


class Doubled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Symmetric(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight + weight.flip(-1)


def replace_forward(net: Net) -> None:
    conv = net.odd
    conv.forward = lambda x: conv._conv_forward(x, conv.weight.tanh(), conv.bias)


def own_forward(net: Net) -> None:
    net.odd = Doubled(8, 8, 3, padding=1)


def tie_deconvolution(net: Net) -> None:
    net.other.weight = net.odd.weight


def tie_convolution(net: Net) -> None:
    net.other = nn.Conv2d(8, 8, 3, padding=1)
    net.other.weight, net.other.bias = net.odd.weight, net.odd.bias


def tie_memory(net: Net) -> None:
    net.other.weight = nn.Parameter(net.odd.weight.detach())


def hook_output(net: Net) -> None:
    net.odd.register_forward_hook(lambda module, args, output: output * 3)


def hook_input(net: Net) -> None:
    net.odd.register_forward_pre_hook(lambda module, args: (args[0].abs(),))


def computed_by(make: Callable) -> Callable[[Net], None]:
    return lambda net: make(net.odd)


COMPUTED = {
    'WeightNorm': computed_by(nn.utils.weight_norm),
    '_WeightNorm': computed_by(parametrizations.weight_norm),
    'SpectralNorm': computed_by(nn.utils.spectral_norm),
    '_SpectralNorm': computed_by(parametrizations.spectral_norm),
    'Symmetric': lambda net: parametrize.register_parametrization(
        net.odd, 'weight', Symmetric()
    ),
    'L1Unstructured': computed_by(lambda m: prune.l1_unstructured(m, 'weight', 0.5)),
    'RandomUnstructured': computed_by(
        lambda m: prune.random_unstructured(m, 'bias', 0.5)
    ),
}
SPECIAL = {
    **COMPUTED,
    'own forward': own_forward,
    'replaced forward': replace_forward,
    'tied to a transposed convolution': tie_deconvolution,
    'tied to a convolution': tie_convolution,
    'same memory': tie_memory,
    'forward hook': hook_output,
    'forward pre-hook': hook_input,
}


def share(net: Net) -> None:
    net.other = net.odd


KINDS = {**SPECIAL, 'plain': lambda net: None, 'one module, two names': share}


def build(kind: str, seed: int) -> Net:
    """An untrained network of a kind."""
    torch.manual_seed(seed)
    net = Net()
    KINDS[kind](net)
    for tensor in net.bn.parameters():
        nn.init.uniform_(tensor)
    net.bn.running_mean.uniform_()
    return net.eval()


def pair(kind: str) -> tuple[Net, Net]:
    """A network, and another that has loaded its weights and not run yet."""
    source, loaded = build(kind, 0), build(kind, 1)
    source(X)
    loaded.load_state_dict(source.state_dict())
    return source, loaded


def relative(value: Tensor, reference: Tensor) -> float:
    return ((value - reference).abs().max() / reference.abs().max()).item()


def lora(net: Net) -> Net:
    adapt_(net, ConvLoRA(2))
    return net.eval()


def factors(net: Net) -> Net:
    factorize_(net, **FULL)
    return net


def factors_and_deltas(net: Net) -> Net:
    adapt_(net, TensorFact(**FULL))
    return net.eval()


def exported(net: Net) -> Net:
    return to_factored_modules_(factors(net))


def merged(net: Net) -> Net:
    return merge_(factors_and_deltas(net))


def biases(net: Net) -> Net:
    adapt_(net, BitFit())
    return net.eval()


SURGERIES = [lora, factors, factors_and_deltas, exported, merged, biases]


@pytest.mark.parametrize('surgery', SURGERIES, ids=lambda f: f.__name__)
@pytest.mark.parametrize('kind', KINDS)
def test_the_output_stays_before_the_first_forward_pass(kind, surgery):
    source, net = pair(kind)
    expected = source(X)
    net = surgery(net)
    assert relative(net(X), expected) < 1e-5
    assert relative(net(X), expected) < 1e-5  # nor does it change by running
    twin = surgery(build(kind, 2))
    twin.load_state_dict(net.state_dict())
    assert relative(twin(X), expected) < 1e-5


@pytest.mark.parametrize('surgery', SURGERIES, ids=lambda f: f.__name__)
def test_hooks_still_run_once(surgery):
    calls = []
    net = build('plain', 0)
    net.odd.register_forward_hook(lambda *_: calls.append('out'))
    net.odd.register_full_backward_hook(lambda *_: calls.append('back'))
    handle = net.first.register_forward_pre_hook(lambda *_: calls.append('in'))
    net = surgery(net)
    net(X.clone().requires_grad_()).sum().backward()
    assert calls == ['in', 'out', 'back']
    handle.remove()
    net(X)
    assert calls == ['in', 'out', 'back', 'out']


@pytest.mark.parametrize('kind', SPECIAL)
def test_what_is_special_is_left_alone_with_the_reason(kind):
    net = build(kind, 0)
    reason = factorize_(net, **FULL).skipped['odd']
    assert not isinstance(net.odd, TensorFactConv)
    assert isinstance(net.first, TensorFactConv)
    expected = {
        'own forward': 'Doubled is not a plain nn.Conv2d',
        'replaced forward': 'its forward was replaced',
        'forward hook': 'has a forward hook',
        'forward pre-hook': 'has a forward pre hook',
    }
    if kind in COMPUTED:
        name = 'bias' if kind == 'RandomUnstructured' else 'weight'
        assert reason == f'its {name} is computed by {kind}'
    else:
        assert reason == expected.get(kind, 'shares its weight with other')
    if 'hook' not in kind:
        report = adapt_(build(kind, 0), ConvLoRA(2))
        assert any(f"{reason}, such as 'odd'" in note for note in report.notes.values())
        assert reason in str(report)


def train(net: Net) -> None:
    torch.manual_seed(5)
    learns = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learns, lr=0.01)
    net.train()
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.randn_like(X) + 1).square().mean().backward()
        optimizer.step()
    net.eval()


@pytest.mark.parametrize('method', [ConvLoRA(2), TensorFact(rank=None), Frozen()])
@pytest.mark.parametrize('norm', ['all', 'frozen'])
@pytest.mark.parametrize('kind', KINDS)
def test_adapter_files_come_back(kind, norm, method, tmp_path):
    """Save, load, switch, merge; also where a kernel is shared or computed."""
    base, trained = pair(kind)
    if isinstance(method, TensorFact):
        for net in (base, trained):
            factorize_(net, **FULL, mode='reconstruct')
    before = base(X)
    adapt_(trained, method, norm=norm)
    train(trained)
    expected = trained(X)
    assert relative(expected, before) > 1e-2
    save_adapter(trained, tmp_path / 'ir.pth')
    load_adapter(base, tmp_path / 'ir.pth')
    assert torch.equal(base(X), expected)
    switch_adapter_(base, 'ir', False)
    assert torch.equal(base(X), before)
    switch_adapter_(base, 'ir', True)
    assert torch.equal(base(X), expected)
    state = merge_state_dict(trained.state_dict())
    for own in (state, merge_(trained).state_dict()):
        plain = build(kind, 7)
        plain.load_state_dict(own)
        assert relative(plain(X), expected) < 1e-5


@pytest.mark.parametrize(
    ('dtype', 'bound'),
    [(torch.float16, 4e-3), (torch.bfloat16, 4e-2), (torch.float64, 1e-12)],
)
def test_half_and_double_precision_are_plain(dtype, bound):
    net = build('plain', 0).to(dtype)
    expected = net(X.to(dtype))
    assert list(factorize_(net, **FULL).ranks)[:3] == ['first', 'odd', 'last']
    assert net.odd.A.dtype == dtype
    assert relative(net(X.to(dtype)), expected) < bound


@pytest.mark.parametrize('surgery', [lora, factors])
def test_complex_kernels_are_left(surgery):
    net = nn.Sequential(*(nn.Conv2d(8, 8, 3, dtype=torch.cfloat) for _ in range(2)))
    expected = net(X.cfloat())
    with pytest.raises(ValueError, match=r"weight is complex64, such as '0'"):
        surgery(net)
    net.append(nn.Conv2d(8, 8, 3))
    surgery(net)
    assert [type(layer) for layer in net[:2]] == [nn.Conv2d] * 2
    assert type(net[2]) is not nn.Conv2d
    assert torch.equal(net[:2](X.cfloat()), expected)


def test_lazy_layers_wait_for_their_first_batch():
    net = nn.Sequential(nn.Conv2d(8, 8, 3), nn.LazyConv2d(8, 3)).eval()
    with pytest.raises(ValueError, match=r'1\.weight is not initialized yet: run one'):
        lora(net)
    assert type(net[0]) is nn.Conv2d
    report = factorize_(net, **FULL)
    assert report.skipped == {'1': 'LazyConv2d is not a plain nn.Conv2d'}
    expected = net(X)
    merge_(net)
    for surgery in (lora, factors):
        changed = surgery(copy.deepcopy(net))
        assert type(changed[1]) is not nn.Conv2d
        assert relative(changed(X), expected) < 1e-5


def test_gradient_hooks_and_further_tensors_are_left():
    net = build('plain', 0)
    net.first.weight.register_hook(lambda grad: grad * 0)
    net.odd.register_buffer('mask', torch.ones(3))
    skipped = factorize_(net, **FULL).skipped
    assert skipped['first'] == 'has a hook on the gradient of its weight'
    assert skipped['odd'] == 'has mask beside weight and bias'
    with pytest.raises(ValueError, match='cannot be factorized: has mask beside'):
        TensorFactConv.from_conv(net.odd, 2)


def test_a_plan_is_not_applied_to_another_kind_of_layer():
    plan = compression_plan(build('plain', 0), {'rank': 2}, exclude=())
    net = build('WeightNorm', 0)
    with pytest.raises(ValueError, match='odd: its weight is computed by WeightNorm'):
        plan.apply_(net)
    assert type(net.first) is nn.Conv2d


@pytest.mark.parametrize('kind', SPECIAL)
def test_plans_leave_out_what_is_special(kind):
    source, net = pair(kind)
    plan = compression_plan(source, {'rank': 4}, exclude=())
    assert list(plan.ranks) == ['first', 'last']
    assert list(plan.apply_(net).ranks) == ['first', 'last']


def test_hooks_of_factors_survive_merging_and_export():
    for change in (merge_, to_factored_modules_):
        net = factors(build('plain', 0))
        expected = 3 * net.odd(X)
        hook_output(net)
        assert relative(change(net).odd(X), expected) < 1e-5


def test_a_hook_on_loading_is_bound_to_the_layer_that_takes_over():
    net, seen = build('plain', 0), []
    net.odd.register_load_state_dict_pre_hook(lambda module, *_: seen.append(module))
    state = copy.deepcopy(net.state_dict())
    lora(net).load_state_dict(state, strict=False)
    assert seen == [net.odd]
    merge_(net).load_state_dict(state)
    assert seen[1:] == [net.odd]


def test_reasons():
    conv = nn.Conv2d(2, 2, 3)
    assert why_not_plain(conv, rebuilt=True) is None
    assert why_not_plain(nn.ReLU()) == 'ReLU is not a plain nn.Conv2d'
    quantized = nn.Conv2d(2, 2, 3).requires_grad_(False)
    quantized.weight = nn.Parameter(conv.weight.detach().to(torch.int8), False)
    assert why_not_plain(quantized) == 'its weight is int8'
    net = build('tied to a convolution', 0)
    assert set(why_tied(net)) == {net.odd, net.other}
    assert why_tied(build('one module, two names', 0)) == {}
    assert why_tied(build('plain', 0).to('meta')) == {}
