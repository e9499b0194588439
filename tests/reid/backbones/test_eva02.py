"""EVA-02 with published rotary positions: the host at its size, timm at others."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

pytest.importorskip('mmpretrain')

from mmir.adapters import adapter_state, load_adapter_state
from mmir.reid.backbones.eva02 import RotaryPositions
from mmir.utils.timm_vit import convert_eva02

DIMS, HEADS = 32, 2
ARCH = dict(
    embed_dims=DIMS, num_layers=3, num_heads=HEADS, feedforward_channels=48
)  # fmt: skip
CONFIG = dict(
    arch=ARCH, patch_size=16, out_type='raw', norm_cfg=dict(type='LN', eps=1e-6)
)


def published(size: tuple[int, int]) -> nn.Module:
    """timm's EVA-02 with random weights and no absolute positions, in float64."""
    timm = pytest.importorskip('timm')
    model = timm.create_model(
        'eva02_tiny_patch14_224',
        img_size=size,
        embed_dim=DIMS,
        depth=3,
        num_heads=HEADS,
        mlp_ratio=1.5,
        patch_size=16,
        num_classes=0,
        global_pool='token',
    )
    nn.init.zeros_(model.pos_embed)
    torch.manual_seed(1)  # the same weights for all sizes
    for name, value in model.named_parameters():
        if name != 'pos_embed':
            nn.init.normal_(value, std=0.3)
    return model.double().eval()


def ours(size: int | tuple[int, int], **options: object) -> nn.Module:
    cfg = dict(type='mmir.ViTEVA02', img_size=size, **CONFIG, **options)
    model = MODELS.build(cfg).double()
    model.eval()  # returns nothing in this host
    return model


def images(*size: int) -> Tensor:
    gen = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, *size, generator=gen, dtype=torch.float64)


