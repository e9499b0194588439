"""Gated spectral unit: the formula, its bounds and symmetries."""

import pytest
import torch
from torch import Tensor

from mmir.layers import GatedSpectralUnit


def unit(**options: object) -> GatedSpectralUnit:
    torch.manual_seed(0)
    return GatedSpectralUnit(**dict(dict(modalities=2, channels=5), **options)).double()


def two_maps() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(2, 5, 4, 6).double() for _ in range(2)]


def reference(net: GatedSpectralUnit, maps: list[Tensor]) -> Tensor:
    """Sum of tanh(W x) sigmoid(V x), pixel by pixel."""
    out = torch.zeros_like(maps[0])
    inputs = [*maps, maps[0] + maps[1]]
    for k, x in enumerate(inputs):
        w, v = (part[k].weight[:, :, 0, 0] for part in (net.values, net.gates))
        for n, i, j in torch.cartesian_prod(*map(torch.arange, (2, 4, 6))).tolist():
            pixel = x[n, :, i, j]
            out[n, :, i, j] += (w @ pixel).tanh() * (v @ pixel).sigmoid()
    return out


def test_equals_the_formula() -> None:
    net, maps = unit(), two_maps()
    torch.testing.assert_close(net(maps), reference(net, maps), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('split', [None, 'avgpool', 'fft'])
@pytest.mark.parametrize('projection', ['conv1x1', 'dw3x3', 'none'])
def test_bounds(projection: str, split: str | None) -> None:
    net, maps = unit(projection=projection, split=split), two_maps()
    assert net([100 * x for x in maps]).abs().max() <= 3
    assert (net([0 * x for x in maps]) == 0).all()


def test_parameters() -> None:
    counts = {
        kind: sum(p.numel() for p in unit(projection=kind).parameters())
        for kind in ('conv1x1', 'dw3x3', 'none')
    }
    assert counts == dict(conv1x1=6 * 25, dw3x3=6 * 9 * 5, none=0)


def test_a_zero_map_leaves_two_branches() -> None:
    net, (x, _) = unit(), two_maps()
    branches = [
        net.values[k](x).tanh() * net.gates[k](x).sigmoid() for k in (0, 2)
    ]  # its own branch, and that of the sum
    assert torch.equal(net([x, 0 * x]), sum(branches))


def test_swapping_inputs_with_their_weights() -> None:
    net, (a, b) = unit(), two_maps()
    expected = net([a, b])
    for part in (net.values, net.gates):
        part[0], part[1] = part[1], part[0]
    torch.testing.assert_close(net([b, a]), expected)


def test_some_of_three_modalities() -> None:
    net, (a, b) = unit(modalities=3), two_maps()
    expected = sum(
        net.values[k](x).tanh() * net.gates[k](x).sigmoid()
        for k, x in ((0, a), (2, b), (3, a + b))
    )
    torch.testing.assert_close(net([a, b], [0, 2]), expected)


def test_gates_of_softmax_sum_to_one() -> None:
    net, maps = unit(gate='softmax'), two_maps()
    for value in net.values:
        torch.nn.init.zeros_(value.weight)
        value.bias = torch.nn.Parameter(torch.full((5,), 50.0).double())  # tanh = 1
    torch.testing.assert_close(net(maps), torch.ones_like(maps[0]))


def test_concatenated_gates_read_every_modality() -> None:
    net, (a, b) = unit(gate='concat'), two_maps()
    b.requires_grad_()
    torch.nn.init.zeros_(net.values[1].weight)  # the other ways from b
    torch.nn.init.zeros_(net.values[2].weight)
    net([a, b]).sum().backward()
    assert (b.grad != 0).any()
    plain = unit()
    torch.nn.init.zeros_(plain.values[1].weight)
    torch.nn.init.zeros_(plain.values[2].weight)
    b.grad = None
    plain([a, b]).sum().backward()
    assert (b.grad == 0).all()


def test_low_frequencies_reach_the_branch_of_the_sum_only() -> None:
    net = unit(split='fft')
    constant = [torch.full((1, 5, 8, 8), 0.7).double() for _ in range(2)]
    total = constant[0] + constant[1]
    expected = net.values[2](total).tanh() * net.gates[2](total).sigmoid()
    torch.testing.assert_close(net(constant), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(projection='linear'), 'projection must be one of'),
        (dict(gate='none'), 'gate must be one of'),
        (dict(split='wavelet'), 'split must be one of'),
        (dict(modalities=1), 'at least two modalities'),
        (dict(gate='concat', projection='none'), "needs projection='conv1x1'"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unit(**options)


def test_missing_modality_with_concatenated_gates() -> None:
    with pytest.raises(ValueError, match='needs all 2 modalities'):
        unit(gate='concat')([two_maps()[0]], [0])
    with pytest.raises(ValueError, match='1 maps for the modalities'):
        unit()([two_maps()[0]])
