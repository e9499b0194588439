"""Batch norms measured on images: the same function, with honest statistics."""

import copy

import pytest
import torch
import yolov7_reference as ref
from torch import Tensor, nn
from yolov5_model import build, trained

from mmir.adapters import freeze_
from mmir.det.yolo.norms import measure_norms_


def images(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 64, 96, generator=generator, dtype=torch.float64)


def toy() -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4, eps=1e-2)
    )
    return ref.randomize(body).double()


def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        found = model.eval()(x)
    return [found] if isinstance(found, Tensor) else found[0]


@pytest.mark.parametrize('make', [toy, lambda: trained().double()])
def test_the_function_stays_and_the_statistics_are_those_of_the_images(make):
    model, x = make(), images(6)
    seen = images(3, seed=7)
    expected = outputs(model, seen)
    inputs: dict[str, Tensor] = {}
    other = copy.deepcopy(model)
    for name, module in other.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(
                lambda _, args, name=name: inputs.update({name: args[0]})
            )
    outputs(other, x)
    assert measure_norms_(model, x.split([1, 3, 2])) == 6
    for ours, theirs in zip(outputs(model, seen), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    for name, value in inputs.items():
        norm = model.get_submodule(name)
        var, mean = torch.var_mean(value, dim=(0, 2, 3), correction=0)
        torch.testing.assert_close(norm.running_mean, mean, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(norm.running_var, var, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_training_on_these_images_computes_the_same_statistics_and_outputs():
    model, x = trained().double(), images(4)
    measure_norms_(model, [x])
    expected = outputs(model, x)
    sizes: dict[nn.Module, int] = {}
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            module.register_forward_pre_hook(
                lambda m, args: sizes.update({m: args[0][:, 0].numel()})
            )
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = model.train()(x)[0]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            mean, var = before[f'{name}.running_mean'], before[f'{name}.running_var']
            torch.testing.assert_close(module.running_mean, mean)
            # torch stores the estimate for the population
            n = sizes[module]
            torch.testing.assert_close(module.running_var, var * n / (n - 1))


def test_identity_norms_are_ruined_by_training_and_measured_ones_are_not():
    identity = trained()
    for module in identity.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.zero_()
            module.running_var.fill_(1 - module.eps)
            module.weight.data.fill_(1)
    measured = copy.deepcopy(identity)
    measure_norms_(measured, images(4).float().split(2))
    x = images(4, seed=1).float()
    truth = outputs(identity, x)[0]
    gaps = []
    for model in (identity, measured):
        with torch.no_grad():
            found = model.train()(x)[0][0]
        gaps.append(float((found - truth).norm() / (truth - truth.mean()).norm()))
    assert gaps[0] > 5 * gaps[1], gaps


def test_modes_and_hooks_are_restored_and_weights_stay_parameters():
    model = build().train()
    model.backbone.stage1.eval()
    modes = [m.training for m in model.modules()]
    parameters = dict(model.named_parameters())
    measure_norms_(model, [images(1).float()])
    assert [m.training for m in model.modules()] == modes
    assert not any(m._forward_pre_hooks for m in model.modules())
    for name, parameter in model.named_parameters():
        assert parameter is parameters[name]
        assert parameter.requires_grad
        assert parameter.grad_fn is None


def test_statistics_far_from_zero_keep_their_digits():
    model = nn.Sequential(nn.BatchNorm2d(1)).double()
    x = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    measure_norms_(model, (x + 1e8).split(1))
    assert model[0].running_var.item() == pytest.approx(
        x.var(correction=0).item(), rel=1e-6
    )


def test_frozen_norms_and_those_without_statistics_stay():
    model = nn.Sequential(
        nn.BatchNorm2d(3, track_running_stats=False),
        nn.BatchNorm2d(3),
        nn.GroupNorm(1, 3),
    ).double()
    freeze_(model, 'ir', trainable=['0'], norm='frozen')
    before = copy.deepcopy(model.state_dict())
    assert measure_norms_(model, [images(2)]) == 2
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


def unusable() -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False))


@pytest.mark.parametrize(
    ('model', 'batches', 'message'),
    [
        (toy, [], 'there are no images'),
        (Branches, [images(1).float()], 'batch norm unused did not run'),
        (unusable, [images(1).float()], 'batch norm 1 has no weight and bias'),
        (toy, [images(1), images(1) * float('nan')], 'batch norm 1, 3 got NaN'),
    ],
)
def test_what_cannot_be_measured_is_named_and_changes_nothing(model, batches, message):
    model = model()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message):
        measure_norms_(model, batches)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_an_error_of_the_model_leaves_it_as_it_was():
    model = toy().train()
    with pytest.raises(RuntimeError):
        measure_norms_(model, [images(1), torch.zeros(1, 5, 9, 9).double()])
    assert all(m.training for m in model.modules())
    assert not any(m._forward_pre_hooks for m in model.modules())
