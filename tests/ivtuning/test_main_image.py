"""IV-tuning with the infrared image as the main one."""

import pytest
import torch
from torch import Tensor, nn
from transformers import CONFIGS, image, network, outputs

from mmir.adapters import adapt_, load_adapter, save_adapter, switch_adapter_
from mmir.ivtuning import IVTuning


def tuned(name: str, **options) -> nn.Module:
    model = network(name)
    torch.manual_seed(1)
    adapt_(model, IVTuning(rank=8, prompt_rank=4, **options), trainable=[])
    model.eval()
    return model


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


@pytest.mark.parametrize('name', CONFIGS)
def test_with_zero_init_it_is_the_frozen_backbone_of_the_infrared_image(name):
    model, plain = tuned(name, main='ir', zero_init=True), network(name)
    plain.requires_grad_(False)  # frozen attention of PyTorch may round otherwise
    x = image(name)
    assert equal(outputs(model, x), outputs(plain, x[:, 3:]))


@pytest.mark.parametrize('name', ['vit', 'swin'])
def test_it_is_the_default_with_exchanged_images(name):
    x = image(name)
    exchanged = torch.cat([x[:, 3:], x[:, :3]], 1)
    default, model = tuned(name), tuned(name, main='ir')
    assert equal(outputs(model, x), outputs(default, exchanged))
    assert not equal(outputs(model, x), outputs(default, x))


def test_one_infrared_channel_is_repeated():
    model, x = tuned('vit', main='ir'), image('vit', channels=4)
    repeated = torch.cat([x[:, :3], x[:, 3:].expand(-1, 3, -1, -1)], 1)
    assert equal(outputs(model, x), outputs(model, repeated))


def test_the_file_knows_the_main_image_and_off_is_the_plain_rgb_backbone(tmp_path):
    model, x = tuned('vit', main='ir'), image('vit')
    save_adapter(model, tmp_path / 'adapter.pth')
    other = network('vit')
    load_adapter(other, tmp_path / 'adapter.pth')
    other.eval()
    assert equal(outputs(other, x), outputs(model, x))
    switch_adapter_(other, 'ir', on=False)
    assert equal(outputs(other, x), outputs(network('vit'), x[:, :3]))


def test_an_unknown_main_image():
    with pytest.raises(ValueError, match=r"main 'depth', use \('rgb', 'ir'\)"):
        IVTuning(main='depth')
