"""Radial power and energy of feature maps."""

import numpy as np
import pytest
import torch

from mmir.evaluation.feature_frequency import energy_map, radial_power, tapered


def maps(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)) + 0.7


@pytest.mark.parametrize('size', [(16, 16), (15, 12), (7, 20), (1, 1), (1, 9)])
def test_parseval(size):
    x = maps(2, 3, *size)
    found = radial_power(x)
    assert found.count.sum() == size[0] * size[1]
    assert (found.count > 0).all()
    total = (found.power * found.count).sum()
    torch.testing.assert_close(total, x.double().square().mean())


def test_rings_of_an_independent_sum():
    x = maps(1, 2, 9, 12)
    wave = np.abs(np.fft.fft2(x.double().numpy())) ** 2 / (9 * 12) ** 2
    power = wave.mean((0, 1))
    rings: dict[int, list[tuple[float, float]]] = {}
    for i in range(9):
        for j in range(12):
            radius = np.hypot(min(i, 9 - i) / 9, min(j, 12 - j) / 12)
            rings.setdefault(int(radius * 9 + 0.5), []).append((radius, power[i, j]))
    found = radial_power(x)
    expected = np.array([np.mean(rings[k], 0) for k in sorted(rings)])
    assert np.allclose(found.frequency, expected[:, 0], atol=1e-7)
    assert np.allclose(found.power, expected[:, 1])
    assert found.count.tolist() == [len(rings[k]) for k in sorted(rings)]


def test_a_wave_has_its_frequency_in_any_direction():
    at = torch.arange(32) * 2 * torch.pi / 32
    one = torch.cos(5 * at).expand(32, 32)
    slanted = torch.cos(3 * at[:, None] + 4 * at[None])
    for wave in (one, one.T, slanted):
        frequency, power, count = radial_power(2 * wave[None, None])
        assert power.argmax() == 5
        assert frequency[5].item() == pytest.approx(5 / 32, abs=0.2 / 32)
        assert (power * count)[5].item() == pytest.approx(2)  # mean square of 2 cos


def test_a_window_takes_the_borders_and_keeps_white_noise():
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    plain, windowed = radial_power(ramp), radial_power(tapered(ramp))
    assert windowed.power[20:].sum() < 1e-3 * plain.power[20:].sum()
    window = tapered(torch.randn(64, 1, 32, 32, dtype=torch.float64))
    assert window.square().mean().item() == pytest.approx(1, rel=0.05)
    torch.testing.assert_close(tapered(ramp + 5), tapered(ramp), rtol=0, atol=1e-5)


def test_energy():
    x = torch.zeros(2, 3, 2, 2)
    x[1, :, 0, 1] = torch.tensor([1.0, 2.0, 2.0])
    found = energy_map(x)
    assert found.shape == (2, 2, 2)
    assert found[1, 0, 1] == 3
    assert found.sum() == 3
    half = energy_map(torch.full((1, 4, 1, 1), 6e4, dtype=torch.float16))
    assert half.item() == pytest.approx(1.2e5, rel=1e-3)


@pytest.mark.parametrize('shape', [(3, 4, 4), (0, 3, 4, 4)])
def test_shapes_that_are_no_maps(shape):
    with pytest.raises(ValueError, match='not'):
        radial_power(torch.zeros(shape))
