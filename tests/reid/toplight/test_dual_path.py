"""`DualPathBackbone`: sizes of the paper's table, paths, and all networks."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmir.registry import MODELS
from mmir.reid.toplight import PARTITIONS, partition_of
from mmir.utils.errors import UserError

NETWORKS = {
    'mobilenetv3_large': dict(type='mmir.LightMobileNetV3', arch='large'),
    'mobilenetv3_small': dict(type='mmir.LightMobileNetV3', arch='small'),
    'mobilenetv3_small_050': dict(type='mmir.LightMobileNetV3', arch='small_050'),
    'mobilenetv2': dict(type='mmir.LightMobileNetV2'),
    'ghostnet_1.0x': dict(type='mmir.LightGhostNet', width=1.0),
    'ghostnet_1.3x': dict(type='mmir.LightGhostNet', width=1.3),
    'shufflenetv2_1.0x': dict(type='mmir.LightShuffleNetV2', widen_factor=1.0),
    'shufflenetv2_1.5x': dict(type='mmir.LightShuffleNetV2', widen_factor=1.5),
    'lightcnn29': dict(type='mmir.LightCNN', feature=False),
    'resnet50': dict(type='mmpretrain.ResNet', depth=50),
    'convnext_tiny': dict(
        type='mmpretrain.ConvNeXt', arch='tiny', gap_before_final_norm=False
    ),
    'swin_tiny': dict(
        type='mmpretrain.SwinTransformer', arch='tiny', pad_small_map=True
    ),
    'vit_base': dict(
        type='mmpretrain.VisionTransformer',
        arch='b',
        img_size=(64, 32),
        out_type='featmap',
    ),
}
DUAL = [name for name, row in PARTITIONS.items() if len(row.blocks) == 7]
TINY = 'mobilenetv3_small_050'


def fresh(cfg: dict, seed: int = 0) -> nn.Module:
    """A module with the default weights of PyTorch, which are quick to draw."""
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        module = MODELS.build(cfg)
    module.eval()  # returns None for some
    return module


def plain(network: str) -> nn.Module:
    """The plain network; skips those that need timm if there is none."""
    if 'ghost' in network:
        pytest.importorskip('timm')
    return fresh(NETWORKS[network])


def dual(network: str = TINY, seed: int = 0) -> nn.Module:
    cfg = dict(type='mmir.DualPathBackbone', backbone=NETWORKS[network])
    return fresh(cfg | dict(network=network), seed)


def images(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 64, 32, generator=torch.Generator().manual_seed(2))


def count(module: nn.Module, names: tuple[str, ...]) -> int:
    return sum(p.numel() for n in names for p in module.get_submodule(n).parameters())


def test_blocks_of_the_paper() -> None:
    """Its table 1: parameters and the maps of 224x224 and 288x144."""
    net, blocks = plain('mobilenetv3_large'), PARTITIONS['mobilenetv3_large'].blocks
    found = [count(net, names) for names in blocks]
    head = 960 * 1280 + 1280
    assert found == [928, 3440, 4440, 52312, 731368, 2023944, 155520 + head]
    shapes = {}
    for number, names in enumerate(blocks):
        net.get_submodule(names[-1]).register_forward_hook(
            lambda _, __, out, number=number: shapes.update({number: out.shape[1:]})
        )
    with torch.no_grad():
        net(torch.zeros(1, 3, 288, 144))
    rows = [(16, 144, 72), (24, 72, 36), (24, 72, 36), (40, 36, 18), (112, 18, 9)]
    assert [*shapes.values()] == [*rows, (160, 9, 5), (1280, 9, 5)]


def test_parameters_of_both_paths() -> None:
    """Without the layer of 1280 channels; the stems add 928 to the single path."""
    head = 960 * 1280 + 1280
    cfg = dict(type='mmir.DualPathBackbone', backbone=NETWORKS['mobilenetv3_large'])
    model = fresh(cfg | dict(network='mobilenetv3_large'))
    assert sum(p.numel() for p in model.parameters()) - head == 3_033_072
    stem = PARTITIONS['mobilenetv3_large'].stem
    cfg = dict(cfg, type='mmir.TwoStemBackbone', stem=stem)
    model = fresh(cfg)
    assert sum(p.numel() for p in model.parameters()) - head == 2_972_880


@pytest.mark.parametrize('network', PARTITIONS)
def test_every_weight_is_in_one_block(network: str) -> None:
    net, row = plain(network), PARTITIONS[network]
    parts = [p for n in sum(row.blocks, ()) for p in net.get_submodule(n).parameters()]
    assert len({id(p) for p in parts}) == len(parts)
    if len(row.blocks) == 7:
        assert {id(p) for p in parts} == {id(p) for p in net.parameters()}


@pytest.mark.parametrize('network', DUAL)
def test_maps_of_all_networks(network: str) -> None:
    net = plain(network)
    model = dual(network)
    model.load_state_dict(net.state_dict())
    with torch.no_grad():
        inner, last = model(images(), ['ir', 'rgb', 'ir'])
        (expected,) = net(images())[-1:]
    channels = PARTITIONS[network].channels
    strides = (4, 16) if network == 'lightcnn29' else (8, 32)
    for level, width, stride in zip((inner, last), channels, strides, strict=True):
        assert level.shape == (3, width, 64 // stride, 32 // stride)
    torch.testing.assert_close(last, expected)


@pytest.mark.parametrize('network', PARTITIONS)
def test_two_stems_of_all_networks(network: str) -> None:
    net = plain(network)
    cfg = dict(type='mmir.TwoStemBackbone', backbone=NETWORKS[network])
    model = fresh(cfg | dict(stem=PARTITIONS[network].stem))
    model.load_state_dict(net.state_dict())
    with torch.no_grad():
        last = model(images(), ['ir', 'rgb', 'ir'])[-1]
        expected = net(images())[-1]
    torch.testing.assert_close(last, expected)
    for p in (
        model.backbone.get_submodule(PARTITIONS[network].stem[0])
        .copies['ir']
        .parameters()
    ):
        p.data.add_(torch.randn(p.shape))
    with torch.no_grad():
        other = model(images(), ['ir', 'rgb', 'ir'])[-1]
    changed = (other - last).flatten(1).norm(dim=1) > 1e-3 * last.norm()
    assert changed.tolist() == [True, False, True]


def test_paths_are_their_own_up_to_block_4() -> None:
    model = dual()
    end = PARTITIONS[TINY].paths[-1]
    weights = [*model.backbone.get_submodule(end).copies['ir'].parameters()]
    names = ['ir', 'rgb', 'ir']
    with torch.no_grad():
        before = model(images(), names)
        for p in weights:
            p.add_(torch.randn(p.shape))
        after = model(images(), names)
    for one, two in zip(before, after, strict=True):
        changed = (one - two).flatten(1).norm(dim=1) > 1e-5 * one.norm()
        assert changed.tolist() == [True, False, True]


def test_copies_run_on_their_own_and_keep_no_maps() -> None:
    model = dual()
    expected = model(images(), ['rgb'] * 3)
    twin = copy.deepcopy(model)
    for one, two in zip(expected, twin(images(), ['rgb'] * 3), strict=True):
        assert torch.equal(one, two)
    assert twin.backbone.get_submodule(twin._end).kept is None


def test_every_parameter_has_a_gradient() -> None:
    model = dual().train()
    sum(x.square().sum() for x in model(images(), ['ir'] * 3)).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize('network', ['vit_base', 'swin_tiny'])
def test_transformers_have_no_dual_path_form(network: str) -> None:
    with pytest.raises(UserError, match='mobilenetv3_large'):
        dual(network)


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match='choose one of'):
        partition_of('mobilenetv4')
    cfg = dict(type='mmir.DualPathBackbone', backbone=NETWORKS[TINY])
    with pytest.raises(UserError, match='no modules'):
        fresh(cfg | dict(network='shufflenetv2_1.0x'))


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_two_stems_refuse_a_checkpoint_of_two_paths(prefix: str) -> None:
    cfg = dict(type='mmir.TwoStemBackbone', backbone=NETWORKS[TINY])
    model = fresh(cfg | dict(stem=PARTITIONS[TINY].stem))
    state = {prefix + key: value for key, value in dual().state_dict().items()}
    with pytest.raises(UserError, match=r'uniform_soup\.py'):
        model.load_state_dict(state)
    model.load_state_dict(dual().soup()[0].state_dict())
    dual().load_state_dict(dual(seed=1).state_dict())


def test_paths_begin_alike_and_keep_what_is_loaded(tmp_path: Path) -> None:
    model = dual()
    model.init_weights()
    _, report = model.soup()
    assert report.distance == 0
    for p in model.backbone.get_submodule('layer2').copies['ir'].parameters():
        p.data.add_(1)
    torch.save(model.state_dict(), tmp_path / 'x.pth')
    start = dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth'))
    cfg = dict(type='mmir.DualPathBackbone', backbone=NETWORKS[TINY], network=TINY)
    other = fresh(cfg | dict(init_cfg=start))
    other.init_weights()
    for key, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)