@pytest.mark.parametrize('size', [(64, 64), (64, 96), (48, 32)])
@torch.no_grad()
def test_images_of_any_size_equal_timm(size: tuple[int, int]) -> None:
    """A network of 64x64 and its weights, on images of other grids and back."""
    state = convert_eva02(published((64, 64)).state_dict(), head_dims=DIMS // HEADS)
    model, wanted = ours(64), published(size)
    model.load_state_dict(state)
    for shape in (size, (64, 64), size):
        found = model(images(*shape))[-1]
    expected = wanted.forward_features(images(*size))
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()


def taps(size: int | tuple[int, int], state: dict[str, Tensor]) -> nn.Module:
    """Maps of blocks 0 and 2 of a network with IV-tuning that does nothing yet."""
    adapted = dict(
        type='mmir.Adapted',
        target='mmir.ViTEVA02',
        adapt=dict(type='IVTuning', zero_init=True, rank=4, prompt_rank=4),
        img_size=size,
        **CONFIG,
    )
    cfg = dict(type='mmir.TransformerTaps', backbone=adapted, blocks=(0, 2))
    model = MODELS.build(cfg).double()
    found = model.backbone.load_state_dict(state, strict=False)
    assert not found.unexpected_keys
    assert all('.adapters.ir.' in key for key in found.missing_keys)
    model.eval()
    return model


@torch.no_grad()
def test_iv_tuning_and_taps_at_another_size() -> None:
    """Pairs of 224x320 through a network that was built for 336x336."""
    source = published((336, 336))
    state = convert_eva02(source.state_dict(), head_dims=DIMS // HEADS)
    pair = torch.cat([images(224, 320), images(224, 320).flip(1)], 1)
    maps = taps(336, state)(pair)
    expected = published((224, 320)).forward_intermediates(
        pair[:, :3], indices=[0, 2], intermediates_only=True
    )
    for found, wanted in zip(maps, expected, strict=True):
        assert found.shape == (2, DIMS, 14, 20)
        assert (found - wanted).abs().max() < 1e-6 * wanted.abs().max()


@torch.no_grad()
def test_maps_do_not_depend_on_the_size_a_network_is_built_for() -> None:
    """Also with trained adapters; absolute positions aside, which are resized."""
    plain = ours(336)
    nn.init.zeros_(plain.pos_embed)
    native, other = (taps(size, plain.state_dict()) for size in ((224, 320), 336))
    torch.manual_seed(1)
    for name, value in native.named_parameters():
        if '.adapters.' in f'.{name}':
            value += 0.1 * torch.randn_like(value)
    trained = adapter_state(native.backbone)
    with pytest.raises(ValueError, match=r'pos_embed has shape \[1, 442, 32\]'):
        load_adapter_state(other.backbone, trained)
    own = {k: v for k, v in native.state_dict().items() if '.adapters.' in k}
    other.load_state_dict(own, strict=False)
    pair = torch.cat([images(224, 320), images(224, 320).flip(1)], 1)
    first, second = native(pair), other(pair)
    assert all(map(torch.equal, first, second))
    assert not torch.equal(first[0], taps(336, plain.state_dict())(pair)[0])


@torch.no_grad()
def test_sides_that_no_patch_divides_are_padded_with_zeros() -> None:
    model, whole = ours(64), torch.zeros(2, 3, 64, 96, dtype=torch.float64)
    whole[..., :60, :90] = images(60, 90)
    assert torch.equal(model(images(60, 90))[-1], model(whole)[-1])


@torch.no_grad()
def test_weights_of_another_size_load() -> None:
    """The positions of a checkpoint of 4x4 patches do not hinder one of 4x6."""
    source = published((64, 64))
    state = convert_eva02(source.state_dict(), head_dims=DIMS // HEADS)
    model = ours((64, 96))
    result = model.load_state_dict(state, strict=True)
    assert (result.missing_keys, result.unexpected_keys) == ([], [])
    expected = published((64, 96)).forward_features(images(64, 96))
    found = model(images(64, 96))[-1]
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()


@torch.no_grad()
def test_equals_the_host_with_tables_of_a_checkpoint() -> None:
    """At the size of the checkpoint, with its absolute positions."""
    source = published((64, 64))
    nn.init.normal_(source.pos_embed)
    state = convert_eva02(source.state_dict(), head_dims=DIMS // HEADS)
    cfg = dict(type='mmpretrain.ViTEVA02', img_size=64, **CONFIG)
    host, model = MODELS.build(cfg).double(), ours(64)
    host.eval()
    for net in (host, model):
        net.load_state_dict(state)
    assert host.state_dict().keys() == model.state_dict().keys()
    expected = host(images(64, 64))[-1]
    found = model(images(64, 64))[-1]
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()


def test_pairs_of_channels_turn() -> None:
    """As complex numbers, by the place of a patch on the 16x16 grid of pretraining.

    The first half of the channels turns by rows. After (4, 4), the grid is (2, 5).
    """
    module, grid, half = RotaryPositions(8, (4, 4)).double(), (2, 5), 4
    x = images(10, 8)  # two images, three heads
    found = torch.view_as_complex(module(x, grid).unflatten(-1, (-1, 2)))
    given = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    for k in range(10):
        place = (k // 5) * 16 / 2, (k % 5) * 16 / 5
        for pair in range(4):
            angle = place[pair // 2] * 10000 ** (-2 * (pair % 2) / half)
            turn = torch.polar(torch.ones(()).double(), torch.tensor(angle).double())
            expected = given[..., k, pair] * turn
            torch.testing.assert_close(
                found[..., k, pair], expected, rtol=1e-6, atol=1e-6
            )


@torch.no_grad()
def test_half_precision_at_another_size() -> None:
    """Queries, keys and values stay of one dtype."""
    model = ours(64).bfloat16()
    found = model(images(64, 96).bfloat16())[-1]
    assert found.dtype == torch.bfloat16
    assert found.isfinite().all()
